"""Celery: hints to look at a run. Any of them may be lost, doubled or late; the rows decide, and the chores look at everything anyway.

What must happen without a broker (the sweep above all) is no task but a chore of each worker (`chores.py`).
"""

import asyncio
import logging
import threading
from collections.abc import Coroutine
from functools import cache
from typing import Any

# Celery brings no types
from celery import Celery  # pyright: ignore[reportMissingTypeStubs]
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from service import queue, retention
from service.chores import Chore, Turn, keep_doing
from service.database import Database, now
from service.jobs.reconcile import JobReconciler
from service.launchers.chosen import launcher_of
from service.runs import repository
from service.runs.reconcile import Reconciler
from service.settings import Settings
from service.webhooks.courier import Courier

WORKER = "worker"
log = logging.getLogger("dayrun")


def make_celery(settings: Settings) -> Any:
    """The Celery app, on the broker of the settings or on a folder below the service's home."""
    app: Any = Celery("dayrun")
    app.conf.update(
        **(redis_broker(settings) if settings.broker else folder_broker(settings)),
        task_ignore_result=True,
        task_default_expires=30,  # a late hint is worth nothing: the sweep has been there
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a worker outlives its broker, however long that is away
    )
    return app


def folder_broker(settings: Settings) -> dict[str, Any]:
    folder = settings.queue_folder
    messages = folder / "messages"
    messages.mkdir(parents=True, exist_ok=True)
    options = {
        "data_folder_in": str(messages),
        "data_folder_out": str(messages),
        "control_folder": str(folder / "control"),
        "polling_interval": 0.05,
    }
    return {"broker_url": f"{queue.SCHEME}://localhost//", "broker_transport_options": options}


def redis_broker(settings: Settings) -> dict[str, Any]:
    """Redis or Valkey, through kombu."""
    wait = settings.broker_wait_seconds
    options = {
        "visibility_timeout": 60,  # a hint that a killed worker had taken comes again; by then it has expired, and is dropped
        "priority_steps": [0],  # one list a queue: hints have no priorities, and each step would be one more list to watch
        "socket_connect_timeout": wait,
        "socket_timeout": 5 + wait,  # above the seconds for which a worker's read waits for a hint
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0,
        "interval_max": 0,
        "connect_retries_timeout": wait,
    }
    return {"broker_url": settings.broker, "broker_connection_timeout": wait, "broker_transport_options": options}


def send_hint(app: Any, run_id: str) -> bool:
    """Ask a worker to look at a run now; False when the broker did not take it. Costs time only: the sweep comes anyway."""
    again = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}  # a connection that idled may be dead
    try:
        app.send_task("look", args=[run_id], ignore_result=True, retry=True, retry_policy=again)
    except (OperationalError, RedisError, OSError):
        return False
    return True


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
        self.jobs = JobReconciler(settings, self.database)
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
            Chore("sweep", settings.sweep_seconds, self.sweep),
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


@app.task(name="look")
def look(id: str) -> None:
    try:
        worker().run(worker().look(id))
    except SQLAlchemyError as error:
        log.warning("a hint for %s is dropped, the database is away: %s", id, type(error).__name__)
