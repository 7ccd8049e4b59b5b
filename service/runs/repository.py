"""The queries on runs. No decision is made here."""

from datetime import datetime, timedelta

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.ext.asyncio import AsyncSession

from dayrun.run_folder import Metric
from service.database import now, upsert
from service.runs.states import ACTIVE, HOLDS_MACHINES, State
from service.runs.tables import HeartbeatRow, MetricRow, OutboxRow, RunRow

ROWS_A_STATEMENT = 500
"""SQLite takes 32,766 variables in a statement."""


async def get(session: AsyncSession, run_id: str, *, to_change: bool = False) -> RunRow | None:
    """The run; `to_change` locks its row until the transaction ends (SQLite's writers hold the only write lock anyway)."""
    return await session.get(RunRow, run_id, populate_existing=True, with_for_update=to_change)


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


async def lease(session: AsyncSession, run_id: str, owner: str, seconds: float) -> RunRow | None:
    """Take the right to act on a run, or None while another holds it or nothing is left to do."""
    at = now()
    free = or_(RunRow.leased_until.is_(None), RunRow.leased_until < at)
    done: CursorResult[object] = await session.execute(  # pyright: ignore[reportAssignmentType]
        update(RunRow)
        .where(RunRow.id == run_id, RunRow.state.in_(ACTIVE), free)
        .values(leased_by=owner, leased_until=at + timedelta(seconds=seconds))
    )
    return await get(session, run_id) if done.rowcount else None


async def leased(session: AsyncSession, run_id: str, owner: str) -> RunRow | None:
    """The run, to change it, as long as `owner` still holds its lease."""
    run = await get(session, run_id, to_change=True)
    return run if run is not None and run.leased_by == owner and run.leased_until is not None and run.leased_until > now() else None


async def release(session: AsyncSession, run_id: str, owner: str) -> None:
    await session.execute(update(RunRow).where(RunRow.id == run_id, RunRow.leased_by == owner).values(leased_by=None, leased_until=None))


async def active_ids(session: AsyncSession) -> list[str]:
    """Runs that a reconciler has something to do for, in the queue's order: by priority, then the oldest first."""
    return list(
        (await session.scalars(select(RunRow.id).where(RunRow.state.in_(ACTIVE)).order_by(RunRow.priority.desc(), RunRow.id))).all()
    )


async def held_machines(session: AsyncSession) -> int:
    """Runs whose attempt holds machines now."""
    return await session.scalar(select(func.count()).where(RunRow.state.in_(HOLDS_MACHINES))) or 0


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


async def take_outbox(session: AsyncSession, limit: int = 1000) -> list[str]:
    """Runs that hints are due for; they count as sent once the transaction commits."""
    rows = (await session.scalars(select(OutboxRow).order_by(OutboxRow.id).limit(limit))).all()
    await session.execute(delete(OutboxRow).where(OutboxRow.id.in_([row.id for row in rows])))
    return list(dict.fromkeys(row.run_id for row in rows))


async def beat(session: AsyncSession, part: str) -> None:
    """Note that `part` is at work."""
    statement = upsert(session, HeartbeatRow).values(part=part, time=now())
    await session.execute(statement.on_conflict_do_update(index_elements=["part"], set_={"time": statement.excluded.time}))


async def last_beat(session: AsyncSession, part: str) -> datetime | None:
    return await session.scalar(select(HeartbeatRow.time).where(HeartbeatRow.part == part))
