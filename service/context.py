"""What the endpoints of one API process share."""

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request

from service.database import Database
from service.http.credentials import Credentials
from service.launchers import Launcher
from service.settings import Settings


@dataclass
class Context:
    settings: Settings
    database: Database
    launcher: Launcher
    queue: Any  # the Celery app
    credentials: Credentials = field(init=False)
    _hints: set[asyncio.Future[None]] = field(default_factory=set[asyncio.Future[None]])

    def __post_init__(self) -> None:
        self.credentials = Credentials(self.settings, self.database)

    def hint(self, run_id: str) -> None:
        """Tell a worker to look at a run, without waiting for it; lost hints cost a second."""
        from service.tasks import send_hint

        task = asyncio.ensure_future(asyncio.to_thread(send_hint, self.queue, run_id))
        self._hints.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._hints.discard)


def context_of(request: Request) -> Context:
    return request.app.state.context


Ctx = Annotated[Context, Depends(context_of)]
