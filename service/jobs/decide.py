"""One step from what is seen of a job to what is wanted of it. Pure: no input or output, no clock, no database."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from service.jobs.tables import JobState
from service.launchers import Launched, Observation

PATIENCE_SECONDS = 10.0
"""Time between the request to stop and the end by force: a job has nothing to save."""


@dataclass(frozen=True)
class Standing:
    """What the decision may know of a job."""

    state: JobState
    started_at: datetime | None
    stop_asked_at: datetime | None
    longest_seconds: float
    ours: bool  # its processes are, or would be, on this machine
    room: bool
    complete: bool  # everything that was asked for is in the run folder
    failure: dict[str, Any] | None  # what the program itself said of its failure


@dataclass(frozen=True)
class Wait:
    """Nothing to do now."""


@dataclass(frozen=True)
class Start:
    """Start its program; for one that was started before, make sure that it was."""


@dataclass(frozen=True)
class Stop:
    """Ask it to end, or end it."""

    force: bool


@dataclass(frozen=True)
class End:
    """It is over."""

    state: JobState
    because: dict[str, Any] | None = field(default=None)


Step = Wait | Start | Stop | End


def next_step(job: Standing, seen: Observation, now: datetime) -> Step:
    """What to do for a job, given what is seen of its program on this machine."""
    if job.state == JobState.QUEUED:
        if job.stop_asked_at is not None:
            return End(JobState.CANCELLED)
        return Start() if job.room else Wait()
    if job.state != JobState.WORKING:
        return Wait()
    due = job.started_at is not None and now - job.started_at > timedelta(seconds=job.longest_seconds)
    if not job.ours:  # what a machine that is gone was doing can only be given up by the clock
        late = job.started_at is not None and now - job.started_at > 2 * timedelta(seconds=job.longest_seconds)
        return End(JobState.FAILED, failure("unknown", "the machine that worked on it has not been heard of again")) if late else Wait()
    if seen.launched == Launched.ENDED:
        return after_the_end(job, seen, due)
    if job.stop_asked_at is not None:
        return Stop(force=now - job.stop_asked_at > timedelta(seconds=PATIENCE_SECONDS))
    if due:
        return Stop(force=True)
    return Start() if seen.launched == Launched.ABSENT else Wait()


def after_the_end(job: Standing, seen: Observation, due: bool) -> End:
    """Done only if the program says so and the folder shows it."""
    if job.complete and seen.exit_code == 0:
        return End(JobState.DONE)
    if job.stop_asked_at is not None:
        return End(JobState.CANCELLED)
    if job.failure is not None:
        return End(JobState.FAILED, job.failure)
    if due:
        because = f"it took longer than the {job.longest_seconds:g} seconds that it may"
        return End(JobState.FAILED, failure("deadline", because, seen.evidence))
    code = "without an exit code" if seen.exit_code is None else f"with exit code {seen.exit_code}"
    return End(JobState.FAILED, failure("unknown", f"its program ended {code} and left no word", seen.evidence))


def failure(cause: str, because: str, evidence: list[str] | None = None) -> dict[str, Any]:
    return {"cause": cause, "because": because, "evidence": evidence or []}
