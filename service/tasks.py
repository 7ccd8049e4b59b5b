"""Celery: hints to look at a run. Any of them may be lost, doubled or late; the rows decide, and the chores look at everything anyway.

What must happen without a broker (the sweep above all) is no task but a chore of each worker (`chores.py`).
"""

import asyncio
import logging
import threading
from collections.abc import Coroutine
from functools import cache
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from dayrun import tracing
from service import retention
from service.broker import TRACE, make_celery
from service.chores import Chore, Turn, keep_doing
from service.database import Database, now
from service.jobs.reconcile import JobReconciler
from service.launchers.chosen import launcher_of, programs_of
from service.runs import repository
from service.runs.reconcile import Reconciler
from service.runs.tables import WORKER
from service.settings import Settings
from service.webhooks.courier import Courier

log = logging.getLogger("dayrun")


settings = Settings()
app = make_celery(settings)


class Worker:
    """What the tasks and chores of one worker process share: one event loop in a thread, one database, one reconciler."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="tasks", daemon=True).start()
        self.database = Database(settings)
        self.reconciler = Reconciler(settings, self.database, launcher_of(settings))
        self._chores: list[asyncio.Task[None]] = []
        self.courier = Courier(settings, self.database)
        self.jobs = JobReconciler(settings, self.database, programs_of(settings))
        self._older_events = True  # there may be some that an older service wrote

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result()

    async def begin_chores(self) -> None:
        for chore in self.chores():
            self._chores.append(asyncio.create_task(keep_doing(self.database, chore)))

    async def end_chores(self) -> None:
        """A look that is under way is broken off, and frees its run."""
        for task in self._chores:
            task.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)

    def chores(self) -> list[Chore]:
        """Everything that is done again and again."""
        return [
            Chore("sweep", settings.sweep_seconds, self.sweep, note=repository.swept),
            Chore("outbox", settings.sweep_seconds, self.drain),
            Chore("jobs", settings.sweep_seconds, self.sweep_jobs),
            Chore("forget", 3600.0, self.forget),
        ]

    async def look(self, id: str) -> None:
        """What a hint asks for: a look at a run or at a job."""
        await (self.look_at_run(id) if id.startswith("run_") else self.jobs.look(id))

    async def look_at_run(self, run_id: str) -> None:
        """The rows of the outbox that a hint answers go once the run was looked at, not before."""
        async with self.database.read() as session:
            due = (await repository.outbox(session, run_id)).get(run_id, [])
        if await self.reconciler.look(run_id) and due:
            async with self.database.write() as session:
                await repository.clear_outbox(session, due)

    async def drain(self, turn: Turn) -> None:
        """Look at runs whose hints were lost, or are still on their way."""
        async with self.database.read() as session:
            due = await repository.outbox(session)
        for run_id, rows in due.items():
            await turn.renew()
            if await self.reconciler.look(run_id):
                async with self.database.write() as session:
                    await repository.clear_outbox(session, rows)

    async def sweep(self, turn: Turn) -> None:
        """Look at the queue and at every run that holds machines: what makes lost hints harmless."""
        async with self.database.write() as session:
            await repository.beat(session, WORKER)

        async def go_on() -> None:
            if await turn.renew():
                async with self.database.write() as session:
                    await repository.beat(session, WORKER)

        self.courier.nudge()
        if self._older_events:
            self._older_events = await retention.chain_what_is_left(self.database) > 0
        await self.reconciler.sweep(go_on)

    async def sweep_jobs(self, _turn: Turn) -> None:
        """Look at every draw and export that is not over."""
        await self.jobs.sweep()

    async def forget(self, _turn: Turn) -> None:
        self._older_events = True
        await self.reconciler.forget_old()
        await retention.forget(self.database, settings, now())


@cache
def worker() -> Worker:
    return Worker()


@app.task(name="look", bind=True)
def look(self: Any, id: str) -> None:
    headers: dict[str, str] = self.request.headers or {}
    trace = headers.get(TRACE)
    with tracing.span("look", trace, {"dayrun.id": id}, kind="consumer"):
        try:
            worker().run(worker().look(id))
        except SQLAlchemyError as error:
            log.warning("a hint for %s is dropped, the database is away: %s", id, type(error).__name__)
