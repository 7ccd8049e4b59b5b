"""The queries on jobs. No decision is made here."""

from datetime import timedelta

from sqlalchemy import func, or_, select, text, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.ext.asyncio import AsyncSession

from service.database import now
from service.jobs.tables import WAITING_OR_WORKING, JobRow, JobState, Kind

ROOM_LOCK = 0x646179
"""Postgres' advisory lock of those who count what a machine works on and then start one more."""


async def get(session: AsyncSession, job_id: str, *, to_change: bool = False) -> JobRow | None:
    """The job; `to_change` locks its row until the transaction ends."""
    return await session.get(JobRow, job_id, populate_existing=True, with_for_update=to_change)


async def page(session: AsyncSession, run_id: str, kind: Kind, before: str | None, limit: int) -> list[JobRow]:
    """A run's jobs of one kind, newest first, with ids below `before`."""
    query = select(JobRow).where(JobRow.run_id == run_id, JobRow.kind == kind).order_by(JobRow.id.desc()).limit(limit)
    return list((await session.scalars(query.where(JobRow.id < before) if before else query)).all())


async def active_ids(session: AsyncSession) -> list[str]:
    """Jobs that there is something to do for, the oldest first."""
    return list((await session.scalars(select(JobRow.id).where(JobRow.state.in_(WAITING_OR_WORKING)).order_by(JobRow.id))).all())


async def count_waiting(session: AsyncSession) -> int:
    return await session.scalar(select(func.count()).where(JobRow.state == JobState.QUEUED)) or 0


async def working_on(session: AsyncSession, host: str) -> int:
    """How many jobs a machine works on. Others who ask for the same reason wait until this transaction ends."""
    if session.get_bind().dialect.name == "postgresql":  # SQLite's writers wait for each other anyway
        await session.execute(text(f"SELECT pg_advisory_xact_lock({ROOM_LOCK})"))
    return await session.scalar(select(func.count()).where(JobRow.state == JobState.WORKING, JobRow.host == host)) or 0


async def lease(session: AsyncSession, job_id: str, owner: str, seconds: float) -> JobRow | None:
    """Take the right to act on a job, or None while another holds it or it is over."""
    at = now()
    free = or_(JobRow.leased_until.is_(None), JobRow.leased_until < at)
    done: CursorResult[object] = await session.execute(  # pyright: ignore[reportAssignmentType]
        update(JobRow)
        .where(JobRow.id == job_id, JobRow.state.in_(WAITING_OR_WORKING), free)
        .values(leased_by=owner, leased_until=at + timedelta(seconds=seconds))
    )
    return await get(session, job_id) if done.rowcount else None


async def leased(session: AsyncSession, job_id: str, owner: str) -> JobRow | None:
    """The job, to change it, as long as `owner` still holds its lease."""
    job = await get(session, job_id, to_change=True)
    return job if job is not None and job.leased_by == owner and job.leased_until is not None and job.leased_until > now() else None


async def release(session: AsyncSession, job_id: str, owner: str) -> None:
    await session.execute(update(JobRow).where(JobRow.id == job_id, JobRow.leased_by == owner).values(leased_by=None, leased_until=None))
