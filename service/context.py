"""What the endpoints of one API process share."""

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request

from service.database import Database
from service.launchers import Launcher
from service.settings import Settings


@dataclass
class Context:
    settings: Settings
    database: Database
    launcher: Launcher
    queue: Any  # the Celery app
    seal_key: bytes | None = None  # of cursors, once it was read
    _hints: set[asyncio.Future[None]] = field(default_factory=set[asyncio.Future[None]])

    def hint(self, id: str, task: str = "look") -> None:
        """Tell a worker to look at a run (or, with `task`, at something else), without waiting for it; lost hints cost a second."""
        from service.tasks import send_hint

        sent = asyncio.ensure_future(asyncio.to_thread(send_hint, self.queue, id, task))
        self._hints.add(sent)  # the loop itself holds tasks only weakly
        sent.add_done_callback(self._hints.discard)


def context_of(request: Request) -> Context:
    return request.app.state.context


Ctx = Annotated[Context, Depends(context_of)]
