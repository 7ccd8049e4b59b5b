"""What held accelerators cost, as intervals of time. Pure: no rows, no clock. Days and months are UTC's."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple


@dataclass(frozen=True)
class Holding:
    """Accelerators that one attempt holds, or held."""

    accelerators: int
    dollars_per_accelerator_hour: float
    began: datetime
    ended: datetime | None  # None: still held

    @property
    def dollars_per_hour(self) -> float:
        return self.accelerators * self.dollars_per_accelerator_hour


class Period(NamedTuple):
    """A stretch of time with a name; `end` is no longer part of it."""

    name: str
    start: datetime
    end: datetime


def day_of(at: datetime) -> Period:
    start = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return Period(f"{start:%Y-%m-%d}", start, start + timedelta(days=1))


def month_of(at: datetime) -> Period:
    start = day_of(at).start.replace(day=1)
    return Period(f"{start:%Y-%m}", start, (start + timedelta(days=32)).replace(day=1))


def seconds_within(holding: Holding, start: datetime, end: datetime) -> float:
    """How long it was held between `start` and `end`; one that is still held is held until `end`."""
    ended = end if holding.ended is None else min(holding.ended, end)
    return max(0.0, (ended - max(holding.began, start)).total_seconds())


def accelerator_hours_within(holding: Holding, start: datetime, end: datetime) -> float:
    return holding.accelerators * seconds_within(holding, start, end) / 3600


def dollars_within(holding: Holding, start: datetime, end: datetime) -> float:
    return holding.dollars_per_hour * seconds_within(holding, start, end) / 3600


def dollars_by_day(holdings: Iterable[Holding], start: datetime, end: datetime) -> dict[str, float]:
    """Day → dollars between `start` and `end`, the days in order. What is held over midnight counts for both days, each its part."""
    found: defaultdict[str, float] = defaultdict(float)
    for holding in holdings:
        at, last = max(holding.began, start), min(holding.ended or end, end)
        while at < last:
            day = day_of(at)
            found[day.name] += dollars_within(holding, at, min(day.end, last))
            at = day.end
    return dict(sorted(found.items()))
