"""What the endpoints of one API process share."""

import asyncio
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from service.database import Database
from service.feeds.broadcast import Broadcast
from service.hints import Hints
from service.http.credentials import Credentials
from service.launchers import Launcher
from service.metrics.queue import Queue
from service.plans.service import History
from service.reachable import Probe
from service.settings import Settings
from service.sign_in import SignIn

MOST_TRIALS = 2
"""Preflights that one process has under way: each holds a thread for minutes, and pods."""


@dataclass
class Context:
    settings: Settings
    database: Database
    launcher: Launcher
    hints: Hints
    broadcast: Broadcast
    broker: Probe
    objects: Probe
    history: History = field(default_factory=History)
    trials: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_TRIALS))
    seal_key: bytes | None = None  # of cursors, once it was read
    credentials: Credentials = field(init=False)
    queue: Queue = field(init=False)
    sign_in: SignIn = field(init=False)

    def __post_init__(self) -> None:
        self.credentials = Credentials(self.settings, self.database)
        self.queue = Queue(self.settings)
        self.sign_in = SignIn(self.settings)

    def hint(self, id: str) -> None:
        """Tell a worker to look at a run or a job, without waiting for it; lost hints cost a second."""
        self.hints.put(id)


async def context_of(request: Request) -> Context:
    """Asynchronous, as every dependency here: FastAPI runs the others in a thread, which costs more than all that they do."""
    return request.app.state.context


Ctx = Annotated[Context, Depends(context_of)]
