"""The queries on webhooks and their deliveries. No decision is made here."""

from datetime import datetime, timedelta

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.ext.asyncio import AsyncSession

from service.events import Position
from service.webhooks.tables import DeliveryRow, LogCursorRow, WebhookRow

READER = "webhooks"
OF_ONE = 4
"""Deliveries of one webhook that are under way together: a slow receiver must not take every place."""


async def get(session: AsyncSession, webhook_id: str, *, to_change: bool = False) -> WebhookRow | None:
    return await session.get(WebhookRow, webhook_id, populate_existing=True, with_for_update=to_change)


async def page(session: AsyncSession, before: str | None, projects: list[str] | None, limit: int) -> list[WebhookRow]:
    """Webhooks of `projects` (None: of all), newest first."""
    query = select(WebhookRow).order_by(WebhookRow.id.desc()).limit(limit)
    if before:
        query = query.where(WebhookRow.id < before)
    if projects is not None:
        query = query.where(WebhookRow.project_id.in_(projects))
    return list((await session.scalars(query)).all())


async def enabled(session: AsyncSession) -> list[WebhookRow]:
    return list((await session.scalars(select(WebhookRow).where(WebhookRow.disabled_at.is_(None)).order_by(WebhookRow.id))).all())


async def remove(session: AsyncSession, webhook_id: str) -> None:
    """The webhook and everything that was to be sent to it."""
    await session.execute(delete(DeliveryRow).where(DeliveryRow.webhook_id == webhook_id))
    await session.execute(delete(WebhookRow).where(WebhookRow.id == webhook_id))


async def deliveries(session: AsyncSession, webhook_id: str, before: str | None, state: str | None, limit: int) -> list[DeliveryRow]:
    """Newest first."""
    query = select(DeliveryRow).where(DeliveryRow.webhook_id == webhook_id).order_by(DeliveryRow.id.desc()).limit(limit)
    if before:
        query = query.where(DeliveryRow.id < before)
    if state:
        query = query.where(DeliveryRow.state == state)
    return list((await session.scalars(query)).all())


async def delivery(session: AsyncSession, webhook_id: str, delivery_id: str, *, to_change: bool = False) -> DeliveryRow | None:
    row = await session.get(DeliveryRow, delivery_id, populate_existing=True, with_for_update=to_change)
    return row if row is not None and row.webhook_id == webhook_id else None


async def cursor(session: AsyncSession, *, to_change: bool = False) -> LogCursorRow | None:
    return await session.get(LogCursorRow, READER, populate_existing=True, with_for_update=to_change)


def position_of(row: LogCursorRow) -> Position:
    return Position(row.transaction_id, row.event_id)


async def claim(session: AsyncSession, at: datetime, limit: int, seconds: float) -> list[DeliveryRow]:
    """Take the right to send what is due, for `seconds`; a sender that dies loses it then."""
    free = or_(DeliveryRow.leased_until.is_(None), DeliveryRow.leased_until < at)
    place = func.row_number().over(partition_by=DeliveryRow.webhook_id, order_by=(DeliveryRow.next_try_at, DeliveryRow.id))
    due = (
        select(DeliveryRow.id, DeliveryRow.next_try_at, place.label("place"))
        .join(WebhookRow, WebhookRow.id == DeliveryRow.webhook_id)
        .where(DeliveryRow.state == "due", DeliveryRow.next_try_at <= at, free, WebhookRow.disabled_at.is_(None))
        .subquery()
    )
    chosen = select(due.c.id).where(due.c.place <= OF_ONE).order_by(due.c.next_try_at, due.c.id).limit(limit)
    ids = list((await session.scalars(chosen)).all())
    if not ids:
        return []
    taken: CursorResult[tuple[str]] = await session.execute(  # pyright: ignore[reportAssignmentType]
        update(DeliveryRow)
        .where(DeliveryRow.id.in_(ids), DeliveryRow.state == "due", free)
        .values(leased_until=at + timedelta(seconds=seconds))
        .returning(DeliveryRow.id)
        .execution_options(synchronize_session=False)
    )
    mine = [row[0] for row in taken.all()]
    query = select(DeliveryRow).where(DeliveryRow.id.in_(mine)).order_by(DeliveryRow.next_try_at, DeliveryRow.id)
    return list((await session.scalars(query.execution_options(populate_existing=True))).all())


async def forget_deliveries(session: AsyncSession, before: datetime) -> int:
    """Drop deliveries that were made before and are not due any more."""
    done: CursorResult[object] = await session.execute(  # pyright: ignore[reportAssignmentType]
        delete(DeliveryRow).where(DeliveryRow.state != "due", DeliveryRow.created_at < before)
    )
    return done.rowcount
