"""The cluster of the session, and a namespace for each test that wants one. `make test-cluster` runs these tests and no others."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from dayrun.client import Client
from tests.cluster.cluster import Cluster, boot_environment
from tests.cluster.installed import Installation, put_data, values

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--keep-cluster", action="store_true", help="leave the cluster that the tests booted, for the next time or to look into"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    own = boot_environment()["KUBECONFIG"]
    if os.environ.get("KUBECONFIG", own) != own:
        yield Cluster.named()
        return
    ran = Path(own).exists()
    booted = Cluster.booted()
    yield booted
    if not ran and not request.config.getoption("--keep-cluster", default=False):
        booted.end()


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A new one; all in it goes with it. The operator's init container keeps it from admitting the restricted standard alone."""
    name = f"dayrun-test-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "baseline", "app.kubernetes.io/part-of": "dayrun-tests"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def dayrun(cluster: Cluster, tiny_data: Path) -> Iterator[Installation]:
    """dayrun in the cluster, with all three stores beside it and the tests' data in a claim. Who changes its values puts them back."""
    name = f"dayrun-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "baseline", "app.kubernetes.io/part-of": "dayrun-tests"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    installed = Installation(cluster, name, values(cluster, put_data(cluster, name, tiny_data, "tiny")))
    installed.upgrade()
    yield installed
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def key(dayrun: Installation) -> str:
    return dayrun.first_key()


@pytest.fixture
def client(dayrun: Installation, key: str) -> Iterator[Client]:
    with dayrun.client(key) as client:
        yield client
