"""A database that was restored from a backup is behind its runs: they go on with the attempts that train meanwhile, and lose nothing."""

from collections.abc import Collection

from sqlalchemy.ext.asyncio import AsyncSession

from service import events
from service.database import Database, now
from service.runs import repository
from service.runs.states import ACTIVE, HOLDS_MACHINES, Move, State
from service.runs.transition import move, settle_cost
from service.usage import repository as ledger


async def adopt(database: Database, unfinished: Collection[tuple[str, int]]) -> None:
    """Make every attempt of `unfinished` that is newer than its run's row the run's own, where the run is to train.

    A row is committed before its attempt is launched, so that none can be newer but after a restore.
    """
    if not unfinished:
        return
    async with database.read() as session:
        known = await repository.attempts_of(session, {run_id for run_id, _ in unfinished})
    for run_id, attempt in sorted(unfinished):
        if run_id in known and attempt > known[run_id].attempt and known[run_id].state in ACTIVE:
            async with database.write() as session:
                await go_on_with(session, run_id, attempt)


async def go_on_with(session: AsyncSession, run_id: str, attempt: int) -> None:
    run, at = await repository.get(session, run_id, to_change=True), now()
    if run is None or run.attempt >= attempt or run.state not in ACTIVE:
        return
    if run.leased_until is not None and run.leased_until > at:
        return  # what its holder sees is of the older attempt; the next sweep comes soon
    if run.state in HOLDS_MACHINES:
        await settle_cost(session, run, at, "unknown")  # nobody knows when the one ended and the other began: they held the same machines
    run.attempt, run.outcome = attempt, None
    if run.state == State.QUEUED:
        move(session, run, Move.LAUNCH)
    run.holding_since = at
    run.version += 1
    ledger.begin(session, run, at)
    events.record(session, run, "attempt_adopted", at=at)
