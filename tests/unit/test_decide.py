"""What the reconciler decides, as a table: no service, no clock."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from service.launchers import Launched, Observation
from service.runs.decide import Change, Launch, Standing, Stop, Wait, next_step, wait_before_retry
from service.runs.states import MOVES, OVER, Move, NoSuchMove, State, after, personal_moves

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ABSENT, RUNNING, UNREACHABLE = (Observation(kind) for kind in (Launched.ABSENT, Launched.RUNNING, Launched.UNREACHABLE))
GOOD = Observation(Launched.ENDED, 0)
KILLED = Observation(Launched.ENDED, 1, evidence=["rank 1 was killed by SIGKILL (pid 7)"])
LOST = Observation(Launched.ENDED, None)


def run(state: State, **more) -> Standing:
    known = {
        "attempt": 1,
        "began": True,
        "outcome": None,
        "faults": 0,
        "attempts_allowed": 3,
        "wait_seconds": 2.0,
        "next_attempt_at": None,
        "stop_asked_at": None,
        "stop_seconds": 60.0,
    }
    return Standing(state=state, **(known | more))


def ended(outcome: str, cause: str | None = None) -> dict:
    return {"outcome": outcome, "cause": cause, "evidence": ["the trainer's own line"] if cause else []}


@pytest.mark.parametrize(
    ("standing", "seen", "step"),
    [
        (run(State.QUEUED, attempt=0), ABSENT, Launch(1)),
        (run(State.QUEUED), ABSENT, Launch(2)),
        (run(State.QUEUED, next_attempt_at=NOW + timedelta(seconds=1)), ABSENT, Wait()),
        (run(State.QUEUED, next_attempt_at=NOW), ABSENT, Launch(2)),
        (run(State.QUEUED, over_limit=("budget", "all is spent")), ABSENT, Change(Move.PAUSE, "budget", ["all is spent"])),
        (run(State.LAUNCHING, began=False), ABSENT, Launch(1)),  # ordered, and whoever ordered it died: the same attempt again
        (run(State.LAUNCHING, began=False), RUNNING, Wait()),
        (run(State.LAUNCHING), RUNNING, Change(Move.START)),
        (run(State.LAUNCHING, outcome=ended("succeeded")), GOOD, Change(Move.SUCCEED)),  # too short to be seen running
        (run(State.RUNNING), RUNNING, Wait()),
        (run(State.RUNNING), UNREACHABLE, Wait()),  # unreachable is not failed
        (run(State.RUNNING), ABSENT, Launch(1)),
        (run(State.RUNNING, over_limit=("deadline", "late")), RUNNING, Change(Move.PAUSE, "deadline", ["late"])),
        (run(State.RUNNING, outcome=ended("succeeded"), over_limit=("deadline", "late")), GOOD, Change(Move.SUCCEED)),
        (run(State.RUNNING, outcome=ended("succeeded")), GOOD, Change(Move.SUCCEED)),
        (run(State.PAUSING), RUNNING, Stop()),
        (run(State.PAUSING, stop_asked_at=NOW - timedelta(seconds=59)), RUNNING, Stop()),
        (run(State.PAUSING, stop_asked_at=NOW - timedelta(seconds=61)), RUNNING, Stop(force=True)),
        (run(State.PAUSING), ABSENT, Stop()),  # what never began must never begin
        (run(State.PAUSING, outcome=ended("stopped")), KILLED, Change(Move.STOPPED)),
        (run(State.PAUSING, outcome=ended("succeeded")), GOOD, Change(Move.SUCCEED)),
        (run(State.PAUSING), UNREACHABLE, Wait()),
        (run(State.CANCELLING, outcome=ended("succeeded")), GOOD, Change(Move.STOPPED)),
        (run(State.CANCELLING), LOST, Change(Move.STOPPED)),
        *((run(state), RUNNING, Wait()) for state in (*OVER, State.PAUSED)),
    ],
)
def test_next_step(standing: Standing, seen: Observation, step: object):
    assert next_step(standing, seen, NOW) == step


@pytest.mark.parametrize("cause", ["spec", "data", "diverged"])
def test_what_another_attempt_would_only_meet_again_fails_at_once(cause: str):
    step = next_step(run(State.RUNNING, outcome=ended("failed", cause)), KILLED, NOW)
    assert step == Change(Move.FAIL, cause, ["the trainer's own line", "rank 1 was killed by SIGKILL (pid 7)"])


@pytest.mark.parametrize(
    ("outcome", "seen", "cause"),
    [
        (ended("failed", "oom"), KILLED, "oom"),
        (ended("failed", "storage"), KILLED, "storage"),
        (ended("stopped"), KILLED, "preempted"),
        (None, KILLED, "unknown"),
        (None, LOST, "unknown"),
        (None, GOOD, "unknown"),  # exit code 0 without the trainer's word is no success
    ],
)
def test_everything_else_is_tried_again_with_its_cause(outcome: dict | None, seen: Observation, cause: str):
    step = next_step(run(State.RUNNING, outcome=outcome), seen, NOW)
    assert isinstance(step, Change)
    assert (step.move, step.cause, step.next_attempt_at) == (Move.RETRY, cause, NOW + timedelta(seconds=2))
    assert step.evidence


def test_retries_are_bounded_and_spaced():
    waits, standing = [], run(State.RUNNING, attempts_allowed=4)
    while isinstance(step := next_step(standing, KILLED, NOW), Change) and step.move == Move.RETRY:
        assert step.next_attempt_at
        waits.append((step.next_attempt_at - NOW).total_seconds())
        standing = replace(standing, faults=standing.faults + 1)
    assert waits == [2, 4, 8]
    assert isinstance(step, Change)
    assert step.move == Move.FAIL
    assert "was the last of 4" in step.evidence[0]
    assert wait_before_retry(2.0, 30) == 300


def test_every_state_can_be_reached_and_final_ones_stay():
    reached = {State.QUEUED}
    for _ in State:
        reached |= {target for state in reached for target in MOVES[state].values()}
    assert reached == set(State)
    assert MOVES[State.SUCCEEDED] == MOVES[State.CANCELLED] == {}


def test_a_move_that_does_not_exist_names_those_that_do():
    with pytest.raises(NoSuchMove) as refused:
        after(State.PAUSED, Move.PAUSE)
    assert refused.value.moves == [Move.RESUME, Move.CANCEL] == personal_moves(State.PAUSED)
