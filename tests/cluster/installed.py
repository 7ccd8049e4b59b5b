"""dayrun installed by its chart, as a person would: values, helm, a first key; and what tests ask of it."""

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dayrun.client import Client, Run
from tests.cluster.cluster import Cluster
from tests.conftest import ROOT, until

CHART = ROOT / "helm" / "dayrun"
RELEASE = "dayrun"
PATIENCE_SECONDS = 300.0
OURS = {"runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001}
CPU: dict[str, Any] = {
    "resource": "",
    "processes_per_node": 2,
    "cpu_per_process": "200m",
    "memory_per_process": "2Gi",
    "shared_memory_per_process": "256Mi",
}
NARROW = {
    **CPU,
    "memory_per_process": "150Mi",
    "shared_memory_per_process": "16Mi",
    "node_selector": {"nvidia.com/gpu.product": None},  # helm takes away what the chart's own values say
    "tolerations": [],
}
"""Too little memory to train anything: what recipes call `h100` here."""
SIMULATED: dict[str, Any] = {
    "resource": "nvidia.com/gpu",
    "processes_per_node": 8,
    "cpu_per_process": "1",
    "memory_per_process": "1Gi",
    "shared_memory_per_process": "64Mi",
    "node_selector": {"nvidia.com/gpu.product": "NVIDIA-H200"},
    "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists", "effect": "NoSchedule"}],
    "block_label": "dayrun.dev/block",
}


def values(cluster: Cluster, claim: str | None) -> dict[str, Any]:
    """The chart's `evaluation` values with the images of the tests, and all three stores from one of them."""
    images = cluster.images

    def image(name: str) -> dict[str, str]:
        repository, _, tag = name.rpartition(":")
        return {"repository": repository, "tag": tag}

    part = {"image": images.parts, "securityContext": OURS}
    volumes = [{"claim": claim, "path": "/data", "read_only": True}] if claim else []
    return {
        "image": {"pullPolicy": images.pull_policy, "service": image(images.service), "trainer": image(images.trainer)},
        "postgres": {"enabled": True, "persistence": {"enabled": False}, **part},
        "valkey": {"enabled": True, **part},
        "seaweedfs": {"enabled": True, "persistence": {"enabled": False}, **part},
        "api": {"replicas": 1, **reached(cluster), "resources": {"requests": {"cpu": "50m"}}},
        "worker": {"replicas": 1, "resources": {"requests": {"cpu": "50m"}}},
        "settings": {"stop_seconds": 20, "sweep_seconds": 1},
        "cluster": {
            "profile": {"hardware": {"h100": NARROW, "cpu": CPU, "h200": SIMULATED}, "volumes": volumes, "pull_patience_seconds": 5}
        },
    }


def reached(cluster: Cluster) -> dict[str, Any]:
    """By a port of the node where it is ours: a forwarded port ends with the API server, and with the pod that it leads to."""
    return {"service": {"type": "NodePort"}} if cluster.ours else {}


class Installation:
    def __init__(self, cluster: Cluster, namespace: str, given: dict[str, Any]) -> None:
        self.cluster, self.namespace, self.values = cluster, namespace, given

    def upgrade(self, *options: str, **more: Any) -> None:
        """`helm upgrade --install --wait` with the values of the tests, and `more` over them."""
        merged = json.dumps({**self.values, **more})
        command = ["helm", "upgrade", "--install", RELEASE, str(CHART), "--namespace", self.namespace, "--wait", "--timeout", "5m"]
        done = subprocess.run([*command, "-f", "-", *options], input=merged, env=self.cluster.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{done.stderr}\n{self.cluster.evidence(self.namespace)}"

    def kubectl(self, *arguments: str, stdin: str | bytes | None = None) -> str:
        return self.cluster.kubectl("-n", self.namespace, *arguments, stdin=stdin)

    def get(self, *arguments: str) -> Any:
        return self.cluster.get("-n", self.namespace, *arguments)

    def first_key(self) -> str:
        said = self.kubectl(
            "exec", f"deploy/{RELEASE}-api", "-c", "api", "--", "dayrun", "keys", "create", "tests", "--bootstrap", "--force"
        )
        return next(word for word in said.split() if word.startswith("dayrun_"))

    @contextmanager
    def client(self, key: str) -> Iterator[Client]:
        if self.cluster.ours:
            port = self.get("service", RELEASE)["spec"]["ports"][0]["nodePort"]
            address = self.get("node", "node1")["status"]["addresses"][0]["address"]
            yield Client(f"http://{address}:{port}", key=key)
            return
        with self.cluster.reach(self.namespace, f"svc/{RELEASE}", 80) as port:
            yield Client(f"http://127.0.0.1:{port}", key=key)

    def jobs(self, run: Run) -> list[dict[str, Any]]:
        """Every PyTorchJob that there is for a run."""
        return self.get("pytorchjobs", "-l", f"dayrun.dev/run={run.id.replace('_', '-')}")["items"]

    def pods(self, run: Run, attempt: int) -> list[dict[str, Any]]:
        return self.get("pods", "-l", f"dayrun.dev/run={run.id.replace('_', '-')},dayrun.dev/attempt={attempt}")["items"]


def put_data(cluster: Cluster, namespace: str, folders: dict[str, Path]) -> str:
    """A claim that holds each folder under its name, filled through a pod, as it would be on any cluster."""
    claim = "dayrun-data"
    if cluster.ours:  # a cluster of one real node has no provisioner
        path = f"/var/tmp/{namespace}"
        spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"], "persistentVolumeReclaimPolicy": "Delete"}
        spec |= {"hostPath": {"path": path, "type": "DirectoryOrCreate"}, "claimRef": {"namespace": namespace, "name": claim}}
        cluster.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": namespace}, "spec": spec})
    wanted = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    if cluster.ours:
        wanted |= {"storageClassName": "", "volumeName": namespace}
    metadata = {"name": claim, "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": wanted})
    container = {
        "name": "filler",
        "image": cluster.images.parts,
        "imagePullPolicy": cluster.images.pull_policy,
        "command": ["sleep", "600"],
        "securityContext": {"runAsUser": 0},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "filler", "namespace": namespace}}
    cluster.apply({**pod, "spec": {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 0}})
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/filler", "--timeout=120s")
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, folder in folders.items():
            archive.add(folder, name)
    unpack = ("exec", "-i", "filler", "--", "tar", "-C", "/data", "--no-same-owner", "-xf", "-")
    cluster.kubectl("-n", namespace, *unpack, stdin=content.getvalue())
    cluster.kubectl("-n", namespace, "delete", "pod", "filler", "--wait=false")
    return claim


def until_run(client: Client, run: Run, suits: Any, what: str, patience: float = PATIENCE_SECONDS) -> Run:
    """The run once `suits` holds of it; what it was instead, when it never did."""
    last: list[Run] = []

    def look() -> Run | None:
        last[:] = [client.run(run.id)]
        return last[0] if suits(last[0]) else None

    try:
        return until(look, f"{run.id} to {what}", patience, pause=0.5)
    except AssertionError as error:
        raise AssertionError(f"{error}: {last}\n{list(client.events(run.id))}") from None
