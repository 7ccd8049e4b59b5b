"""Turns the event log into deliveries, and sends what is due. Runs in the worker, beside the sweep, which never waits for a receiver.

The log is read by a cursor that moves in the transaction that stores the deliveries: each event becomes one delivery to each webhook that
wants it, whenever the process dies. Sending is at least once; a receiver knows a message by its `webhook-id`.
"""

import asyncio
import base64
import json
import logging
import random
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from standardwebhooks import Webhook as Signer

from service import events
from service.access import SERVICE
from service.database import Database, new_id, now
from service.events import Told
from service.feeds.schemas import RunEvent
from service.secret_key import derived
from service.settings import Settings
from service.webhooks import repository
from service.webhooks.addresses import Sender, networks
from service.webhooks.decide import after_try, wants
from service.webhooks.tables import DeliveryRow, LogCursorRow, WebhookRow

AT_ONCE = 16
EVENTS_A_READ = 500
LEASE_SECONDS = 60.0
USER_AGENT = "dayrun-webhooks/1"

log = logging.getLogger("dayrun")


def secret_of(settings: Settings, webhook_id: str) -> str:
    """The secret of a webhook; it is stored nowhere, and follows from the service's own key."""
    return f"whsec_{base64.b64encode(derived(settings, f'webhook {webhook_id}')).decode()}"


class Courier:
    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings, self._database = settings, database
        self._sender: Sender | None = None
        self._working: asyncio.Task[None] | None = None

    def nudge(self) -> None:
        """See to what is due, in the background; does nothing while the last nudge is still at work."""
        if self._working is None or self._working.done():
            self._working = asyncio.get_running_loop().create_task(self._work(), name="courier")

    async def _work(self) -> None:
        try:
            await self.fan_out()
            while await self.send_due(now()):
                await self.fan_out()
        except SQLAlchemyError as error:  # the next sweep nudges again
            log.warning("webhooks wait for the database: %s", type(error).__name__)
        except Exception:
            log.exception("webhooks")

    async def close(self) -> None:
        if self._working:
            self._working.cancel()
        if self._sender:
            await self._sender.close()

    async def fan_out(self) -> int:
        """Make deliveries of what the log has new; returns how many."""
        async with self._database.read() as session:
            cursor = await repository.cursor(session)
            if cursor is not None and repository.position_of(cursor) == await events.feed_end(session):
                return 0
        made, more = 0, True
        while more:
            async with self._database.write() as session:
                count, more = await self._fan_out_some(session)
                made += count
        return made

    async def _fan_out_some(self, session: AsyncSession) -> tuple[int, bool]:
        cursor = await repository.cursor(session, to_change=True)
        webhooks = await repository.enabled(session)
        if cursor is None or not webhooks:  # a webhook is told of what happens from its making on
            end = await events.feed_end(session)
            cursor = cursor or LogCursorRow(reader=repository.READER)
            cursor.transaction_id, cursor.event_id = end.transaction, end.row
            session.add(cursor)
            return 0, False
        found, made, at = await events.feed(session, repository.position_of(cursor), EVENTS_A_READ), 0, now()
        for told in found:
            for webhook in webhooks:
                if wants(webhook, told):
                    session.add(message(webhook, told.event.type, body_of(told), at, told))
                    made += 1
        if found:
            cursor.transaction_id, cursor.event_id = found[-1].position.transaction, found[-1].position.row
        return made, len(found) == EVENTS_A_READ

    async def send_due(self, at: datetime) -> int:
        """Send what is due at `at`; returns how many messages were tried."""
        async with self._database.write() as session:
            claimed = await repository.claim(session, at, AT_ONCE, LEASE_SECONDS + self._settings.webhook_seconds)
            urls = {webhook.id: webhook.url for webhook in await repository.enabled(session)} if claimed else {}
        await asyncio.gather(*(self._send(delivery, urls[delivery.webhook_id], at) for delivery in claimed if delivery.webhook_id in urls))
        return len(claimed)

    async def _send(self, delivery: DeliveryRow, url: str, at: datetime) -> None:
        if self._sender is None:
            self._sender = Sender(networks(self._settings.webhook_networks), self._settings.webhook_seconds, AT_ONCE)
        headers = signed(secret_of(self._settings, delivery.webhook_id), delivery.id, delivery.body)
        status, said = await self._sender.post(url, headers, delivery.body.encode())
        outcome = after_try(delivery.tries + 1, status, at, random.random())
        async with self._database.write() as session:
            webhook = await repository.get(session, delivery.webhook_id, to_change=True)
            row = await repository.delivery(session, delivery.webhook_id, delivery.id, to_change=True)
            if webhook is None or row is None or row.state != "due":  # deleted meanwhile, or another was faster
                return
            row.state, row.next_try_at, row.tries, row.leased_until = outcome.state, outcome.next_try_at, row.tries + 1, None
            row.tried_at, row.answer = at, f"{status or ''} {said}".strip()
            if outcome.state == "delivered":
                webhook.delivered_at = at
            elif outcome.disable and (outcome.at_once or webhook.delivered_at is None or webhook.delivered_at < row.created_at):
                await disable(session, webhook, outcome.disable, at)


async def disable(session: AsyncSession, webhook: WebhookRow, because: str, at: datetime) -> None:
    if webhook.disabled_at is None:
        webhook.disabled_at, webhook.disabled_because = at, because
        await events.record_project(
            session, webhook.project_id, "webhook_disabled", by=SERVICE, webhook=webhook.id, host=host_of(webhook), because=because
        )


def host_of(webhook: WebhookRow) -> str | None:
    """What of the address may be told: paths of webhooks often are passwords."""
    return urlsplit(webhook.url).hostname


def message(webhook: WebhookRow, type: str, body: dict[str, Any], at: datetime, told: Told | None = None) -> DeliveryRow:
    return DeliveryRow(
        id=new_id("msg"),
        webhook_id=webhook.id,
        type=type,
        run_id=told.event.run_id if told else None,
        sequence=told.event.sequence if told else None,
        body=json.dumps(body, separators=(",", ":")),
        created_at=at,
        state="due",
        tries=0,
        next_try_at=at,
    )


def body_of(told: Told) -> dict[str, Any]:
    """`type`, `timestamp` and `data`, as Standard Webhooks has them; `data` is the event as `GET /events` shows it."""
    event = RunEvent.told(told).model_dump(mode="json")
    return {"type": told.event.type, "timestamp": event["time"], "data": event | {"labels": told.labels}}


def signed(secret: str, delivery_id: str, body: str) -> dict[str | bytes, str | bytes]:
    """Headers of a message (Standard Webhooks)."""
    at = now()
    return {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": delivery_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Signer(secret).sign(delivery_id, at, body),
    }
