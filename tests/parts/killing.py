"""`python -m tests.parts.killing submission|launch`: kill a process at every point where it touches the database or the launcher, in turn.

A parent that has imported everything forks a child for each point, so that a death costs milliseconds. The points are found from outside,
by SQLAlchemy's events and Python's audit hooks: the product has no hook for it. Prints what is left, as JSON.
"""

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

import httpx
from fastapi import FastAPI
from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from service.app import create_app
from service.database import Database
from service.launchers import Order
from service.revisions import bring_up_to_date
from service.runs import repository
from service.runs.reconcile import Reconciler
from service.runs.states import ACTIVE
from service.settings import Settings
from tests.parts.quick import QuickLauncher
from tests.tiny import tiny_recipe

TOUCHES = ("open", "os.rename", "os.mkdir", "subprocess.Popen")
"""What a launcher does to the world, as Python's audit hooks name it."""


class Death:
    """At the `at`-th point this process dies as if by kill -9; 0: never."""

    def __init__(self, at: int) -> None:
        self._at, self._passed, self._launching = at, 0, threading.local()
        event.listen(Engine, "before_cursor_execute", self.point)
        event.listen(Engine, "after_cursor_execute", self.point)
        event.listen(Engine, "commit", self.point)
        event.listen(Session, "after_commit", self.point)

    def point(self, *_: Any) -> None:
        self._passed += 1
        if self._passed == self._at:
            os.kill(os.getpid(), signal.SIGKILL)

    def at_every_touch_of(self, launcher: QuickLauncher) -> None:
        launch = launcher.launch

        def counted(order: Order) -> None:
            self._launching.now = True
            launch(order)
            self._launching.now = False
            self.point()

        launcher.launch = counted
        sys.addaudithook(lambda name, _: self.point() if name in TOUCHES and getattr(self._launching, "now", False) else None)


def in_a_child(work: Callable[[], Coroutine[Any, Any, str]]) -> str | None:
    """What `work` returns in a process of its own; None when that died at its point."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.close(reader)
        try:
            os.write(writer, asyncio.run(work()).encode())
        except BaseException as error:
            os.write(writer, f"failed: {error!r}"[:3000].encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    assert not said.startswith("failed: "), said
    return None if os.WIFSIGNALED(status) else said


def whole_app(settings: Settings) -> FastAPI:
    """The app with all its routes made, which it leaves to the first request otherwise: a request of each child."""
    app = create_app(settings)
    app.openapi()
    return app


async def submit(app: FastAPI, key: str) -> str:
    """A client's request; waits while the first one with its key is in flight, or the database has cut us off."""
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
        body = {"recipe": tiny_recipe("/data", processes=1)}
        while (answer := await client.post("/runs", json=body, headers={"Idempotency-Key": key})).status_code in (409, 503):
            pass
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]


async def until_heard(work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Do it until the database does not cut us off: on a busy machine we may be the one that stalls past the lease, here half a second."""
    while True:
        with suppress(DBAPIError):
            await work()
            return


async def first_look(settings: Settings, run_id: str, death: Death) -> str:
    launcher = QuickLauncher(settings)
    death.at_every_touch_of(launcher)
    reconciler = Reconciler(settings, Database(settings), launcher)
    await until_heard(partial(reconciler.look, run_id))
    return "alive"


async def take_over(settings: Settings) -> str:
    """Another worker sweeps until every run is over."""
    database = Database(settings)
    reconciler = Reconciler(settings, database, QuickLauncher(settings))

    async def go_on() -> None: ...

    while True:
        await until_heard(partial(reconciler.sweep, go_on))
        async with database.read() as session:
            if not await repository.in_line(session, ACTIVE):
                return "done"
        await asyncio.sleep(0.05)  # the lease of a dead worker must run out


async def place(settings: Settings) -> str:
    await until_heard(Reconciler(settings, Database(settings), QuickLauncher(settings)).place)
    return "placed"


def kill_submissions(settings: Settings) -> int:
    """A submission that dies at each point in turn, and is sent again. Returns the number of deaths."""
    app, deaths = whole_app(settings), 0
    while True:

        async def dying(at: int = deaths + 1) -> str:
            Death(at)
            return await submit(app, f"key-{at}")

        died = in_a_child(dying) is None
        assert in_a_child(partial(submit, app, f"key-{deaths + 1}"))
        if not died:
            return deaths
        deaths += 1


def kill_launches(settings: Settings) -> int:
    """A worker that dies at each point of its first look at a run, in turn. Returns the number of deaths."""
    app, deaths = whole_app(settings), 0
    while True:
        at = deaths + 1
        run_id = in_a_child(partial(submit, app, f"key-{at}"))
        assert run_id

        async def dying(run_id: str = run_id, at: int = at) -> str:
            return await first_look(settings, run_id, Death(at))

        if in_a_child(dying) is not None:
            return deaths
        in_a_child(partial(place, settings))  # or the next look would begin this run too, and have ever more points
        deaths += 1


def main() -> None:
    settings = Settings()
    bring_up_to_date(settings, may_migrate=True)
    deaths = {"submission": kill_submissions, "launch": kill_launches}[sys.argv[1]](settings)
    in_a_child(partial(take_over, settings))

    async def runs() -> str:
        database = Database(settings)
        async with database.read() as session:
            rows = await repository.page(session, None, [], 10_000)
        return json.dumps({"deaths": deaths, "states": {row.id: [row.state, row.attempt] for row in rows}})

    print(in_a_child(runs))


if __name__ == "__main__":
    main()
