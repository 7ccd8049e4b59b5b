"""The tests of the service run twice: on SQLite with a folder as broker and for runs, and on Postgres, Valkey and S3."""

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from service.stack import Stack
from tests.conftest import Service, cluster
from tests.service.api import Api, settings_for

DATABASES = itertools.count(1)
ALSO_ON_CLUSTER_PARTS = (
    "test_an_undisturbed_run_takes_one_attempt_and_tells_everything",
    "test_many_runs_are_cancelled_by_one_request",
)


@pytest.fixture(scope="session", params=["embedded", "cluster"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all tests that do not mistreat it beyond what it must survive."""
    settings = (
        {} if request.param == "embedded" else cluster(request.getfixturevalue("stack"), f"service_{next(DATABASES)}", runs_in_s3=True)
    )
    running = Service(tmp_path_factory.mktemp(request.param), settings)
    yield running
    if running.process.poll() is None:
        assert running.stop() == 0


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def address(request: pytest.FixtureRequest) -> str | None:
    """Where a module's rows go: into the file of its home (None), or into a database of its own on Postgres."""
    return new_database(request.getfixturevalue("stack")) if request.param == "postgres" else None


def new_database(stack: Stack) -> str:
    return stack.postgres.create_database(f"tests-{next(DATABASES)}")


@pytest_asyncio.fixture(scope="module")
async def api(address: str | None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Api]:
    """One API for the tests of a module, on SQLite and on Postgres."""
    made = Api(settings_for(tmp_path_factory.mktemp("api"), address, webhook_networks="127.0.0.0/8"))
    yield made
    await made.close()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Nothing in a trainer depends on the service's database: most of what trains is long on the cluster's parts."""
    for item in items:
        name, _, which = item.name.partition("[")
        if which.startswith("cluster") and item.path.name != "test_http.py" and name not in ALSO_ON_CLUSTER_PARTS:
            item.add_marker("long")
