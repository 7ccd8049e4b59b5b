"""The tests of the service run twice: on SQLite and a folder as broker, and on Postgres and Valkey. Only settings differ."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Service, cluster

RUNS_IN_S3 = False
"""Where run folders of the second kind go; True once the trainer writes to S3."""


@pytest.fixture(scope="session", params=["embedded", "cluster"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all tests that do not mistreat it beyond what it must survive."""
    settings = {} if request.param == "embedded" else cluster(request.getfixturevalue("stack"), "service", RUNS_IN_S3)
    running = Service(tmp_path_factory.mktemp(request.param), settings)
    yield running
    if running.process.poll() is None:
        assert running.stop() == 0


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """What trains long is long on Postgres: nothing in a trainer depends on the service's database."""
    for item in items:
        if item.get_closest_marker("trains") and "cluster" in getattr(item, "callspec", item).__dict__.get("id", ""):
            item.add_marker("long")
