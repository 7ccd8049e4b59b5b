"""What is left of the service when the database, the broker or the store of run folders is away, and that it comes back by itself."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from service.hints import MOST, Hints
from service.settings import Settings
from service.stack import Stack
from tests.conftest import cluster, until
from tests.parts.conftest import Plane, Process
from tests.parts.test_exactly_once import BODY, submit


@pytest.fixture(scope="module")
def own(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Parts that these tests may stop: other tests need theirs."""
    with Stack(stack.folder / "own") as parts:
        yield parts


@pytest.fixture
def plane(own: Stack, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Plane]:
    settings = cluster(own, request.node.name[:60], runs_in_s3="store" in request.node.name)
    made = Plane(tmp_path, settings | own.s3.environment)
    yield made
    for part in own.parts:
        if part.process is None:
            part.start()
    made.close()


def ready(api: Process) -> bool:
    answer = api.get("/readyz")
    return answer is not None and answer.status_code == 200


def asked_to_wait(answer: httpx.Response, kind: str) -> None:
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"urn:dayrun:problem:{kind}"


def test_without_the_database_requests_wait_and_nothing_accepted_is_lost(plane: Plane, own: Stack):
    api, worker = plane.api(), plane.start("worker")
    until(lambda: ready(api), "the service to be ready")
    before = submit([api], "before")
    own.postgres.kill()
    asked_to_wait(api.get("/runs"), "database-away")
    asked_to_wait(api.get(f"/runs/{before}"), "database-away")
    asked_to_wait(httpx.post(f"{api.url}/runs", json=BODY, headers={"Idempotency-Key": "during"}), "database-away")
    assert api.get("/healthz").status_code == 200
    assert not ready(api)
    own.postgres.start()
    assert api.get(f"/runs/{before}").json()["id"] == before  # the first request is answered: no dead connection is left in the pool
    during = submit([api], "during")
    plane.until_all_succeeded(api, {before, during})
    until(lambda: ready(api), "the service to be ready again")
    assert worker.process.poll() is None
    assert plane.launched() == {f"{before} 1": 1, f"{during} 1": 1}


def test_a_request_that_finds_no_free_connection_is_asked_to_wait(plane: Plane):
    few = {"DAYRUN_DATABASE_CONNECTIONS": "1", "DAYRUN_DATABASE_MORE_CONNECTIONS": "0", "DAYRUN_DATABASE_WAIT_SECONDS": "0.3"}
    api = plane.api(**few)
    run_id = submit([api], "a")
    answers: list[httpx.Response] = []
    with psycopg.connect(plane.settings["DAYRUN_DATABASE"]) as holder:
        holder.execute("SELECT 1 FROM runs WHERE id = %s FOR UPDATE", [run_id])
        waiting = threading.Thread(target=lambda: answers.append(httpx.post(f"{api.url}/runs/{run_id}:cancel", timeout=60)))
        waiting.start()
        held = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        with psycopg.connect(plane.settings["DAYRUN_DATABASE"], autocommit=True) as looker:
            until(lambda: looker.execute(held).fetchone() == (1,), "the cancellation to hold the only connection")
        asked_to_wait(api.get("/runs"), "database-away")
    waiting.join()
    assert answers[0].status_code == 202
    assert api.get("/runs").status_code == 200


def test_without_the_broker_runs_are_accepted_and_swept(plane: Plane, own: Stack):
    api, worker = plane.api(), plane.start("worker")
    until(lambda: ready(api), "the service to be ready")
    own.valkey.kill()
    runs = {submit([api], f"key-{i}") for i in range(5)}
    said = api.get("/readyz")
    assert said.status_code == 200
    assert said.json()["broker"].startswith("away: ")
    plane.until_all_succeeded(api, runs)
    own.valkey.start()
    until(lambda: api.get("/readyz").json()["broker"] == "ok", "the broker to be seen again")
    assert worker.process.poll() is None
    # the hints flow again, through the same processes: without the outbox and the sweep nothing else would take this run up
    with psycopg.connect(plane.settings["DAYRUN_DATABASE"], autocommit=True) as connection:
        connection.execute("UPDATE heartbeats SET time = '2100-01-01' WHERE part IN ('turn:sweep', 'turn:outbox')")
        until(lambda: hinted(plane, submit([api], "after")), "a hint to reach the worker")


def hinted(plane: Plane, run_id: str) -> bool:
    return f"{run_id} 1" in plane.launched()


def test_without_the_store_states_can_be_read_and_folders_can_not(plane: Plane, own: Stack):
    api = plane.api()
    plane.start("worker")
    until(lambda: ready(api), "the service to be ready")
    own.s3.kill()
    run_id = submit([api], "a")
    assert api.get(f"/runs/{run_id}").status_code == 200
    asked_to_wait(api.get(f"/runs/{run_id}/checkpoints"), "store-away")
    said = api.get("/readyz")
    assert said.status_code == 200
    assert said.json()["objects"] != "ok"
    assert api.get(f"/runs/{run_id}").json()["state"] == "queued"  # its recipe could not be put where the trainer looks for it
    assert httpx.post(f"{api.url}/runs/{run_id}:cancel").status_code == 202
    own.s3.start()
    assert api.get(f"/runs/{run_id}/checkpoints").json() == {"items": []}


def test_a_broker_that_takes_connections_and_says_nothing_holds_up_no_request(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        broker = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        threads = threading.active_count()
        hints = Hints(Settings(home=tmp_path, broker=broker, broker_wait_seconds=0.2))
        for number in range(3 * MOST):
            hints.put(f"run_{number}")
        assert threading.active_count() <= threads + 1
        assert len(hints) <= MOST
        hints.close()
