"""An S3 server in the cluster, for tests that install no chart: where run folders lie, and how this machine looks into them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dayrun.objects import Prefix
from tests.cluster.cluster import Cluster

BUCKET = "dayrun"
PORT = 8333
KEY, SECRET = "tests", "only-of-this-cluster"
CREDENTIALS = "store"
"""The Secret whose keys are the variables that a pod needs to reach the store."""

RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What the restricted standard for pods asks for, and a root file system that cannot be written."""


def store(cluster: Cluster, namespace: str) -> dict[str, str]:
    """Start the server, wait for it, and return the variables with which a pod of the cluster reaches it; CREDENTIALS holds them too."""
    variables = {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": f"http://s3.{namespace}.svc.cluster.local:{PORT}",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }
    identity = {"name": "dayrun", "credentials": [{"accessKey": KEY, "secretKey": SECRET}]}
    identities = {"identities": [identity | {"actions": ["Admin", "Read", "List", "Tagging", "Write"]}]}
    labels = {"app": "s3"}
    command = ["weed", "server", "-s3", f"-s3.port={PORT}", "-dir=/data", "-s3.config=/etc/s3/identities.json", "-s3.autoCreateBucket"]
    container = {
        "name": "s3",
        "image": cluster.images.parts,
        "imagePullPolicy": cluster.images.pull_policy,
        "args": [*command, "-volume.max=20", "-master.volumeSizeLimitMB=256", "-ip.bind=0.0.0.0"],
        "ports": [{"containerPort": PORT}],
        "readinessProbe": {"httpGet": {"path": "/status", "port": PORT}, "periodSeconds": 1},
        "securityContext": RESTRICTED,
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "scratch", "mountPath": "/tmp"},
            {"name": "identities", "mountPath": "/etc/s3"},
        ],
    }
    volumes: list[dict[str, Any]] = [
        {"name": "data", "emptyDir": {}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "identities", "secret": {"secretName": "s3-identities"}},
    ]
    spec = {"containers": [container], "volumes": volumes, "securityContext": {"fsGroup": 10001}, "automountServiceAccountToken": False}
    cluster.apply(
        _object("v1", "Secret", namespace, CREDENTIALS, stringData=variables),
        _object("v1", "Secret", namespace, "s3-identities", stringData={"identities.json": json.dumps(identities)}),
        _object("v1", "Service", namespace, "s3", spec={"selector": labels, "ports": [{"port": PORT}]}),
        _object(
            "apps/v1",
            "Deployment",
            namespace,
            "s3",
            spec={"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
        ),
    )
    cluster.kubectl("-n", namespace, "rollout", "status", "deployment/s3", "--timeout=120s")
    with looking_into(cluster, namespace, variables) as bucket:
        Prefix(bucket).put(".made", b"")  # the server makes a bucket for the first object in it, and lists none before
    return variables


@contextmanager
def looking_into(cluster: Cluster, namespace: str, variables: dict[str, str]) -> Iterator[str]:
    """The bucket's address, readable from this machine as long as the context lasts."""
    with cluster.reach(namespace, "svc/s3", PORT) as port, pytest.MonkeyPatch.context() as patched:
        for name, value in {**variables, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}.items():
            patched.setenv(name, value)
        yield f"s3://{BUCKET}"


def _object(version: str, kind: str, namespace: str, name: str, **content: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, **content}
