"""Whether the parts beside the database answer, for `/readyz`: asked one at a time and not again while an answer is still awaited.

A part that is away is told, and is no reason to take the service out of rotation: runs are accepted, and looked after as far as possible.
"""

import asyncio
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

from obstore.exceptions import BaseError

from dayrun.objects import Prefix
from service.settings import Settings

PATIENCE_SECONDS = 2.0
REDIS_PORT = 6379


class Probe:
    """One part. `look` raises OSError or obstore's BaseError when it is away."""

    def __init__(self, look: Callable[[], object]) -> None:
        self._look = look
        self._asked: asyncio.Task[str] | None = None

    async def says(self) -> str:
        """`ok`, or why not."""
        if self._asked is None or self._asked.done():
            self._asked = asyncio.create_task(asyncio.to_thread(self._ask))
        done, _ = await asyncio.wait({self._asked}, timeout=PATIENCE_SECONDS)
        return self._asked.result() if done else f"no answer within {PATIENCE_SECONDS:.0f} s"

    def _ask(self) -> str:
        try:
            self._look()
        except (OSError, BaseError) as error:
            return f"away: {(str(error).splitlines() or [type(error).__name__])[0][:200]}"
        return "ok"


def broker(settings: Settings) -> Probe:
    address = urlsplit(settings.broker or "")

    def look() -> None:
        if settings.broker is None:
            (settings.queue_folder / "messages").stat()
        else:
            socket.create_connection((address.hostname or "127.0.0.1", address.port or REDIS_PORT), timeout=PATIENCE_SECONDS).close()

    return Probe(look)


def objects(settings: Settings) -> Probe:
    def look() -> None:
        Prefix(settings.runs or str(settings.root / "runs")).exists("none-of-ours")

    return Probe(look)
