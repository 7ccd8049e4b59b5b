"""The append-only event log, and its only writer. What the service decides is written in the same transaction as the change it tells of.

Every run's events are a chain (`dayrun/event_chain.py`) whose head is in the run's row: who records holds that row's lock, so that the
numbers have no gaps and no two events the same one. Events of runs carry on with `record`; what happens to a project as such, to its keys,
members, webhooks or quotas, goes with `record_project` into a chain of the project.

Readers of one run go by `sequence`. Readers of all runs go by `Position`: on Postgres ids are allotted before the commit, so that a reader
by id alone would skip an event that commits late; a position is shown only when nothing before it can still come.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from sqlalchemy import ColumnElement, func, insert, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from dayrun import run_folder
from dayrun.event_chain import Link, digest_of, plain
from dayrun.event_types import EVENT_TYPES
from service.access import SERVICE
from service.audit.tables import AuditChainRow, AuditRow
from service.database import insert_last, now, upsert
from service.http.request_id import present_request_id
from service.runs.tables import EventRow, OutboxRow, RunRow

WHOLE_SERVICE = "*"
"""The project of what concerns no single one: operators' keys, new projects."""


def record(session: AsyncSession, run: RunRow, type: str, *, by: str = SERVICE, at: datetime | None = None, **data: Any) -> EventRow:
    """Add what `by` did to `session`. The run's row must be locked by the caller, or new. No secrets in `data`."""
    event = EventRow(
        time=at or now(), type=described(type), attempt=run.attempt, step=run.step, data=data, actor=by, request_id=caused_by()
    )
    chain(run, event)
    session.add(event)
    return event


async def record_from_trainer(session: AsyncSession, run: RunRow, told: list[run_folder.Event]) -> None:
    """Add events that the run folder holds, in one statement; their times are the trainer's."""
    rows: list[dict[str, Any]] = []
    for event in told:
        time = datetime.fromtimestamp(event["time"], UTC)
        row = EventRow(time=time, type=event["type"], attempt=event["attempt"], step=event["step"], data=event["data"])
        chain(run, row)
        rows.append({name: getattr(row, name) for name in ("run_id", "sequence", "time", "type", "attempt", "step", "data", "digest")})
    if rows:
        await session.execute(insert(EventRow), rows)


def described(type: str) -> str:
    """`type` of an event of ours. Raises ValueError for one that nobody has described; what a newer trainer tells is taken as it is."""
    if type not in EVENT_TYPES:
        raise ValueError(f"{type}: describe the event in dayrun/event_types.py first")
    return type


def caused_by() -> str | None:
    """The request that is being answered; None in a worker."""
    return present_request_id() or None


def chain(run: RunRow, event: EventRow) -> None:
    """Make `event` the next link of the run's chain."""
    length = run.chain_length + 1
    event.run_id, event.sequence, event.data = run.id, length, plain(event.data)
    event.digest = digest_of(run.id, run.chain_digest, Link.of(event))
    run.chain_length, run.chain_digest = length, event.digest


def begin(session: AsyncSession, run: RunRow, *, by: str, **happened: dict[str, Any]) -> None:
    """Store a new run with its first events (type → data), and the hint to look at it: the head goes into the row with its INSERT."""
    request = caused_by()
    first = [
        EventRow(time=run.created_at, type=described(type), attempt=run.attempt, step=run.step, data=data, actor=by, request_id=request)
        for type, data in happened.items()
    ]
    for event in first:
        chain(run, event)
    insert_last(session, run, *first, OutboxRow(run_id=run.id, due_at=run.created_at))


async def chain_older(session: AsyncSession, run: RunRow) -> None:
    """Give the events of a run that were written without a place in its chain one, in their order. The run's row is locked."""
    query = select(EventRow).where(EventRow.run_id == run.id, EventRow.sequence.is_(None)).order_by(EventRow.id)
    for event in await session.scalars(query):
        chain(run, event)


async def unchained(session: AsyncSession, limit: int) -> list[str]:
    """Runs with such events: those of older versions of the service."""
    return list((await session.scalars(select(EventRow.run_id).where(EventRow.sequence.is_(None)).distinct().limit(limit))).all())


async def record_project(session: AsyncSession, project_id: str | None, type: str, *, by: str, **data: Any) -> AuditRow:
    """Add what `by` did to a project, or (None) to the service as a whole. Locks the project's chain. No secrets in `data`."""
    project = project_id or WHOLE_SERVICE
    await session.execute(upsert(session, AuditChainRow).values(project_id=project, length=0).on_conflict_do_nothing())
    head = await session.get_one(AuditChainRow, project, populate_existing=True, with_for_update=True)
    row = AuditRow(project_id=project, sequence=head.length + 1, time=now(), type=type, actor=by, data=plain(data))
    row.request_id = caused_by()
    row.digest = digest_of(chain_of_project(project), head.digest, Link.of(row))
    head.length, head.digest = row.sequence, row.digest
    session.add(row)
    await session.flush()
    return row


def chain_of_project(project_id: str) -> str:
    return f"project:{project_id}"


# ---- readers -----------------------------------------------------------------------------------------------------------------------


async def after(session: AsyncSession, run_id: str, last: int, limit: int) -> list[EventRow]:
    """Events of a run with a sequence above `last`, oldest first."""
    query = select(EventRow).where(EventRow.run_id == run_id, EventRow.sequence > last).order_by(EventRow.sequence).limit(limit)
    return list((await session.scalars(query)).all())


@dataclass(frozen=True, order=True)
class Position:
    """A place in the log of all runs: transaction, then row. On SQLite, which has one writer, the transaction is 0 throughout."""

    transaction: int
    row: int

    def __str__(self) -> str:
        return f"{self.transaction}-{self.row}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        transaction, _, row = text.partition("-")
        if not (transaction.isdecimal() and row.isdecimal() and len(text) < 40):
            raise ValueError(f"{text[:60]!r} is no place in the log")
        return cls(min(int(transaction), 2**63 - 1), min(int(row), 2**31 - 1))

    @classmethod
    def of(cls, event: EventRow) -> Self:
        return cls(event.transaction_id, event.id)


START = Position(0, 0)


def settled(session: AsyncSession) -> ColumnElement[bool]:
    """Events that no older transaction can still add one before."""
    if session.get_bind().dialect.name != "postgresql":
        return literal(True)
    return EventRow.transaction_id < func.txid_snapshot_xmin(func.txid_current_snapshot())


@dataclass(frozen=True)
class Told:
    """An event, and what readers of all runs must know of its run."""

    event: EventRow
    project_id: str
    run_name: str
    labels: dict[str, str]

    @property
    def position(self) -> Position:
        return Position.of(self.event)


async def feed(session: AsyncSession, last: Position, limit: int, projects: list[str] | None = None) -> list[Told]:
    """Events of all runs of `projects` (None: of all) after `last`, in the order of positions."""
    beyond = tuple_(EventRow.transaction_id, EventRow.id) > tuple_(literal(last.transaction), literal(last.row))
    query = (
        select(EventRow, RunRow.project_id, RunRow.name, RunRow.labels)
        .join(RunRow, RunRow.id == EventRow.run_id)
        .where(beyond, settled(session), EventRow.sequence.is_not(None))
        .order_by(EventRow.transaction_id, EventRow.id)
        .limit(limit)
    )
    if projects is not None:
        query = query.where(RunRow.project_id.in_(projects))
    return [Told(*row) for row in (await session.execute(query)).all()]


async def feed_end(session: AsyncSession) -> Position:
    """The last position that can be read now."""
    query = select(EventRow.transaction_id, EventRow.id).where(settled(session))
    last = (await session.execute(query.order_by(EventRow.transaction_id.desc(), EventRow.id.desc()).limit(1))).first()
    return Position(last[0], last[1]) if last else START
