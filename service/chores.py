"""What workers do again and again by themselves, without the broker: the sweep, the outbox, forgetting what is old.

Each worker process keeps the time of every chore, and a row in the database says whose turn it is: one worker at a time does a chore, any
of them, and when it dies the next one goes on. A turn that is not renewed is over after `TURN_SECONDS`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import update
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from service.database import Database, first_line, now, upsert
from service.runs.tables import HeartbeatRow

TURN_SECONDS = 5.0
log = logging.getLogger("dayrun")


class TurnLost(Exception):
    """We were so slow that another worker does the chore now."""


class Turn:
    """The right to do a chore, until `until`; the row holds that instant, and whoever finds another one there has lost the turn."""

    def __init__(self, database: Database, row: str, until: datetime) -> None:
        self._database, self._row, self._until = database, row, until

    @classmethod
    async def take(cls, database: Database, chore: str) -> "Turn | None":
        """The turn, or None while another worker has it or it is not due."""
        at, row = now(), f"turn:{chore}"
        until = at + timedelta(seconds=TURN_SECONDS)
        async with database.write() as session:
            statement = upsert(session, HeartbeatRow).values(part=row, time=until)
            new = {"time": statement.excluded.time}
            free = HeartbeatRow.time <= at
            done: CursorResult[Any] = await session.execute(  # pyright: ignore[reportAssignmentType]
                statement.on_conflict_do_update(index_elements=["part"], set_=new, where=free)
            )
        return cls(database, row, until) if done.rowcount else None

    async def renew(self) -> bool:
        """Go on; True when half of the time was used, and the row was written anew. Raises TurnLost."""
        at = now()
        if self._until - at > timedelta(seconds=TURN_SECONDS / 2):
            return False
        await self._set(at + timedelta(seconds=TURN_SECONDS))
        return True

    async def end(self, next_at: datetime, note: Callable[[AsyncSession], Awaitable[None]] | None = None) -> None:
        """Done: it is anybody's turn from `next_at` on. `note` writes down more with it. Raises TurnLost."""
        await self._set(next_at, note)

    async def _set(self, until: datetime, note: Callable[[AsyncSession], Awaitable[None]] | None = None) -> None:
        mine = (HeartbeatRow.part == self._row, HeartbeatRow.time == self._until)
        async with self._database.write() as session:
            if note is not None:
                await note(session)
            done: CursorResult[Any] = await session.execute(  # pyright: ignore[reportAssignmentType]
                update(HeartbeatRow).where(*mine).values(time=until)
            )
            if done.rowcount != 1:
                raise TurnLost  # and what was noted is not written
        self._until = until


@dataclass(frozen=True)
class Chore:
    name: str
    seconds: float
    """From the begin of one to the begin of the next, unless it takes longer."""
    work: Callable[[Turn], Awaitable[None]]
    note: Callable[[datetime, AsyncSession], Awaitable[None]] | None = None
    """Writes down, with the end of one, what is to be known of it; it is given when that one began."""


async def keep_doing(database: Database, chore: Chore) -> None:
    """Do `chore` whenever it is due and our turn, for ever. What goes wrong is said once, and the chore is tried again."""
    trouble = ""
    while True:
        begun = now()
        try:
            turn = await Turn.take(database, chore.name)
            if turn is not None:
                await chore.work(turn)
                await turn.end(begun + timedelta(seconds=chore.seconds), partial(chore.note, begun) if chore.note else None)
            said = ""
        except TurnLost:
            said = ""
        except SQLAlchemyError as error:
            said = f"the database is away: {first_line(error)}"
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            if said != trouble:
                log.exception("%s", chore.name)
        if said != trouble:
            log.warning("%s: %s", chore.name, said or "goes on")
        trouble = said
        # a worker that has not got the turn asks often enough to take over soon
        await asyncio.sleep(max(0.0, min(chore.seconds, TURN_SECONDS) - (now() - begun).total_seconds()))
