"""The audit as one list, from the two logs that it is read from: what somebody did to runs, and what was done to projects."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from sqlalchemy import and_, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from service.audit.schemas import Entry
from service.audit.tables import AuditChainRow, AuditRow
from service.events import chain_of_project
from service.runs.tables import BY_SOMEBODY, EventRow, RunRow

OF_RUNS, OF_PROJECTS = 0, 1


@dataclass(frozen=True)
class Place:
    """The last entry seen: newest first by time; of the same time, projects before runs, then by row."""

    time: datetime
    log: int
    row: int

    def __str__(self) -> str:
        return f"{self.time.isoformat()}~{self.log}~{self.row}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        time, log, row = text.split("~")
        if not (log in "01" and row.isdecimal() and int(row) < 2**31):
            raise ValueError(text)
        at = datetime.fromisoformat(time)
        if at.tzinfo is None:
            raise ValueError(text)
        return cls(at, int(log), int(row))


@dataclass(frozen=True)
class Filter:
    projects: list[str] | None
    project: str | None = None
    actor: str | None = None
    type: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def narrowed(query: Any, row: Any, log: int, project: Any, by: Filter, before: Place | None, limit: int) -> Any:
    if by.projects is not None:
        query = query.where(project.in_(by.projects))
    for column, value in ((project, by.project), (row.actor, by.actor), (row.type, by.type)):
        if value is not None:
            query = query.where(column == value)
    if by.since:
        query = query.where(row.time >= by.since)
    if by.until:
        query = query.where(row.time < by.until)
    if before:
        here = and_(row.time == before.time, row.id < before.row) if log == before.log else None
        if log < before.log:
            here = row.time == before.time
        query = query.where(row.time < before.time if here is None else or_(row.time < before.time, here))
    return query.order_by(row.time.desc(), row.id.desc()).limit(limit)


async def page(session: AsyncSession, by: Filter, before: Place | None, limit: int) -> list[tuple[Place, Entry]]:
    """Entries, newest first."""
    of_runs = select(EventRow, RunRow.project_id).join(RunRow, RunRow.id == EventRow.run_id).where(text(BY_SOMEBODY))
    found: list[tuple[Place, Entry]] = []
    events: Any = await session.execute(narrowed(of_runs, EventRow, OF_RUNS, RunRow.project_id, by, before, limit))
    rows: list[tuple[EventRow, str]] = [(row[0], row[1]) for row in events.all()]
    for event, project in rows:
        found.append((Place(event.time, OF_RUNS, event.id), entry(event, project, event.run_id, event.run_id)))
    of_projects = narrowed(select(AuditRow), AuditRow, OF_PROJECTS, AuditRow.project_id, by, before, limit)
    for row in (await session.scalars(of_projects)).all():
        found.append((Place(row.time, OF_PROJECTS, row.id), entry(row, row.project_id, None, chain_of_project(row.project_id))))
    return sorted(found, key=lambda one: (one[0].time, one[0].log, one[0].row), reverse=True)[:limit]


def entry(row: Any, project: str, run_id: str | None, chain: str) -> Entry:
    same = {name: getattr(row, name) for name in ("time", "actor", "type", "request_id", "data")}
    return Entry(**same, project=project, run_id=run_id, chain=chain, sequence=row.sequence or 0, digest=row.digest or "")


async def of_project(session: AsyncSession, project_id: str, last: int, limit: int) -> tuple[AuditChainRow | None, list[AuditRow]]:
    """The head of a project's chain, and its events with a sequence above `last`, oldest first."""
    head = await session.get(AuditChainRow, project_id)
    query = select(AuditRow).where(AuditRow.project_id == project_id, AuditRow.sequence > last).order_by(AuditRow.sequence).limit(limit)
    return head, list((await session.scalars(query)).all())
