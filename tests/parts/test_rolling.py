"""A rolling restart under load with a migration in between. A client that tries once more, elsewhere, notices nothing."""

import itertools
import signal
import threading

import httpx
import psycopg
import pytest

from tests.conftest import until
from tests.parts.conftest import Plane, Process
from tests.parts.test_exactly_once import BODY

EXPANSION = """
ALTER TABLE runs ADD COLUMN of_a_later_version text;
ALTER TABLE events ADD COLUMN of_a_later_version integer NOT NULL DEFAULT 0;
CREATE TABLE of_a_later_version (id text PRIMARY KEY);
UPDATE alembic_version SET version_num = 'later';
"""
"""What a migration of a later version may do while this one serves: it only adds."""


class Client:
    """Posts and reads without pause; a request that fails is tried once more, on the other process."""

    def __init__(self, apis: list[Process], number: int) -> None:
        self.apis, self.number, self.accepted, self.retried = apis, number, list[str](), 0
        self.unmended: list[str] = []
        self.enough = threading.Event()
        self.thread = threading.Thread(target=self._work)
        self.thread.start()

    def _work(self) -> None:
        for count in itertools.count():
            if self.enough.is_set():
                return
            answer = self._twice("POST", "/runs", f"{self.number}-{count}")
            if answer is not None and answer.status_code == 201:
                self.accepted.append(answer.json()["id"])
                self._twice("GET", f"/runs/{self.accepted[-1]}", None)

    def _twice(self, method: str, path: str, key: str | None) -> httpx.Response | None:
        headers, body = ({"Idempotency-Key": key}, BODY) if key else ({}, None)
        said = ""
        for api in (self.apis[self.number % 2], self.apis[1 - self.number % 2]):
            try:
                while (answer := httpx.request(method, api.url + path, json=body, headers=headers, timeout=60)).status_code == 409:
                    pass  # the first one is still in flight: it says so, and says when to ask again
            except httpx.TransportError as error:
                said, self.retried = repr(error), self.retried + 1
                continue
            if answer.status_code < 500:
                return answer
            said, self.retried = answer.text, self.retried + 1
        self.unmended.append(f"{method} {path}: {said}")
        return None


@pytest.mark.long
def test_a_rolling_restart_with_a_migration_loses_and_doubles_nothing(plane: Plane):
    apis, workers = [plane.api(), plane.api()], [plane.start("worker"), plane.start("worker")]
    clients = [Client(apis, number) for number in range(4)]

    def more_are_accepted(than: int) -> None:
        until(lambda: sum(len(client.accepted) for client in clients) > than + 20, "more runs to be accepted")

    def go_on() -> None:
        more_are_accepted(sum(len(client.accepted) for client in clients))

    try:
        go_on()
        with psycopg.connect(plane.settings["DAYRUN_DATABASE"]) as connection:
            connection.execute(EXPANSION)
        go_on()  # the old processes serve on beside the new tables
        for process in [*apis, *workers]:
            assert process.stop() in (0, -signal.SIGTERM)  # uvicorn ends as the signal says, once it has drained
            process.start()
            if process.kind == "api":
                process.until_it_answers()
            go_on()
    finally:
        for client in clients:
            client.enough.set()
        for client in clients:
            client.thread.join()
    assert [said for client in clients for said in client.unmended] == []
    runs = {run for client in clients for run in client.accepted}
    assert len(runs) == sum(len(client.accepted) for client in clients)
    until(lambda: runs <= {line.split()[0] for line in plane.launched()}, f"{len(runs)} runs to be launched")
    assert set(plane.launched().values()) == {1}
    assert {line.split()[0] for line in plane.launched()} == runs
