"""One step from what is seen of a run to what is wanted of it. Pure: no input or output, no clock, no database."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from service.launchers import Launched, Observation
from service.runs.states import Move, State

LONGEST_WAIT_SECONDS = 300.0
HEARSAY = ("unknown", "nccl_timeout")
"""Causes that a trainer names when it cannot see what happened elsewhere."""
HOPELESS = ("spec", "data", "diverged")
"""Causes that another attempt would only meet again: the recipe or the data must change first."""


@dataclass(frozen=True)
class Standing:
    """What the decision may know of a run."""

    state: State
    attempt: int
    began: bool  # the trainer of this attempt has reported for work
    outcome: dict[str, Any] | None  # what the trainer of this attempt said at its end
    faults: int
    attempts_allowed: int
    wait_seconds: float
    next_attempt_at: datetime | None
    stop_asked_at: datetime | None
    stop_seconds: float
    over_limit: tuple[str, str] | None = None  # (cause, why) once a limit of the recipe is reached


@dataclass(frozen=True)
class Wait:
    """Nothing to do now."""


@dataclass(frozen=True)
class Launch:
    """Start `attempt`; for one that was ordered before, make sure that it was."""

    attempt: int


@dataclass(frozen=True)
class Stop:
    """Ask the attempt to checkpoint and end, or, with `force`, end it."""

    force: bool = False


@dataclass(frozen=True)
class Change:
    """A move, with why."""

    move: Move
    cause: str | None = None
    evidence: list[str] = field(default_factory=list[str])
    next_attempt_at: datetime | None = None
    ends_group: bool = False  # what is left of the attempt must be ended, too


Step = Wait | Launch | Stop | Change


def next_step(run: Standing, seen: Observation, now: datetime) -> Step:
    """What to do for `run`, given what its launcher shows of the newest attempt."""
    if seen.launched == Launched.UNREACHABLE:
        return Wait()
    match run.state:
        case State.QUEUED:  # and there is room
            if run.over_limit:
                return Change(Move.PAUSE, run.over_limit[0], [run.over_limit[1]])
            due = run.next_attempt_at is None or run.next_attempt_at <= now
            return Launch(run.attempt + 1) if due else Wait()
        case State.LAUNCHING | State.RUNNING:
            if seen.launched == Launched.ENDED:
                return after_the_end(run, seen, now)
            if seen.is_broken:
                return replace(after_the_end(run, seen, now), ends_group=True)
            if run.over_limit:
                return Change(Move.PAUSE, run.over_limit[0], [run.over_limit[1]])
            if seen.launched == Launched.ABSENT:
                return Launch(run.attempt)
            return Change(Move.START) if run.began and run.state == State.LAUNCHING else Wait()
        case State.PAUSING | State.CANCELLING:
            if seen.launched == Launched.ENDED:
                if run.state == State.PAUSING and succeeded(run, seen):
                    return Change(Move.SUCCEED)
                return Change(Move.STOPPED)
            waited = run.stop_asked_at is not None and now - run.stop_asked_at > timedelta(seconds=run.stop_seconds)
            return Stop(force=waited)
        case _:
            return Wait()


def succeeded(run: Standing, seen: Observation) -> bool:
    return seen.exit_code == 0 and (run.outcome or {}).get("outcome") == "succeeded"


def after_the_end(run: Standing, seen: Observation, now: datetime) -> Change:
    """The attempt is over though nobody asked it to be: done, worth another try, or failed."""
    if succeeded(run, seen):
        return Change(Move.SUCCEED)
    cause, evidence = why_it_ended(run.outcome or {}, seen)
    if cause in HOPELESS:
        return Change(Move.FAIL, cause, evidence)
    if run.faults + 1 >= run.attempts_allowed:
        return Change(Move.FAIL, cause, [f"attempt {run.attempt} was the last of {run.attempts_allowed}", *evidence])
    return Change(Move.RETRY, cause, evidence, now + timedelta(seconds=wait_before_retry(run.wait_seconds, run.faults + 1)))


def why_it_ended(outcome: dict[str, Any], seen: Observation) -> tuple[str, list[str]]:
    """The typed cause and its evidence: the trainer's own word first, then the launcher's.

    A trainer whose peer was killed knows only that it does not answer; what the machines say of the peer says more.
    """
    said, cause = outcome.get("outcome"), outcome.get("cause") or "unknown"
    evidence = [*outcome.get("evidence", []), *seen.evidence]
    if seen.cause is not None and (said != "failed" or cause in HEARSAY):
        return seen.cause, [*seen.evidence, *outcome.get("evidence", [])]
    if said == "failed":
        return cause, evidence
    if said == "stopped":
        return "preempted", ["the trainer was told to stop by a signal that did not come from here, and wrote a checkpoint", *evidence]
    code = "without an exit code" if seen.exit_code is None else f"with exit code {seen.exit_code}"
    return "unknown", [f"the launcher ended {code}; the trainer left no word", *evidence]


def wait_before_retry(wait_seconds: float, faults: int) -> float:
    """Seconds before the next attempt after `faults` in a row: doubled each time, five minutes at most."""
    return min(wait_seconds * 2 ** (faults - 1), LONGEST_WAIT_SECONDS)
