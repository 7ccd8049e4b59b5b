"""The decision about one job, as a table."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.jobs.decide import End, Standing, Start, Step, Stop, Wait, next_step
from service.jobs.tables import JobState
from service.launchers import Launched, Observation

NOW = datetime(2026, 11, 1, tzinfo=UTC)
LONGEST = 60.0
ABSENT, RUNNING = Observation(Launched.ABSENT), Observation(Launched.RUNNING)
DONE, KILLED = Observation(Launched.ENDED, 0), Observation(Launched.ENDED, -9, evidence=["the launcher's own process was killed"])
SAID = {"cause": "storage", "because": "no checkpoint of step 5", "evidence": []}


def job(state: JobState, **more: Any) -> Standing:
    working = {"started_at": NOW} if state == JobState.WORKING else {"started_at": None}
    standing: dict[str, Any] = {
        "state": state,
        **working,
        "stop_asked_at": None,
        "longest_seconds": LONGEST,
        "ours": True,
        "room": True,
        "complete": False,
        "failure": None,
    }
    return Standing(**(standing | more))


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


Q, W = JobState.QUEUED, JobState.WORKING


@pytest.mark.parametrize(
    ("standing", "seen", "step"),
    [
        (job(Q), ABSENT, Start()),
        (job(Q, room=False), ABSENT, Wait()),
        (job(Q, stop_asked_at=NOW), ABSENT, End(JobState.CANCELLED)),
        (job(W), RUNNING, Wait()),
        (job(W), ABSENT, Start()),  # whoever ordered it died before it began
        (job(W, complete=True), DONE, End(JobState.DONE)),
        (job(W, stop_asked_at=NOW), RUNNING, Stop(force=False)),
        (job(W, stop_asked_at=ago(11)), RUNNING, Stop(force=True)),
        (job(W, stop_asked_at=NOW), ABSENT, Stop(force=False)),  # never started after it was asked to stop
        (job(W, stop_asked_at=NOW), KILLED, End(JobState.CANCELLED)),
        (job(W, stop_asked_at=NOW, complete=True), DONE, End(JobState.DONE)),  # it was faster
        (job(W, started_at=ago(LONGEST + 1)), RUNNING, Stop(force=True)),
        (job(W, failure=SAID), Observation(Launched.ENDED, 70), End(JobState.FAILED, SAID)),
        (job(W, ours=False), ABSENT, Wait()),
        (job(JobState.DONE), ABSENT, Wait()),
    ],
)
def test_one_step(standing: Standing, seen: Observation, step: Step):
    assert next_step(standing, seen, NOW) == step


@pytest.mark.parametrize(
    ("standing", "seen", "cause", "because"),
    [
        (job(W, started_at=ago(LONGEST + 1)), KILLED, "deadline", "longer than the 60 seconds"),
        (job(W), KILLED, "unknown", "with exit code -9"),
        (job(W), DONE, "unknown", "with exit code 0"),  # its word alone is no picture
        (job(W, ours=False, started_at=ago(2 * LONGEST + 1)), ABSENT, "unknown", "machine"),
    ],
)
def test_a_failure_names_its_cause(standing: Standing, seen: Observation, cause: str, because: str):
    step = next_step(standing, seen, NOW)
    assert isinstance(step, End)
    assert step.because is not None
    assert (step.state, step.because["cause"]) == (JobState.FAILED, cause)
    assert because in step.because["because"]
