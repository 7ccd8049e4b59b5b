"""The queries on the ledger. No decision is made here; periods and sums over their edges are `ledger.py`'s."""

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from service.projects.budget import Spent, still_to_spend
from service.runs.cost import used_dollars
from service.runs.states import OVER
from service.runs.tables import RunRow
from service.usage.ledger import Holding, day_of, dollars_within, month_of
from service.usage.tables import NO_CAUSE, UsageRow


def holding_of(row: UsageRow) -> Holding:
    return Holding(row.accelerators, row.dollars_per_accelerator_hour, row.held_from, row.held_until)


def begin(session: AsyncSession, run: RunRow, at: datetime, waited_seconds: float | None = None) -> None:
    """The newest attempt of `run` holds its accelerators from now on. waited_seconds: in the queue, where it comes from there."""
    row = row_of(run, at)
    row.waited_seconds = waited_seconds
    session.add(row)


async def began_to_train(session: AsyncSession, run: RunRow, start_seconds: float) -> None:
    """The newest attempt of `run` took its first step so long after its launch."""
    mine = (UsageRow.run_id == run.id, UsageRow.attempt == run.attempt, UsageRow.start_seconds.is_(None))
    await session.execute(update(UsageRow).where(*mine).values(start_seconds=start_seconds).execution_options(synchronize_session=False))


def row_of(run: RunRow, at: datetime) -> UsageRow:
    return UsageRow(
        run_id=run.id,
        attempt=run.attempt,
        project_id=run.project_id,
        accelerators=run.world_size,
        dollars_per_accelerator_hour=run.dollars_per_accelerator_hour,
        held_from=at,
    )


async def end(session: AsyncSession, run: RunRow, at: datetime, cause: str | None) -> None:
    """The newest attempt of `run` holds them no longer. Call it before the run forgets since when it held them."""
    row = await session.get(UsageRow, (run.id, run.attempt))
    if row is None:  # launched by a service that knew no ledger yet
        row = row_of(run, run.holding_since or at)
        session.add(row)
    if row.held_until is None:
        until = row.held_until = max(at, row.held_from)
        row.cause = cause or NO_CAUSE
        row.dollars = dollars_within(holding_of(row), row.held_from, until)


async def of_run(session: AsyncSession, run_id: str) -> list[UsageRow]:
    """Attempts, oldest first."""
    return list((await session.scalars(select(UsageRow).where(UsageRow.run_id == run_id).order_by(UsageRow.attempt))).all())


async def of_project(session: AsyncSession, project_id: str, since: datetime) -> list[UsageRow]:
    """Attempts that held accelerators after `since`."""
    lasted = or_(UsageRow.held_until.is_(None), UsageRow.held_until > since)
    return list((await session.scalars(select(UsageRow).where(UsageRow.project_id == project_id, lasted))).all())


async def held_by_project(session: AsyncSession) -> list[tuple[str, int, float]]:
    """(project, accelerators, dollars per hour) that are held now, those that burn most first."""
    burn = func.sum(UsageRow.accelerators * UsageRow.dollars_per_accelerator_hour)
    columns = (UsageRow.project_id, func.sum(UsageRow.accelerators), burn)
    query = select(*columns).where(UsageRow.held_until.is_(None)).group_by(UsageRow.project_id).order_by(burn.desc(), UsageRow.project_id)
    return [(project_id, accelerators, dollars) for project_id, accelerators, dollars in (await session.execute(query)).all()]


async def spent(session: AsyncSession, projects: Collection[str], at: datetime) -> dict[str, Spent]:
    """What each of `projects` has spent on the day and in the month of `at`, until then.

    The database adds up whole attempts; the few that are under way, or that went on over midnight, are cut here.
    """
    day, month = day_of(at), month_of(at)
    mine = UsageRow.project_id.in_(projects)
    since_month = and_(mine, UsageRow.held_from >= month.start, UsageRow.held_until.is_not(None))
    today = func.sum(case((UsageRow.held_from >= day.start, UsageRow.dollars), else_=0.0))
    sums = await session.execute(
        select(UsageRow.project_id, today, func.sum(UsageRow.dollars)).where(since_month).group_by(UsageRow.project_id)
    )
    by_day, by_month = defaultdict[str, float](float), defaultdict[str, float](float)
    for project_id, of_day, of_month in sums.all():
        by_day[project_id], by_month[project_id] = of_day or 0.0, of_month or 0.0

    def over(edge: datetime) -> ColumnElement[bool]:
        return and_(UsageRow.held_from < edge, UsageRow.held_until > edge)

    cut = select(UsageRow).where(mine, or_(UsageRow.held_until.is_(None), over(day.start), over(month.start)))
    for row in (await session.scalars(cut)).all():
        holding = holding_of(row)
        by_day[row.project_id] += dollars_within(holding, day.start, at) if not_whole(row, day.start) else 0.0
        by_month[row.project_id] += dollars_within(holding, month.start, at) if not_whole(row, month.start) else 0.0
    return {project_id: Spent(by_day[project_id], by_month[project_id]) for project_id in projects}


def not_whole(row: UsageRow, edge: datetime) -> bool:
    """Whether the sums of attempts that began after `edge` and are over leave this one out."""
    return row.held_until is None or row.held_from < edge


async def about_runs(session: AsyncSession, run_ids: list[str]) -> dict[str, tuple[str, str]]:
    """Run → its name and state."""
    rows = await session.execute(select(RunRow.id, RunRow.name, RunRow.state).where(RunRow.id.in_(run_ids)))
    return {run_id: (name, state) for run_id, name, state in rows.all()}


async def count_unpredicted(session: AsyncSession, project_id: str) -> int:
    """Runs that are not over and of whose cost nothing is known."""
    known = (RunRow.project_id == project_id, RunRow.state.not_in(OVER), RunRow.predicted_dollars.is_(None))
    return await session.scalar(select(func.count()).where(*known)) or 0


async def reserved(session: AsyncSession, project_id: str, at: datetime, without: str | None = None) -> float:
    """Dollars that the project's runs (but `without`) are still expected to cost."""
    of_it: list[Any] = [RunRow.project_id == project_id, RunRow.state.not_in(OVER), RunRow.predicted_dollars.is_not(None)]
    if without is not None:
        of_it.append(RunRow.id != without)
    so_far = RunRow.accelerator_seconds * RunRow.dollars_per_accelerator_hour / 3600
    waits = func.sum(case((RunRow.predicted_dollars > so_far, RunRow.predicted_dollars - so_far), else_=0.0))
    total: float = await session.scalar(select(waits).where(*of_it, RunRow.holding_since.is_(None))) or 0.0
    trains = select(RunRow).where(*of_it, RunRow.holding_since.is_not(None))
    for run in (await session.scalars(trains)).all():
        total += still_to_spend(run.predicted_dollars, used_dollars(run, at))
    return total
