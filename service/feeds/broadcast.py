"""One reader of the event log for all streams of a process: new events are read once, written as bytes once, and handed to everyone.

A listener's buffer is bounded. One that falls behind loses the oldest of it, is told so, and reads them from the database when it is ready
for them: a slow client costs queries, never memory. Nothing is read while nobody listens.
"""

import asyncio
import logging
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

from fastapi.sse import format_sse_event
from sqlalchemy.exc import SQLAlchemyError

from service import events
from service.database import Database
from service.events import Position, Told
from service.feeds.schemas import Event, RunEvent
from service.runs.states import OVER

LOOK_SECONDS = 0.3
EVENTS_A_LOOK = 500
BUFFER = 64
"""Events that a listener may lag behind before it reads from the database."""

CATCHING_UP = 4

log = logging.getLogger("dayrun")


@dataclass(frozen=True, slots=True)
class Sent:
    """An event as it goes over the wire."""

    position: Position
    sequence: int
    project_id: str
    over: bool
    """The run has ended with it."""
    in_run: bytes
    in_all: bytes

    @classmethod
    def of(cls, told: Told) -> "Sent":
        event, position = told.event, told.position
        return cls(
            position,
            event.sequence or 0,
            told.project_id,
            event.type == "state_changed" and event.data.get("to") in OVER,
            format_sse_event(data_str=Event.of(event).model_dump_json(), event=event.type, id=str(event.sequence)),
            format_sse_event(data_str=RunEvent.told(told).model_dump_json(), event=event.type, id=str(position)),
        )


@dataclass(slots=True, eq=False)
class Listener:
    """What waits for one client. `run_id` None: events of all runs."""

    run_id: str | None
    events: deque[Sent] = field(default_factory=lambda: deque[Sent](maxlen=BUFFER))
    behind: bool = False
    """Some were dropped: read the database."""
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def hand(self, sent: Sent) -> None:
        self.behind = self.behind or len(self.events) == BUFFER
        self.events.append(sent)
        self._woken.set()

    def miss(self) -> None:
        self.behind = True
        self._woken.set()

    async def wait(self, seconds: float) -> bool:
        """Whether there is something before `seconds` are over."""
        if not self.events and not self.behind:
            self._woken.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), seconds)
        return bool(self.events) or self.behind


class Broadcast:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._listeners: dict[str | None, set[Listener]] = {}
        self._reading: asyncio.Task[None] | None = None
        self.catching_up = asyncio.Semaphore(CATCHING_UP)
        """Held by a stream while it reads the database: many that come at once must leave connections to the requests."""
        self.looks = 0
        """Queries made so far: they do not grow with the listeners."""

    def listen(self, run_id: str | None = None) -> Listener:
        listener = Listener(run_id)
        self._listeners.setdefault(run_id, set()).add(listener)
        if not self.reading:
            self._reading = asyncio.create_task(self._read(), name="broadcast")
        return listener

    def leave(self, listener: Listener) -> None:
        others = self._listeners.get(listener.run_id, set())
        others.discard(listener)
        if not others:
            self._listeners.pop(listener.run_id, None)

    @property
    def listening(self) -> int:
        return sum(map(len, self._listeners.values()))

    @property
    def reading(self) -> bool:
        return self._reading is not None and not self._reading.done()

    async def close(self) -> None:
        if self._reading:
            self._reading.cancel()
            with suppress(asyncio.CancelledError):
                await self._reading

    async def _read(self) -> None:
        last: Position | None = None
        while self._listeners:
            full = False
            try:
                last, full = await self._look(last)
            except SQLAlchemyError as error:  # a database that is away comes back; the listeners then miss nothing
                log.warning("the event log cannot be read: %s", type(error).__name__)
            await asyncio.sleep(0 if full else LOOK_SECONDS)

    async def _look(self, last: Position | None) -> tuple[Position, bool]:
        """Hand out what came after `last`; says how far it came, and whether there is more.

        The first look only finds where the log ends, and lets everyone read once what came before.
        """
        self.looks += 1
        async with self._database.read() as session:
            if last is None:
                end = await events.feed_end(session)
                for listener in (one for some in self._listeners.values() for one in some):
                    listener.miss()
                return end, False
            found = await events.feed(session, last, EVENTS_A_LOOK)
        for told in found:
            for_run, for_all = self._listeners.get(told.event.run_id, ()), self._listeners.get(None, ())
            if for_run or for_all:
                sent = Sent.of(told)
                for listener in (*for_run, *for_all):
                    listener.hand(sent)
        return (found[-1].position if found else last), len(found) == EVENTS_A_LOOK
