"""Which queued runs begin now, and what the others wait for. Pure: no rows, no clock.

Higher priorities first, then the older. The first run that finds no room keeps its turn: a later one may begin before it only where the
first would not begin a moment later for it. A project's quota closes the door for that project's later runs alone.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

PLACES = 100
"""Runs that are told their place and when they may begin. Those after them are told that there are many: who leads the queue would
otherwise have thousands of rows written anew by beginning."""
SMALL_CHANGE = timedelta(minutes=1)
"""An expected start that moves by less than this, or by less than a tenth of the wait, is not told anew."""


class Code(StrEnum):
    STARTING = "starting"  # nothing is in its way: a worker has only to look
    NO_ROOM = "no_room"
    BEHIND = "behind"  # there may be room, but not before those in front
    PROJECT_QUOTA = "project_quota"
    DAY_BUDGET = "day_budget"
    MONTH_BUDGET = "month_budget"
    RETRY_DELAY = "retry_delay"
    STORE_AWAY = "store_away"
    # of a run that is launching, as its cluster tells it
    ADMISSION = "admission"  # Kueue has not let it in yet
    CLUSTER_QUOTA = "cluster_quota"
    CLUSTER = "cluster"  # something is missing there that an operator must bring
    UNSCHEDULABLE = "unschedulable"
    IMAGE = "image"
    PODS = "pods"
    STOPPING = "stopping"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class Closed:
    """A project's budget that is used up."""

    code: Code
    because: str
    until: datetime


@dataclass(frozen=True)
class Queued:
    run_id: str  # sorts by age
    project_id: str
    accelerators: int
    priority: int = 0
    seconds: float | None = None  # that it will hold them; None: unknown
    not_before: datetime | None = None  # its next attempt after a fault
    closed: Closed | None = None

    @property
    def turn(self) -> tuple[int, str]:
        return -self.priority, self.run_id


@dataclass(frozen=True)
class Held:
    project_id: str
    accelerators: int
    until: datetime | None  # expected; None: unknown


@dataclass(frozen=True)
class Capacity:
    """None: without end."""

    accelerators: int | None = None
    runs: int | None = None


@dataclass(frozen=True)
class Waiting:
    code: Code
    because: str
    place: int | None = None  # 1 is next
    expected_start: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        start = self.expected_start and self.expected_start.isoformat()
        return {"code": str(self.code), "because": self.because, "place": self.place, "expected_start": start}


@dataclass(frozen=True)
class Placement:
    run_id: str
    waiting: Waiting | None  # None: it begins now


class Room:
    """What is taken, and what still goes in."""

    def __init__(self, capacity: Capacity, quotas: Mapping[str, int]) -> None:
        self.capacity, self.quotas = capacity, quotas
        self.accelerators, self.runs = 0, 0
        self.by_project = Counter[str]()

    def take(self, run: Queued | Held, sign: int = 1) -> None:
        self.accelerators += sign * run.accelerators
        self.runs += sign
        self.by_project[run.project_id] += sign * run.accelerators

    def fits(self, accelerators: int) -> bool:
        most, runs = self.capacity.accelerators, self.capacity.runs
        return (most is None or self.accelerators + accelerators <= most) and (runs is None or self.runs < runs)

    def within_quota(self, run: Queued) -> bool:
        quota = self.quotas.get(run.project_id)
        return quota is None or self.by_project[run.project_id] + run.accelerators <= quota

    def why_not(self, accelerators: int) -> str:
        most, runs = self.capacity.accelerators, self.capacity.runs
        if runs is not None and self.runs >= runs:
            return f"{count(runs, 'run')} may hold this machine at once, and {'does' if runs == 1 else 'do'}"
        return f"it takes {count(accelerators, 'accelerator')}; {max(0, (most or 0) - self.accelerators)} of {most} are free"


@dataclass(frozen=True)
class Turn:
    """When the first run that found no room will begin, and what will then still be free beside it."""

    run: Queued
    start: datetime
    accelerators: int | None
    runs: int | None

    def leaves_room_for(self, run: Queued, start: datetime) -> bool:
        """Whether `run` may begin at `start` without delaying the first: it is over by then, or it goes in beside it."""
        if over_by(run, start, self.start):
            return True
        beside = (self.accelerators is None or run.accelerators <= self.accelerators) and (self.runs is None or self.runs > 0)
        return beside and run.project_id != self.run.project_id  # a quota that both draw on could close


def count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def between_attempts(start: datetime) -> Waiting:
    """For a run whose last attempt ended with a fault: the next one begins at `start`."""
    return Waiting(Code.RETRY_DELAY, f"its next attempt may begin at {start:%H:%M:%S} UTC, a while after the last one's fault", None, start)


def never_fits(run: Queued, capacity: Capacity, quotas: Mapping[str, int]) -> Waiting | None:
    """For a run that is wider than all there is: a limit was lowered after it was taken. It waits, and stands in nobody's way."""
    takes, quota = f"it takes {count(run.accelerators, 'accelerator')}", quotas.get(run.project_id)
    if capacity.accelerators is not None and run.accelerators > capacity.accelerators:
        return Waiting(Code.NO_ROOM, f"{takes}; there are {capacity.accelerators} in all")
    if quota is not None and run.accelerators > quota:
        return Waiting(Code.PROJECT_QUOTA, f"{takes}; project {run.project_id!r} may hold {quota} at once")
    return None


def turn_of(first: Queued, held: Iterable[Held], room: Room, now: datetime) -> Turn | None:
    """When `first` will find room, or None where too many of `held` have no known end."""
    later = Room(room.capacity, {})
    later.accelerators, later.runs = room.accelerators, room.runs
    for until, one in sorted(((max(now, one.until), one) for one in held if one.until is not None), key=lambda pair: pair[0]):
        later.take(one, -1)
        if later.fits(first.accelerators):
            later.take(first)
            most, runs = room.capacity.accelerators, room.capacity.runs
            free = None if most is None else most - later.accelerators
            return Turn(first, until, free, None if runs is None else runs - later.runs)
    return None


def place(queue: Iterable[Queued], held: Iterable[Held], capacity: Capacity, quotas: Mapping[str, int], now: datetime) -> list[Placement]:
    """Each queued run in its turn: it begins now, or waits and why. `quotas`: project → accelerators it may hold at once."""
    room, holding = Room(capacity, quotas), list(held)
    for one in holding:
        room.take(one)
    begins: list[str] = []
    waits: list[tuple[Queued, Waiting]] = []
    first: Queued | None = None  # found no room
    turn: Turn | None = None
    at_quota: set[str] = set()
    for run in sorted(queue, key=lambda run: run.turn):
        start = max(now, run.not_before or now)
        if run.closed is not None:
            waits.append((run, Waiting(run.closed.code, run.closed.because, expected_start=run.closed.until)))
        elif (never := never_fits(run, capacity, quotas)) is not None:
            waits.append((run, never))
        elif run.project_id in at_quota:
            waits.append((run, Waiting(Code.BEHIND, f"an earlier run of project {run.project_id!r} waits for its quota")))
        elif not room.within_quota(run):
            at_quota.add(run.project_id)
            quota, has = quotas[run.project_id], room.by_project[run.project_id]
            takes = f"it takes {count(run.accelerators, 'accelerator')}"
            said = f"{takes}; project {run.project_id!r} holds {has} of the {quota} that it may hold at once"
            waits.append((run, Waiting(Code.PROJECT_QUOTA, said)))
        elif first is None and not room.fits(run.accelerators):
            first, turn = run, turn_of(run, holding, room, now)
            waits.append((run, Waiting(Code.NO_ROOM, room.why_not(run.accelerators))))
        elif first is not None and not (turn is not None and room.fits(run.accelerators) and turn.leaves_room_for(run, start)):
            waits.append((run, Waiting(Code.BEHIND, "")))
        else:
            # one that waits a moment for its next attempt keeps its room: a wide run must not lose it to a small one over a fault
            room.take(run)
            holding.append(Held(run.project_id, run.accelerators, end_of(run, start)))
            turn = turn and beside(turn, run, start)
            if start > now:
                waits.append((run, between_attempts(start)))
            else:
                begins.append(run.run_id)
    return [Placement(run_id, None) for run_id in begins] + in_their_places(waits, holding, capacity, quotas, now)


def end_of(run: Queued, start: datetime) -> datetime | None:
    """When it is expected to be over; None: unknown."""
    return None if run.seconds is None else start + timedelta(seconds=run.seconds)


def over_by(run: Queued, start: datetime, time: datetime) -> bool:
    end = end_of(run, start)
    return end is not None and end <= time


def beside(turn: Turn, run: Queued, start: datetime) -> Turn:
    """The turn of the first, once `run` has begun before it."""
    if over_by(run, start, turn.start):
        return turn
    free = None if turn.accelerators is None else turn.accelerators - run.accelerators
    return Turn(turn.run, turn.start, free, None if turn.runs is None else turn.runs - 1)


def in_their_places(
    waits: list[tuple[Queued, Waiting]], held: list[Held], capacity: Capacity, quotas: Mapping[str, int], now: datetime
) -> list[Placement]:
    """Number those who wait, and say when each may begin if all goes as expected and everyone keeps their turn."""
    room, at, known = Room(capacity, quotas), now, True
    ends: list[tuple[datetime, int, Held]] = []
    for number, one in enumerate(held):
        room.take(one)
        if one.until is not None:
            ends.append((max(now, one.until), number, one))
    heapq.heapify(ends)
    found: list[Placement] = []
    turn = 0
    for run, waiting in waits:
        if run.closed is not None or never_fits(run, capacity, quotas) is not None:  # stands in no line
            found.append(Placement(run.run_id, waiting))
            continue
        turn += 1
        if turn > PLACES:
            found.append(Placement(run.run_id, replace(waiting, because=waiting.because or f"{PLACES} runs or more are before it")))
            continue
        start = waiting.expected_start
        while start is None and known and not (room.fits(run.accelerators) and room.within_quota(run)):
            if known := bool(ends):
                at, _, over = heapq.heappop(ends)
                room.take(over, -1)
        if start is None and known:
            start = at
            room.take(run)
            if (until := end_of(run, start)) is not None:
                heapq.heappush(ends, (until, len(held) + turn, Held(run.project_id, run.accelerators, until)))
        because = waiting.because or f"{count(turn - 1, 'run')} {'is' if turn == 2 else 'are'} before it"
        found.append(Placement(run.run_id, replace(waiting, because=because, place=turn, expected_start=start)))
    return found


def worth_telling(before: Mapping[str, Any] | None, waiting: Waiting, now: datetime) -> bool:
    """Whether a reader would learn something: expected starts move a little with every look, and a row is not written for that."""
    after = waiting.as_json()
    if before is None or any(before.get(name) != after[name] for name in ("code", "because", "place")):
        return True
    said = before.get("expected_start")
    if said is None or waiting.expected_start is None:
        return said != after["expected_start"]
    moved = abs(datetime.fromisoformat(said) - waiting.expected_start)
    return moved > max(SMALL_CHANGE, abs(waiting.expected_start - now) / 10)
