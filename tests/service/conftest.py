"""The tests of the service run twice: on SQLite and a folder as broker, and on Postgres and Valkey. Only settings differ."""

from collections.abc import Iterator

import pytest

from tests.conftest import Service, cluster

RUNS_IN_S3 = False
"""Where run folders of the second kind go; True once the trainer writes to S3."""
ALSO_ON_POSTGRES = (
    "test_an_undisturbed_run_takes_one_attempt_and_tells_everything",
    "test_kill_9_of_the_celery_worker_costs_nothing",
    "test_a_cancelled_run_stops_and_keeps_what_it_made",
    "test_a_run_waits_while_another_holds_the_machine",
    "test_a_limit_pauses_the_run_with_its_cause",
    "test_prometheus_sees_runs_and_requests",
)


@pytest.fixture(scope="session", params=["embedded", "cluster"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all tests that do not mistreat it beyond what it must survive."""
    settings = {} if request.param == "embedded" else cluster(request.getfixturevalue("stack"), "service", RUNS_IN_S3)
    running = Service(tmp_path_factory.mktemp(request.param), settings)
    yield running
    if running.process.poll() is None:
        assert running.stop() == 0


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Nothing in a trainer depends on the service's database: most of what trains long is long on Postgres."""
    for item in items:
        name, _, which = item.name.partition("[")
        if item.path.name == "test_runs.py" and which.startswith("cluster") and name not in ALSO_ON_POSTGRES:
            item.add_marker("long")
