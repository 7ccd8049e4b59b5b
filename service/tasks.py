"""Celery: hints to look at a run, and a sweep that looks at all of them. Any task may be lost, doubled or late; the rows decide."""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from functools import cache
from typing import Any

# Celery brings no types
from celery import Celery, signals  # pyright: ignore[reportMissingTypeStubs]
from celery.beat import EmbeddedService  # pyright: ignore
from kombu.exceptions import OperationalError

from service import queue, retention
from service.database import Database, now
from service.launchers.local import LocalLauncher
from service.runs import repository
from service.runs.reconcile import Reconciler
from service.settings import Settings
from service.webhooks.courier import Courier

WORKER = "worker"


def make_celery(settings: Settings) -> Any:
    """The Celery app on the filesystem broker below the service's home."""
    folder = settings.queue_folder
    messages = folder / "messages"
    messages.mkdir(parents=True, exist_ok=True)
    app: Any = Celery("dayrun")
    app.conf.update(
        broker_url=f"{queue.SCHEME}://localhost//",
        broker_transport_options={
            "data_folder_in": str(messages),
            "data_folder_out": str(messages),
            "control_folder": str(folder / "control"),
            "polling_interval": 0.05,
        },
        task_ignore_result=True,
        task_default_expires=30,  # a late hint is worth nothing: the sweep has been there
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        broker_connection_retry_on_startup=True,
        beat_schedule_filename=str(folder / "beat"),
        beat_max_loop_interval=settings.sweep_seconds,
        beat_schedule={
            "sweep": {"task": "sweep", "schedule": settings.sweep_seconds, "options": {"expires": settings.sweep_seconds}},
            "forget": {"task": "forget", "schedule": 3600.0},
        },
    )
    return app


def send_hint(app: Any, run_id: str) -> None:
    """Ask a worker to look at a run now. A broker that is down costs time only: the sweep comes anyway."""
    with suppress(OperationalError, OSError):
        app.send_task("look", args=[run_id], ignore_result=True)


settings = Settings()
app = make_celery(settings)


class Worker:
    """What the tasks of one worker process share: one event loop in a thread, one database, one reconciler."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="tasks", daemon=True).start()
        self.database = Database(settings)
        self.reconciler = Reconciler(settings, self.database, LocalLauncher(settings))
        self.courier = Courier(settings, self.database)
        self._older_events = True  # there may be some that an older service wrote

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self.loop).result()

    async def sweep(self) -> None:
        """Look at every active run: what makes lost hints harmless."""
        async with self.database.write() as session:
            await repository.beat(session, WORKER)
            await repository.take_outbox(session)
            run_ids = await repository.active_ids(session)
        self.courier.nudge()
        if self._older_events:
            self._older_events = await retention.chain_what_is_left(self.database) > 0
        for run_id in run_ids:  # one after the other: the first in the queue must find room first
            await self.reconciler.look(run_id)

    async def forget(self) -> None:
        self._older_events = True
        await retention.forget(self.database, settings, now())


@cache
def worker() -> Worker:
    return Worker()


@app.task(name="look")
def look(run_id: str) -> None:
    worker().run(worker().reconciler.look(run_id))


@app.task(name="sweep")
def sweep() -> None:
    worker().run(worker().sweep())


@app.task(name="forget")
def forget() -> None:
    worker().run(worker().forget())


@signals.worker_ready.connect  # pyright: ignore[reportUnknownMemberType]
def start_beat(**_: Any) -> None:
    """The schedule ticks in a thread of the one embedded worker: no process more, none left behind by a kill."""
    beat: Any = EmbeddedService(app, thread=True)
    beat.start()
