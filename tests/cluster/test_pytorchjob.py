"""The training operator, torchrun and the trainer's image work together, before anything of ours renders or launches."""

import base64
import json
from pathlib import Path
from typing import Any

from dayrun.objects import Prefix
from dayrun.run_folder import RunFolder
from tests.cluster.cluster import Cluster
from tests.cluster.objects import BUCKET, CREDENTIALS, RESTRICTED, looking_into, store
from tests.tiny import tiny_recipe

STEPS = 40


def test_pytorchjob_trains(cluster: Cluster, namespace: str, tiny_data: Path) -> None:
    """A master and a worker run real torchrun from the trainer's image and write one run folder to the object store."""
    variables = store(cluster, namespace)
    out = f"s3://{BUCKET}/runs/by-hand"
    recipe = tiny_recipe("tiny", steps=STEPS, processes=1)
    recipe["hardware"] |= {"nodes": 2}
    cluster.apply(configuration(namespace, recipe, tiny_data), job(cluster, namespace, out))
    cluster.until_job(namespace, "by-hand", "Succeeded")
    with looking_into(cluster, namespace, variables) as bucket:
        folder = RunFolder(Prefix(f"{bucket}/runs/by-hand"))
        assert folder.checkpoints()[-1] == STEPS
        assert folder.log_ranks(attempt=1) == ["0", "1"]


def configuration(namespace: str, recipe: dict[str, Any], data: Path) -> dict[str, Any]:
    """The recipe and the data, which are small enough."""
    shards = {path.name: base64.b64encode(path.read_bytes()).decode() for path in data.iterdir() if path.is_file()}
    metadata = {"name": "by-hand", "namespace": namespace}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": {"recipe.json": json.dumps(recipe)},
        "binaryData": shards,
    }


def job(cluster: Cluster, namespace: str, out: str) -> dict[str, Any]:
    torchrun = ["python", "-m", "torch.distributed.run", "--max-restarts=0"]
    container = {
        "name": "pytorch",
        "image": cluster.images.trainer,
        "imagePullPolicy": cluster.images.pull_policy,
        "args": [*torchrun, "-m", "trainer", "/etc/dayrun/recipe.json", "--out", out, "--attempt", "1"],
        "env": [{"name": "DAYRUN_DATA", "value": "/data"}],
        "envFrom": [{"secretRef": {"name": CREDENTIALS}}],
        "securityContext": RESTRICTED,
        "volumeMounts": [
            {"name": "recipe", "mountPath": "/etc/dayrun"},
            {"name": "data", "mountPath": "/data/tiny"},
            {"name": "scratch", "mountPath": "/tmp"},
            {"name": "memory", "mountPath": "/dev/shm"},
        ],
    }
    volumes = [
        {"name": "recipe", "configMap": {"name": "by-hand", "items": [{"key": "recipe.json", "path": "recipe.json"}]}},
        {"name": "data", "configMap": {"name": "by-hand"}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
    ]
    # the operator's init container has no security context of its own: what the pod says holds for it too
    pod = {key: RESTRICTED[key] for key in ("runAsNonRoot", "runAsUser", "seccompProfile")}
    template = {"spec": {"containers": [container], "volumes": volumes, "securityContext": pod, "automountServiceAccountToken": False}}
    replica = {"replicas": 1, "restartPolicy": "Never", "template": template}
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {"name": "by-hand", "namespace": namespace},
        "spec": {"nprocPerNode": "1", "pytorchReplicaSpecs": {"Master": replica, "Worker": replica}},
    }
