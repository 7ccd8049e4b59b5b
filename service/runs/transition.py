"""A move of a run, written down: its row, its event, its hint, and what its machines have cost."""

from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from service import events
from service.access import SERVICE
from service.database import now
from service.runs.cost import used_accelerator_seconds
from service.runs.placement import Code, Waiting, between_attempts
from service.runs.states import OVER, Move, State, after
from service.runs.tables import OutboxRow, RunRow
from service.usage import repository as ledger


def move(
    session: AsyncSession, run: RunRow, wanted: Move, cause: str | None = None, evidence: list[str] | None = None, by: str = SERVICE
) -> None:
    """Change a run's state, and say so in the log and in the outbox. Raises NoSuchMove."""
    before, at = State(run.state), now()
    run.state = after(before, wanted)
    run.updated_at, run.version = at, run.version + 1
    # the cause of a fault stays readable while the run waits for its next attempt; a person's move wipes it
    if cause is not None or wanted in (Move.RESUME, Move.SUCCEED, Move.CANCEL, Move.START, Move.PAUSE):
        run.cause, run.evidence = cause, evidence or []
    if wanted == Move.LAUNCH:
        run.holding_since, run.stop_asked_at, run.next_attempt_at = at, None, None
        run.started_at = run.started_at or at
    if wanted == Move.RESUME:
        run.faults, run.ended_at, run.next_attempt_at = 0, None, None
        run.forgotten = None
    if run.state in OVER:
        run.ended_at = at
    run.waiting = None
    if run.state == State.QUEUED:
        run.queued_at, run.waiting = at, just_queued(run).as_json()
    said: dict[str, Any] = {"cause": cause, "evidence": evidence or []} if cause else {}
    if wanted == Move.RETRY and run.next_attempt_at:
        said["next_attempt_at"] = run.next_attempt_at.isoformat()
    events.record(session, run, "state_changed", by=by, at=at, **{"from": before, "to": run.state}, move=wanted, **said)
    session.add(OutboxRow(run_id=run.id, due_at=at))


def just_queued(run: RunRow) -> Waiting:
    """Why it waits, until the queue is next looked at."""
    if run.next_attempt_at is not None:
        return between_attempts(run.next_attempt_at)
    return Waiting(Code.STARTING, "it has just been queued; the queue is looked at every few moments")


async def settle_cost(session: AsyncSession, run: RunRow, ended_at: datetime, cause: str | None) -> None:
    """The attempt holds its machines no longer, for a cause or because it was done."""
    await ledger.end(session, run, ended_at, cause)
    run.accelerator_seconds, run.holding_since = used_accelerator_seconds(run, ended_at), None
