"""The queries on keys. No decision is made here."""

from datetime import datetime, timedelta

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from service.keys.tables import KeyRow


async def by_digest(session: AsyncSession, digest: str) -> KeyRow | None:
    return (await session.scalars(select(KeyRow).where(KeyRow.digest == digest))).one_or_none()


async def get(session: AsyncSession, key_id: str, *, to_change: bool = False) -> KeyRow | None:
    return await session.get(KeyRow, key_id, populate_existing=True, with_for_update=to_change)


async def page(session: AsyncSession, before: str | None, limit: int, projects: list[str] | None) -> list[KeyRow]:
    """Keys of `projects` (None: all keys), newest first."""
    query = select(KeyRow).order_by(KeyRow.id.desc()).limit(limit)
    if before:
        query = query.where(KeyRow.id < before)
    if projects is not None:
        query = query.where(KeyRow.project_id.in_(projects))
    return list((await session.scalars(query)).all())


async def working_operators(session: AsyncSession, at: datetime) -> list[KeyRow]:
    """Keys of the whole service that work at `at`."""
    alive = or_(KeyRow.expires_at.is_(None), KeyRow.expires_at > at)
    return list((await session.scalars(select(KeyRow).where(KeyRow.operator, KeyRow.revoked_at.is_(None), alive))).all())


async def note_use(session: AsyncSession, key_id: str, at: datetime, every: timedelta) -> None:
    """Note that the key was used, unless another process has done so less than `every` ago."""
    stale = or_(KeyRow.last_used_at.is_(None), KeyRow.last_used_at <= at - every)
    await session.execute(update(KeyRow).where(KeyRow.id == key_id, stale).values(last_used_at=at))
