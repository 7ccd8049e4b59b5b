"""`Prefer: wait=N` (RFC 7240): the answer may come once what was asked for is done, N seconds later at most. Written once, for all.

A preference is no order: what cannot be read is passed over, and longer waits than ours are cut.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

from fastapi import Depends, Header, Request
from sqlalchemy.ext.asyncio import AsyncSession

from service.database import Database

LONGEST_SECONDS = 60
FIRST_LOOK_SECONDS, LAST_LOOK_SECONDS = 0.1, 1.0
"""Pause between looks, growing: an answer that comes soon comes at once, and a thousand waiting clients are a thousand reads a second."""
WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?(\d{1,9})"?\s*(?=$|[,;])', re.IGNORECASE)
T = TypeVar("T")


async def preferred_wait(
    prefer: Annotated[str | None, Header(max_length=500, description=f"`wait=N`: seconds to wait, at most {LONGEST_SECONDS}.")] = None,
) -> int | None:
    """Seconds that the client would wait; None when it did not say."""
    found = WAIT.search(prefer or "")
    return min(int(found[1]), LONGEST_SECONDS) if found else None


PreferWait = Annotated[int | None, Depends(preferred_wait)]


def applied(wait: int | None) -> dict[str, str]:
    """Headers of an answer that has heeded the preference; caches must tell such answers apart."""
    return {} if wait is None else {"Preference-Applied": f"wait={wait}", "Vary": "Prefer"}


async def hold(request: Request, database: Database, wait: int, look: Callable[[AsyncSession], Awaitable[T | None]]) -> T | None:
    """What `look` returns as soon as that is not None; None after `wait` seconds, or when the client has gone."""
    clock = asyncio.get_running_loop()
    end, pause = clock.time() + wait, FIRST_LOOK_SECONDS
    while True:
        async with database.read() as session:
            found = await look(session)
        left = end - clock.time()
        if found is not None or left <= 0 or await request.is_disconnected():
            return found
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.5, LAST_LOOK_SECONDS)
