"""The append-only event log. What the service decides is written in the same transaction as the change it tells of."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from dayrun.run_folder import Event
from service.access import SERVICE
from service.database import now
from service.runs.tables import EventRow, RunRow


def record(session: AsyncSession, run: RunRow, type: str, *, by: str = SERVICE, **data: Any) -> None:
    """Add what `by` did to `session`. The run's row must be locked by the caller, or new."""
    session.add(EventRow(run_id=run.id, time=now(), type=type, attempt=run.attempt, step=run.step, data=data, actor=by))


def record_from_trainer(session: AsyncSession, run: RunRow, event: Event) -> None:
    """Add an event that the run folder holds; its time is the trainer's."""
    time = datetime.fromtimestamp(event["time"], UTC)
    session.add(EventRow(run_id=run.id, time=time, type=event["type"], attempt=event["attempt"], step=event["step"], data=event["data"]))


async def after(session: AsyncSession, run_id: str, last: int, limit: int) -> list[EventRow]:
    """Events of a run with an id above `last`, oldest first."""
    query = select(EventRow).where(EventRow.run_id == run_id, EventRow.id > last).order_by(EventRow.id).limit(limit)
    return list((await session.scalars(query)).all())
