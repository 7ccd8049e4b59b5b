"""What /metrics asks the database: a fixed number of queries, none of which reads more than the series that come of it or one short table.

The longest is over the ledger, whose rows are an attempt each; nothing reads the recipes of runs that are over, their events or metrics.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Float, Integer, case, extract, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncSession

from service.database import now
from service.events import WHOLE_SERVICE
from service.jobs.tables import WAITING_OR_WORKING, JobRow, JobState
from service.keys.tables import KeyRow
from service.metrics import tallies
from service.metrics.catalogue import CATALOGUE, MOST_PROJECTS, MOST_RUNS
from service.plans.tables import MeasuredStageRow
from service.projects import repository as projects
from service.projects.budget import Caps, Spent
from service.projects.tables import ProjectRow
from service.runs import repository as runs
from service.runs.states import HOLDS_MACHINES, State
from service.runs.tables import SWEPT, WORKER, HeartbeatRow, OutboxRow, RunRow
from service.usage import repository as ledger
from service.usage.tables import UsageRow
from service.webhooks.tables import DeliveryRow, WebhookRow

USED_LATELY = timedelta(days=30)
"""A key that nobody has used for longer may expire unnoticed."""
WAITS = CATALOGUE["dayrun_queue_wait_seconds"].buckets
STARTS = CATALOGUE["dayrun_first_step_seconds"].buckets
RATIOS = CATALOGUE["dayrun_estimate_step_ratio"].buckets


class Live(NamedTuple):
    """A run that holds machines."""

    id: str
    name: str
    project_id: str
    state: State
    recipe: dict[str, Any]
    attempt: int
    step: int
    total_steps: int
    world_size: int
    dollars_per_accelerator_hour: float
    accelerator_seconds: float
    holding_since: datetime | None
    predicted_dollars: float | None
    predicted_hours: float | None
    figures: dict[str, Any] | None


class Spread(NamedTuple):
    """A histogram: how many values are at most each bound, in order, how many there are, and their sum."""

    at_most: tuple[int, ...]
    number: int
    sum: float

    def __add__(self, other: object) -> "Spread":
        assert isinstance(other, Spread)
        both = tuple(a + b for a, b in zip(self.at_most, other.at_most, strict=True))
        return Spread(both, self.number + other.number, self.sum + other.sum)


class Attempts(NamedTuple):
    """Attempts of one project that ended for one cause; None: that are not over."""

    project_id: str
    cause: str | None
    number: int
    dollars: float
    accelerator_seconds: float
    waited: Spread
    started: Spread


class Waiting(NamedTuple):
    """How many, and since when the oldest."""

    number: int
    since: datetime | None


@dataclass
class Rows:
    """One look at the database."""

    at: datetime
    states: dict[State, int]
    live: list[Live]
    beats: dict[str, datetime]
    tallies: dict[str, float]
    queued_since: datetime | None
    outbox: Waiting
    deliveries: Waiting
    jobs: dict[tuple[str, str], Waiting]
    keys: dict[str, datetime]
    attempts: list[Attempts]
    held: list[tuple[str, int, float]]
    spent: dict[str, Spent]
    caps: dict[str, Caps]
    ratios: dict[str, Spread]
    projects: list[str]
    """Those with series of their own: the oldest, so that a counter never moves from one series to another."""


async def look(session: AsyncSession) -> Rows:
    """Raises SQLAlchemyError while the database is away."""
    at = now()
    oldest = select(ProjectRow.id).order_by(ProjectRow.created_at, ProjectRow.id).limit(MOST_PROJECTS)
    named = list((await session.scalars(oldest)).all())
    return Rows(
        at,
        states=await runs.count_by_state(session),
        live=await live_runs(session),
        beats=await beats(session),
        tallies=await tallies.all_of(session),
        queued_since=await runs.oldest_queued(session),
        outbox=await outbox(session, at),
        deliveries=await due_deliveries(session),
        jobs=await jobs(session),
        keys=await next_to_expire(session, at),
        attempts=await attempts(session),
        held=await ledger.held_by_project(session),
        spent=await ledger.spent(session, named, at),
        caps=await projects.capped(session),
        ratios=await step_ratios(session),
        projects=named,
    )


async def live_runs(session: AsyncSession) -> list[Live]:
    """Those that hold most accelerators, at most MOST_RUNS."""
    columns = [getattr(RunRow, name) for name in Live._fields]
    query = select(*columns).where(RunRow.state.in_(HOLDS_MACHINES)).order_by(RunRow.world_size.desc(), RunRow.id).limit(MOST_RUNS)
    return [Live(*row) for row in (await session.execute(query)).all()]


async def beats(session: AsyncSession) -> dict[str, datetime]:
    rows = await session.execute(select(HeartbeatRow.part, HeartbeatRow.time).where(HeartbeatRow.part.in_((WORKER, SWEPT))))
    return {row.part: row.time for row in rows.all()}


async def outbox(session: AsyncSession, at: datetime) -> Waiting:
    """A look that an older service wrote down does not say since when it is due: it counts as new."""
    count, since = (await session.execute(select(func.count(), func.min(OutboxRow.due_at)))).one()
    return Waiting(count, since or (at if count else None))


async def due_deliveries(session: AsyncSession) -> Waiting:
    """Of webhooks that are not disabled."""
    query = select(func.count(), func.min(DeliveryRow.created_at)).join(WebhookRow, WebhookRow.id == DeliveryRow.webhook_id)
    count, since = (await session.execute(query.where(DeliveryRow.state == "due", WebhookRow.disabled_at.is_(None)))).one()
    return Waiting(count, since)


async def jobs(session: AsyncSession) -> dict[tuple[str, str], Waiting]:
    """(kind, state) → those that are not over."""
    query = select(JobRow.kind, JobRow.state, func.count(), func.min(JobRow.created_at)).where(JobRow.state.in_(WAITING_OR_WORKING))
    rows = await session.execute(query.group_by(JobRow.kind, JobRow.state))
    return {(str(kind), str(JobState(state))): Waiting(count, since) for kind, state, count, since in rows.all()}


async def next_to_expire(session: AsyncSession, at: datetime) -> dict[str, datetime]:
    """Project → when the next of its keys expires that is in use."""
    in_use = (KeyRow.revoked_at.is_(None), KeyRow.expires_at > at, KeyRow.last_used_at > at - USED_LATELY)
    rows = await session.execute(select(KeyRow.project_id, func.min(KeyRow.expires_at)).where(*in_use).group_by(KeyRow.project_id))
    return {project_id or WHOLE_SERVICE: when for project_id, when in rows.all() if when is not None}


async def attempts(session: AsyncSession) -> list[Attempts]:
    """The ledger, added up by project and cause."""
    over = UsageRow.held_until.is_not(None)
    cause = case((over, func.coalesce(UsageRow.cause, "unknown")), else_=None)
    held = UsageRow.accelerators * seconds_between(session, UsageRow.held_from, UsageRow.held_until)
    sums = [func.count(), func.sum(UsageRow.dollars), func.sum(held)]
    query = select(
        UsageRow.project_id,
        cause.label("ended_by"),
        *sums,
        *spread(UsageRow.waited_seconds, WAITS),
        *spread(UsageRow.start_seconds, STARTS),
    )
    rows: Any = (await session.execute(query.group_by(UsageRow.project_id, literal_column("ended_by")))).all()
    first, second = 5, 5 + len(WAITS) + 2
    return [
        Attempts(row[0], row[1], row[2], row[3] or 0.0, float(row[4] or 0.0), spread_of(row[first:second]), spread_of(row[second:]))
        for row in rows
    ]


async def step_ratios(session: AsyncSession) -> dict[str, Spread]:
    """Accelerator → seconds of a step over those planned, of every stage that was measured."""
    ratio = MeasuredStageRow.step_seconds / MeasuredStageRow.predicted_step_seconds
    query = select(MeasuredStageRow.accelerator, *spread(ratio, RATIOS)).where(MeasuredStageRow.predicted_step_seconds > 0)
    rows = await session.execute(query.group_by(MeasuredStageRow.accelerator))
    return {row[0]: spread_of(row[1:]) for row in rows.all()}


def spread(value: Any, bounds: tuple[float, ...]) -> list[ColumnElement[Any]]:
    """Columns of a Spread: nulls are in none of them."""
    at_most = [func.sum(case((value <= bound, 1), else_=0), type_=Integer) for bound in bounds]
    return [*at_most, func.count(value), func.sum(value)]


def spread_of(columns: Any) -> Spread:
    *at_most, count, total = columns
    return Spread(tuple(int(one or 0) for one in at_most), count, float(total or 0.0))


def seconds_between(session: AsyncSession, start: Any, end: Any) -> ColumnElement[Any]:
    if session.get_bind().dialect.name == "postgresql":
        return extract("epoch", end - start)
    return (func.julianday(end, type_=Float) - func.julianday(start, type_=Float)) * 86400.0
