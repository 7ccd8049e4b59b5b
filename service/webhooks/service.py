"""The decisions of people about webhooks, each inside the caller's transaction."""

from difflib import get_close_matches
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from dayrun.event_types import OF_RUNS
from service import events
from service.access import Permit
from service.database import new_id, now
from service.http.problem import ErrorDetail, Problem
from service.webhooks import repository
from service.webhooks.courier import host_of, message
from service.webhooks.schemas import NewWebhook
from service.webhooks.tables import DeliveryRow, WebhookRow

TEST_TYPE = "webhook_test"


def check_types(new: NewWebhook) -> None:
    """Raises Problem 422 that names the types that come close."""
    wrong = [(at, name) for at, name in enumerate(new.events) if name != "*" and name not in OF_RUNS]
    details = [
        ErrorDetail(
            pointer=f"/events/{at}", value=name, because="no event of a run has this type", nearest=get_close_matches(name, OF_RUNS, 3, 0.3)
        )
        for at, name in wrong
    ]
    if details:
        raise Problem(422, f"/events: {wrong[0][1]!r} is no type of a run's events", kind="bad-webhook", errors=details)


async def create(session: AsyncSession, new: NewWebhook, permit: Permit) -> WebhookRow:
    permit.on(new.project)
    webhook = WebhookRow(
        id=new_id("hook"),
        project_id=new.project,
        url=new.url,
        events=sorted(set(new.events)),
        labels=new.labels,
        created_at=now(),
        created_by=permit.actor.subject,
    )
    session.add(webhook)
    await told(session, webhook, "webhook_created", permit, events=webhook.events)
    return webhook


async def find(session: AsyncSession, webhook_id: str, permit: Permit, *, to_change: bool = False) -> WebhookRow:
    """Raises Problem 403 and 404."""
    webhook = await repository.get(session, webhook_id, to_change=to_change)
    if webhook is None or not permit.sees(webhook.project_id):
        raise Problem(404, f"there is no webhook {webhook_id[:60]!r}; GET /webhooks lists them", kind="no-such-webhook")
    permit.on(webhook.project_id)
    return webhook


async def find_delivery(session: AsyncSession, webhook: WebhookRow, delivery_id: str, *, to_change: bool = False) -> DeliveryRow:
    """Raises Problem 404."""
    row = await repository.delivery(session, webhook.id, delivery_id, to_change=to_change)
    if row is None:
        raise Problem(404, f"{webhook.id} has no delivery {delivery_id[:60]!r}; GET …/deliveries lists them", kind="no-such-delivery")
    return row


async def remove(session: AsyncSession, webhook: WebhookRow, permit: Permit) -> None:
    await repository.remove(session, webhook.id)
    await told(session, webhook, "webhook_deleted", permit)


async def enable(session: AsyncSession, webhook: WebhookRow, permit: Permit) -> None:
    """Send events again, from now on and what was due when it was disabled."""
    if webhook.disabled_at is not None:
        webhook.disabled_at, webhook.disabled_because = None, None
        await told(session, webhook, "webhook_enabled", permit)


async def test(session: AsyncSession, webhook: WebhookRow, permit: Permit) -> DeliveryRow:
    """A message that says nothing but that it arrived."""
    must_be_enabled(webhook)
    at = now()
    body = {"type": TEST_TYPE, "timestamp": at.isoformat(), "data": {"webhook": webhook.id, "project": webhook.project_id}}
    row = message(webhook, TEST_TYPE, body, at)
    session.add(row)
    await told(session, webhook, "webhook_tested", permit)
    return row


async def replay(session: AsyncSession, webhook: WebhookRow, delivery: DeliveryRow, permit: Permit) -> None:
    """Send a message again, with its id and with all its tries."""
    must_be_enabled(webhook)
    delivery.state, delivery.tries, delivery.next_try_at, delivery.leased_until = "due", 0, now(), None
    await told(session, webhook, "webhook_replayed", permit, delivery=delivery.id)


def must_be_enabled(webhook: WebhookRow) -> None:
    if webhook.disabled_at is not None:
        said = f"{webhook.id} is disabled ({webhook.disabled_because}): POST /webhooks/{webhook.id}:enable first"
        raise Problem(409, said, kind="webhook-disabled")


async def told(session: AsyncSession, webhook: WebhookRow, type: str, permit: Permit, **data: Any) -> None:
    by = permit.actor.subject
    await events.record_project(session, webhook.project_id, type, by=by, webhook=webhook.id, host=host_of(webhook), **data)
