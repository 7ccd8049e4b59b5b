"""What follows from a try to deliver. Pure: no input or output, no clock, no chance."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from service.events import Told
from service.webhooks.tables import WebhookRow

WAIT_SECONDS = (5, 30, 120, 600, 1800, 3600, 7200, 14400, 28800, 28800)
"""Before the second try, the third, …: together just under a day."""
JITTER = 0.2
"""Waits are longer or shorter by up to this part, so that what failed together does not come back together."""
GONE = 410


@dataclass(frozen=True)
class Outcome:
    state: str
    next_try_at: datetime | None = None
    disable: str | None = None
    """Why the webhook is to be disabled; a webhook that has taken something since the message was made stays."""
    at_once: bool = False
    """Disable it whatever it has taken."""


def after_try(tries: int, status: int | None, at: datetime, chance: float) -> Outcome:
    """What becomes of a message after its try number `tries`. `chance`: between 0 and 1."""
    if status is not None and 200 <= status < 300:
        return Outcome("delivered")
    if status == GONE:
        return Outcome("failed", disable="the receiver answered 410 Gone", at_once=True)
    if tries > len(WAIT_SECONDS):
        return Outcome("failed", disable=f"nothing was taken in {tries} tries over a day")
    return Outcome("due", at + timedelta(seconds=wait_seconds(tries, chance)))


def wait_seconds(tries: int, chance: float) -> float:
    return WAIT_SECONDS[tries - 1] * (1 - JITTER + 2 * JITTER * chance)


def wants(webhook: WebhookRow, told: Told) -> bool:
    """Whether an event is to be sent to `webhook`."""
    return (
        webhook.project_id == told.project_id
        and ("*" in webhook.events or told.event.type in webhook.events)
        and webhook.labels.items() <= told.labels.items()
    )
