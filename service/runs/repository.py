"""The queries on runs. No decision is made here."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import bindparam, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from dayrun.run_folder import Metric
from service import events
from service.database import now, upsert
from service.metrics import tallies
from service.runs.placement import Code
from service.runs.states import HOLDS_MACHINES, State
from service.runs.tables import SWEPT, EventRow, HeartbeatRow, MetricRow, OutboxRow, RunRow

ROWS_A_STATEMENT = 500
"""SQLite takes 32,766 variables in a statement."""


async def get(session: AsyncSession, run_id: str, *, to_change: bool = False) -> RunRow | None:
    """The run; `to_change` locks its row until the transaction ends (SQLite's writers hold the only write lock anyway)."""
    run = await session.get(RunRow, run_id, populate_existing=True, with_for_update=to_change)
    if run is not None and to_change and run.chain_length == 0:  # made by a service that did not chain events yet
        await events.chain_older(session, run)
    return run


class StandingNow(NamedTuple):
    state: State
    attempt: int
    chain_length: int


async def standing(session: AsyncSession, run_id: str) -> StandingNow | None:
    """The little of a run that its streams look at."""
    found = (await session.execute(select(RunRow.state, RunRow.attempt, RunRow.chain_length).where(RunRow.id == run_id))).first()
    return StandingNow(State(found[0]), found[1], found[2]) if found else None


async def version_of(session: AsyncSession, run_id: str) -> int | None:
    """To see whether it has changed, without its recipe."""
    return await session.scalar(select(RunRow.version).where(RunRow.id == run_id))


async def page(
    session: AsyncSession, before: str | None, states: list[State], limit: int, projects: list[str] | None = None
) -> list[RunRow]:
    """Runs of `projects` (None: of all), newest first, with ids below `before`; ids sort by the time they were made."""
    query = select(RunRow).order_by(RunRow.id.desc()).limit(limit)
    if before:
        query = query.where(RunRow.id < before)
    if states:
        query = query.where(RunRow.state.in_(states))
    if projects is not None:
        query = query.where(RunRow.project_id.in_(projects))
    return list((await session.scalars(query)).all())


async def lease(session: AsyncSession, run_ids: list[str], owner: str, seconds: float) -> list[RunRow]:
    """Take the right to act on those of `run_ids` that hold machines and that nobody else has. Few statements, however many they are."""
    at = now()
    lapsed = select(func.count()).where(RunRow.id.in_(run_ids), RunRow.leased_by.is_not(None), RunRow.leased_until < at)
    if stolen := await session.scalar(lapsed):  # whoever had them died, or stalled
        await tallies.add(session, **{tallies.LEASE_STEALS: stolen})
    free = or_(RunRow.leased_until.is_(None), RunRow.leased_until < at)
    wanted = select(RunRow.id).where(RunRow.id.in_(run_ids), RunRow.state.in_(HOLDS_MACHINES), free)
    # in one order, and past what somebody is changing now: two that take many rows would wait for each other otherwise
    mine = wanted.order_by(RunRow.id).with_for_update(skip_locked=len(run_ids) > 1)
    await session.execute(
        update(RunRow)
        .where(RunRow.id.in_(mine))
        .values(leased_by=owner, leased_until=at + timedelta(seconds=seconds))
        .execution_options(synchronize_session=False)
    )
    rows = select(RunRow).where(RunRow.id.in_(run_ids), RunRow.leased_by == owner).order_by(RunRow.id)
    return list((await session.scalars(rows.execution_options(populate_existing=True))).all())


async def is_leased(session: AsyncSession, run_id: str) -> bool:
    """Whether somebody acts on the run now."""
    query = select(RunRow.id).where(RunRow.id == run_id, RunRow.state.in_(HOLDS_MACHINES), RunRow.leased_until >= now())
    return await session.scalar(query) is not None


async def leased(session: AsyncSession, run_id: str, owner: str) -> RunRow | None:
    """The run, to change it, as long as `owner` still holds its lease."""
    run = await get(session, run_id, to_change=True)
    return run if run is not None and run.leased_by == owner and run.leased_until is not None and run.leased_until > now() else None


async def release(session: AsyncSession, run_ids: list[str], owner: str) -> None:
    mine = select(RunRow.id).where(RunRow.id.in_(run_ids), RunRow.leased_by == owner).order_by(RunRow.id).with_for_update()
    free = update(RunRow).where(RunRow.id.in_(mine)).values(leased_by=None, leased_until=None)
    await session.execute(free.execution_options(synchronize_session=False))


async def holding_ids(session: AsyncSession) -> list[str]:
    """Runs whose attempt holds machines: what a launcher must be asked about."""
    return list((await session.scalars(select(RunRow.id).where(RunRow.state.in_(HOLDS_MACHINES)).order_by(RunRow.id))).all())


class Newest(NamedTuple):
    attempt: int
    state: State


async def attempts_of(session: AsyncSession, run_ids: Collection[str]) -> dict[str, Newest]:
    """The newest attempt of each of `run_ids` that there is, and the state of its run."""
    rows = await session.execute(select(RunRow.id, RunRow.attempt, RunRow.state).where(RunRow.id.in_(run_ids)))
    return {run_id: Newest(attempt, State(state)) for run_id, attempt, state in rows.all()}


async def is_unplaced(session: AsyncSession, run_id: str) -> bool:
    """Whether the run is queued and it is not known where it stands, or its next attempt is due.

    What waits for others is placed when they end, or by the sweep: a thousand hints must not place a queue a thousand times.
    """
    query = select(RunRow.waiting, RunRow.next_attempt_at).where(RunRow.id == run_id, RunRow.state == State.QUEUED)
    for waiting, next_attempt_at in (await session.execute(query)).all():
        code = Code(waiting["code"]) if waiting else Code.STARTING
        return code == Code.STARTING or (code == Code.RETRY_DELAY and (next_attempt_at is None or next_attempt_at <= now()))
    return False


class InLine(NamedTuple):
    """What the queue's order and expected starts are made of; a recipe is too much to read for thousands of runs a second."""

    id: str
    project_id: str
    state: State
    priority: int
    world_size: int
    next_attempt_at: datetime | None
    stop_asked_at: datetime | None
    holding_since: datetime | None
    accelerator_seconds: float
    predicted_hours: float | None
    step: int
    total_steps: int
    step_seconds: float | None
    waiting: dict[str, Any] | None


async def in_line(session: AsyncSession, states: Collection[State]) -> list[InLine]:
    """Every run in one of `states`."""
    columns = [getattr(RunRow, name) for name in InLine._fields]
    return [InLine(*row) for row in (await session.execute(select(*columns).where(RunRow.state.in_(states)))).all()]


async def lock_queued(session: AsyncSession, run_ids: list[str]) -> list[RunRow]:
    """Those of `run_ids` that are queued and that nobody else is changing now, locked, in the order of `run_ids`.

    To wait for a lock with others in hand could wait for ever: who holds it may be waiting for one of ours.
    """
    if not run_ids:
        return []
    query = select(RunRow).where(RunRow.id.in_(run_ids), RunRow.state == State.QUEUED).with_for_update(skip_locked=True)
    found = {row.id: row for row in (await session.scalars(query.execution_options(populate_existing=True))).all()}
    return [found[run_id] for run_id in run_ids if run_id in found]


async def put_waiting(session: AsyncSession, waiting: dict[str, dict[str, Any]], at: datetime) -> None:
    """Write down what queued runs wait for, but for rows that somebody else is changing now. Rows are not read: they may be thousands."""
    run_ids = list(waiting)
    change = (
        update(RunRow).where(RunRow.id == bindparam("of_run")).values(waiting=bindparam("said"), version=RunRow.version + 1, updated_at=at)
    )
    for first in range(0, len(run_ids), ROWS_A_STATEMENT):
        some = RunRow.id.in_(run_ids[first : first + ROWS_A_STATEMENT])
        query = select(RunRow.id).where(some, RunRow.state == State.QUEUED).with_for_update(skip_locked=True)
        free = (await session.scalars(query)).all()
        if free:
            connection = await session.connection()
            await connection.execute(change, [{"of_run": run_id, "said": waiting[run_id]} for run_id in free])


async def oldest_queued(session: AsyncSession) -> datetime | None:
    """When the run that waits longest joined the queue."""
    joined = func.min(func.coalesce(RunRow.queued_at, RunRow.created_at))
    return await session.scalar(select(joined).where(RunRow.state == State.QUEUED))


async def count_by_state(session: AsyncSession) -> dict[State, int]:
    rows = await session.execute(select(RunRow.state, func.count()).group_by(RunRow.state))
    return {State(state): count for state, count in rows.all()}


async def put_metrics(session: AsyncSession, run_id: str, lines: list[Metric], time: dict[int, datetime]) -> None:
    """Keep measured values; a step that was measured before gets its new value. `time`: of each step."""
    rows = {
        (m["name"], m["step"]): {"run_id": run_id, "name": m["name"], "step": m["step"], "value": m["value"], "time": time[m["step"]]}
        for m in lines
    }
    values = list(rows.values())
    for first in range(0, len(values), ROWS_A_STATEMENT):
        statement = upsert(session, MetricRow).values(values[first : first + ROWS_A_STATEMENT])
        new = {"value": statement.excluded.value, "time": statement.excluded.time}
        await session.execute(statement.on_conflict_do_update(index_elements=["run_id", "name", "step"], set_=new))


async def series(session: AsyncSession, run_id: str, name: str) -> list[tuple[int, float, datetime]]:
    """(step, value, time) of one metric, by step."""
    query = select(MetricRow.step, MetricRow.value, MetricRow.time).where(MetricRow.run_id == run_id, MetricRow.name == name)
    return [(step, value, time) for step, value, time in (await session.execute(query.order_by(MetricRow.step))).all()]


async def metric_names(session: AsyncSession, run_id: str) -> list[str]:
    return list((await session.scalars(select(MetricRow.name).where(MetricRow.run_id == run_id).distinct().order_by(MetricRow.name))).all())


async def traceparent_of(session: AsyncSession, run_id: str) -> str | None:
    """Of the request that made the run, as its first event tells; None where no spans were made then, or the event is forgotten."""
    data = await session.scalar(select(EventRow.data).where(EventRow.run_id == run_id, EventRow.sequence == 1))
    return data.get("traceparent") if data else None


async def outbox(session: AsyncSession, run_id: str | None = None, limit: int = 1000) -> dict[str, list[int]]:
    """Runs that a look is due for (or one of them), the longest due first, with the rows that say so."""
    query = select(OutboxRow).order_by(OutboxRow.id).limit(limit)
    if run_id is not None:
        query = query.where(OutboxRow.run_id == run_id)
    due: dict[str, list[int]] = {}
    for row in (await session.scalars(query)).all():
        due.setdefault(row.run_id, []).append(row.id)
    return due


async def clear_outbox(session: AsyncSession, rows: list[int]) -> None:
    """These looks were taken. Rows that another worker is clearing are left to it."""
    mine = select(OutboxRow.id).where(OutboxRow.id.in_(rows)).with_for_update(skip_locked=True)
    await session.execute(delete(OutboxRow).where(OutboxRow.id.in_(mine)))


async def beat(session: AsyncSession, part: str, at: datetime | None = None) -> None:
    """Note that `part` is at work, or was at `at`."""
    statement = upsert(session, HeartbeatRow).values(part=part, time=at or now())
    await session.execute(statement.on_conflict_do_update(index_elements=["part"], set_={"time": statement.excluded.time}))


async def swept(at: datetime, session: AsyncSession) -> None:
    """A sweep that began at `at` has seen everything: how far we are behind is told by it."""
    await beat(session, SWEPT, at)
    await tallies.add(session, **{tallies.SWEEPS: 1, tallies.SWEEP_SECONDS: (now() - at).total_seconds()})


async def last_beat(session: AsyncSession, part: str) -> datetime | None:
    return await session.scalar(select(HeartbeatRow.time).where(HeartbeatRow.part == part))
