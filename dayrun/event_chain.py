"""The chain of a log's events: each event's digest covers the event and the digest before it, so that nothing in between can be changed,
removed, added or moved without breaking every digest after it. Pure: a client proves a log with this file alone.

The canonical form of an event (form 1; digests exist that were made with it, so it never changes) is JSON in ASCII, keys sorted, no spaces:

    {"actor":…,"attempt":…,"chain":…,"data":…,"previous":…,"request":…,"sequence":…,"step":…,"time":…,"type":…}

`chain` is the run's id (`project:<id>` for the log of a project), `previous` the digest before in hexadecimal (null for the first event),
`sequence` 1, 2, …, `time` in UTC with six digits of a second and a Z. The digest is SHA-256 of these bytes, in hexadecimal.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, Self


class Link(NamedTuple):
    """An event, as far as the chain covers it, and the digest that it came with."""

    sequence: int
    time: datetime
    type: str
    attempt: int | None
    step: int | None
    actor: str | None
    request_id: str | None
    data: dict[str, Any]
    digest: str | None = None

    @classmethod
    def of(cls, event: Any) -> Self:
        """Of a row, or of an event as the client has it. What happened to a project has neither attempt nor step."""
        values: list[Any] = [getattr(event, name, None) for name in cls._fields]
        return cls(*values)


@dataclass(frozen=True)
class Head:
    """Where a chain stands: how many events it has had, and the digest of the last. `Head(0, None)` is a chain before its first event."""

    length: int
    digest: str | None


@dataclass(frozen=True)
class Broken:
    """The first place where a chain does not hold."""

    chain: str
    sequence: int
    because: str

    def __str__(self) -> str:
        return f"{self.chain}: event {self.sequence}: {self.because}"


def plain(data: Any) -> Any:
    """`data` as it is after a way through JSON, which the digest must survive: keys are strings, NaN is a word, no half characters."""
    return json.loads(json.dumps(data, ensure_ascii=False).encode(errors="replace"), parse_constant=str)


def time_text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def canonical(chain: str, previous: str | None, event: Link) -> bytes:
    """The bytes that an event's digest is taken of."""
    form = {
        "actor": event.actor,
        "attempt": event.attempt,
        "chain": chain,
        "data": event.data,
        "previous": previous,
        "request": event.request_id,
        "sequence": event.sequence,
        "step": event.step,
        "time": time_text(event.time),
        "type": event.type,
    }
    return json.dumps(form, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest_of(chain: str, previous: str | None, event: Link) -> str:
    return hashlib.sha256(canonical(chain, previous, event)).hexdigest()


def first_break(chain: str, events: Iterable[Link], head: Head, begin: Head = Head(0, None)) -> Broken | None:
    """Follow `events`, those after `begin`, to `head`; None when every link holds. Events recorded after `head` was read are left alone.

    `begin` is the cut of a log whose older events were forgotten: the digest before the first event that is left.
    """
    at, previous = begin.length, begin.digest
    if head.length < at:
        return Broken(chain, head.length, f"it was forgotten, as all up to event {at}: nothing can be said of it")
    for event in events:
        if at >= head.length:
            break
        if event.sequence != at + 1:
            return Broken(chain, at + 1, f"it is missing: event {event.sequence} comes after event {at}")
        if event.digest != digest_of(chain, previous, event):
            return Broken(chain, at + 1, "its digest is not that of its content and of the event before it")
        at, previous = at + 1, event.digest
    if at < head.length:
        return Broken(chain, at + 1, f"it is missing: the log ends after event {at}, the head says {head.length}")
    if previous != head.digest:
        return Broken(chain, at, "its digest is not the one at the head")
    return None
