"""A rank's log as it grows, over all attempts of a run, as server-sent events whose ids are places in it."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Self

from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from service.database import Database
from service.http.problem import ErrorDetail, Problem
from service.http.stream import KEEPALIVE_SECONDS
from service.logs import read
from service.runs import repository
from service.runs.states import OVER

LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Place:
    """Up to where a log has been read."""

    attempt: int
    byte: int

    def __str__(self) -> str:
        return f"{self.attempt}:{self.byte}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises Problem 400."""
        attempt, _, byte = text.partition(":")
        if not (attempt.isdecimal() and byte.isdecimal() and 1 <= int(attempt) < 2**31 and int(byte) < 2**62):
            said = f"{text[:40]!r} is no place in a log; take the id of an event of this stream: <attempt>:<byte>"
            raise Problem(400, said, kind="bad-cursor", errors=[ErrorDetail(pointer="header last-event-id", value=text, because=said)])
        return cls(int(attempt), int(byte))


def whole_lines(data: bytes, all_of_it: bool) -> bytes:
    """What of `data` can be shown: up to its last line's end; a line that fills a whole chunk is cut, and the end of a log is an end."""
    return data if all_of_it or (len(data) == read.CHUNK_BYTES and b"\n" not in data) else data[: data.rfind(b"\n") + 1]


async def log_stream(database: Database, url: str, run_id: str, rank: str, place: Place) -> AsyncIterator[bytes]:
    """The log of `rank` from `place` on; ends when the run is over and all was sent."""
    quiet = 0.0
    while True:
        async with database.read() as session:
            run = await repository.standing(session, run_id)  # before the log: what is printed later does not get lost
        ended = run is None or run.state in OVER or run.attempt > place.attempt
        data = await asyncio.to_thread(read.log_from, url, place.attempt, rank, place.byte)
        shown = whole_lines(data, all_of_it=ended and len(data) < read.CHUNK_BYTES)
        if shown:
            quiet, text = 0.0, {"attempt": place.attempt, "rank": rank, "text": shown.decode(errors="replace")}
            place = Place(place.attempt, place.byte + len(shown))
            yield format_sse_event(data_str=json.dumps(text), event="log", id=str(place))
        elif run is not None and run.attempt > place.attempt:
            place = Place(place.attempt + 1, 0)
        elif ended:
            return
        else:
            if quiet >= KEEPALIVE_SECONDS:
                quiet = 0.0
                yield KEEPALIVE_COMMENT
            quiet += LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
