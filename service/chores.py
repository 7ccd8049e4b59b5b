"""What workers do again and again by themselves, without the broker: the sweep, the outbox, forgetting what is old.

Each worker process keeps the time of every chore, and a row in the database says whose turn it is: one worker at a time does a chore, any
of them, and when it dies the next one goes on. A turn that is not renewed is over after `TURN_SECONDS`; what is done more often than that
stays with who has it, since to hand it over each time would cost a machine that idles more than the chore.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
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
Note = Callable[[AsyncSession], Awaitable[None]]
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

    async def renew(self, note: Note | None = None) -> bool:
        """Go on; True when the row was written anew: half of the time was used, or there is a `note` to write with it. Raises TurnLost."""
        at = now()
        if note is None and self._until - at > timedelta(seconds=TURN_SECONDS / 2):
            return False
        await self._set(at + timedelta(seconds=TURN_SECONDS), note)
        return True

    async def end(self, next_at: datetime, note: Note | None = None) -> None:
        """Done: it is anybody's turn from `next_at` on. `note` writes down more with it. Raises TurnLost."""
        await self._set(next_at, note)

    async def _set(self, until: datetime, note: Note | None = None) -> None:
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

    async def after_one(self, turn: Turn, begun: datetime) -> Turn | None:
        """The turn, where the next one is ours. Raises TurnLost."""
        note = partial(self.note, begun) if self.note else None
        if self.seconds < TURN_SECONDS / 2:
            await turn.renew(note)
            return turn
        await turn.end(begun + timedelta(seconds=self.seconds), note)
        return None


async def keep_doing(database: Database, chore: Chore) -> None:
    """Do `chore` whenever it is due and our turn, until cancelled. What goes wrong is said once, and the chore is tried again."""
    trouble, turn = "", None
    try:
        while True:
            begun = now()
            try:
                turn = turn or await Turn.take(database, chore.name)
                if turn is not None:
                    await turn.renew()
                    await chore.work(turn)
                    turn = await chore.after_one(turn, begun)
                said = ""
            except TurnLost:
                turn, said = None, ""
            except SQLAlchemyError as error:
                said = f"the database is away: {first_line(error)}"
            except Exception as error:
                turn, said = None, f"{type(error).__name__}: {error}"  # it lapses, and another worker may have better luck
                if said != trouble:
                    log.exception("%s", chore.name)
            if said != trouble:
                log.warning("%s: %s", chore.name, said or "goes on")
            trouble = said
            # a worker that has not got the turn asks often enough to take over soon
            await asyncio.sleep(max(0.0, min(chore.seconds, TURN_SECONDS) - (now() - begun).total_seconds()))
    finally:
        if turn is not None:
            with suppress(TurnLost, SQLAlchemyError):  # another one may go on at once
                await turn.end(now())
