"""What the images promise, whichever chart or manifest starts them."""

import json
from datetime import datetime
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.objects import RESTRICTED
from tests.conftest import until

SCRATCH: dict[str, Any] = {"volumes": [{"name": "scratch", "emptyDir": {}}], "mounts": [{"name": "scratch", "mountPath": "/tmp"}]}


def pod(cluster: Cluster, namespace: str, name: str, image: str, *command: str, **container: Any) -> None:
    """One that may write to /tmp and nowhere else, and runs `command` by the image's own entrypoint."""
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "volumes": SCRATCH["volumes"],
        "containers": [
            {
                "name": "it",
                "image": image,
                "imagePullPolicy": cluster.images.pull_policy,
                "args": list(command),
                "securityContext": RESTRICTED,
                "volumeMounts": SCRATCH["mounts"],
                **container,
            }
        ],
    }
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec})


def ended(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    """How the pod's container ended, once it did."""

    def state() -> dict[str, Any] | None:
        statuses = cluster.get("-n", namespace, "pod", name)["status"].get("containerStatuses", [{}])
        return statuses[0].get("state", {}).get("terminated")

    return until(state, f"{name} to end", pause=0.25)


@pytest.mark.parametrize("part", ["service", "trainer"])
def test_an_image_says_what_it_is_made_of(cluster: Cluster, namespace: str, part: str) -> None:
    pod(cluster, namespace, part, getattr(cluster.images, part), "cat", "sbom.json")
    assert ended(cluster, namespace, part)["exitCode"] == 0
    document = json.loads(cluster.kubectl("-n", namespace, "logs", part))
    names = {component["name"] for component in document["components"]}
    assert document["metadata"]["component"]["name"] == f"dayrun-{part}"
    assert ("torch" in names, "fastapi" in names) == ((True, False) if part == "trainer" else (False, True))
    assert {"libc6", "tini"} <= names


@pytest.mark.parametrize("part", ["service", "trainer"])
def test_nothing_of_the_build_stays_in_an_image(cluster: Cluster, namespace: str, part: str) -> None:
    """No installer, no address of a package index, no certificate that only the builder trusts."""
    found = r"find / -xdev -regex '.*/\(bin/uv\|pip.conf\|uv.toml\|secrets/ca\|secrets/index\)' 2>/dev/null; env"
    pod(cluster, namespace, part, getattr(cluster.images, part), "sh", "-c", found)
    assert ended(cluster, namespace, part)["exitCode"] == 0
    lines = cluster.kubectl("-n", namespace, "logs", part).splitlines()
    assert [line for line in lines if line.startswith("/") or "INDEX" in line] == []


def test_the_service_starts_without_writing_and_stops_when_told(cluster: Cluster, namespace: str, record_testsuite_property: Any) -> None:
    """On a root file system that nobody can write to, as a user that is nobody, with one process that hears signals."""
    start = "export DAYRUN_HOME=/tmp/home; python -m service.migrate && exec python -m service.api"
    ready = {"readinessProbe": {"httpGet": {"path": "/healthz", "port": 8765}, "periodSeconds": 1}}
    pod(cluster, namespace, "api", cluster.images.service, "sh", "-c", start, **ready)
    cluster.kubectl("-n", namespace, "wait", "pod/api", "--for=condition=Ready", "--timeout=120s")
    record_testsuite_property("seconds_to_ready", seconds_to_ready(cluster.get("-n", namespace, "pod", "api")))
    assert cluster.kubectl("-n", namespace, "exec", "api", "--", "id", "-u").strip() == "10001"
    cluster.kubectl("-n", namespace, "exec", "api", "--", "python", "health.py")
    cluster.kubectl("-n", namespace, "exec", "api", "--", "sh", "-c", "kill -TERM 1")
    assert ended(cluster, namespace, "api")["exitCode"] in (0, 143)  # uvicorn ends as whoever was told to


def seconds_to_ready(api: dict[str, Any]) -> float:
    """From the start of the container, migrations included, in whole seconds: the API server keeps no more."""
    started = api["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
    ready = next(one["lastTransitionTime"] for one in api["status"]["conditions"] if one["type"] == "Ready")
    return (datetime.fromisoformat(ready) - datetime.fromisoformat(started)).total_seconds()
