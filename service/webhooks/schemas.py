"""What the wire carries about webhooks."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field

from service.access import DEFAULT_PROJECT
from service.webhooks.tables import DeliveryRow, WebhookRow

Label = Annotated[str, Field(min_length=1, max_length=63)]
DeliveryState = Literal["due", "delivered", "failed"]


class NewWebhook(BaseModel):
    """Where to send events. The address is resolved and checked, now and at every delivery."""

    model_config = {"extra": "forbid"}

    url: str = Field(max_length=2000, description="https, and no private, loopback, link-local, multicast or metadata address.")
    events: list[Annotated[str, Field(max_length=40)]] = Field(default=["*"], min_length=1, max_length=50, description="Types; `*`: all.")
    labels: dict[Label, Label] = Field(default={}, max_length=20, description="Only of runs that have all of these.")
    project: str = Field(default=DEFAULT_PROJECT, min_length=1, max_length=40, description="Whose runs.")


class Webhook(BaseModel):
    id: str
    project: str
    url: str
    events: list[str]
    labels: dict[str, str]
    created_at: datetime
    created_by: str
    disabled_at: datetime | None = Field(description="Nothing is sent since then; `:enable` mends it.")
    disabled_because: str | None
    delivered_at: datetime | None = Field(description="The last time that a message was taken.")

    @classmethod
    def of(cls, row: WebhookRow) -> Self:
        same = ("id", "url", "events", "labels", "created_at", "created_by", "disabled_at", "disabled_because", "delivered_at")
        return cls(project=row.project_id, **{name: getattr(row, name) for name in same})


class MadeWebhook(Webhook):
    secret: str = Field(description="Verifies the signatures (Standard Webhooks). It is shown here only.")


class WebhookPage(BaseModel):
    items: list[Webhook]
    next: str | None


class Delivery(BaseModel):
    """One message to one webhook: its id is the `webhook-id` that the receiver sees, the same at every try."""

    id: str
    webhook: str
    type: str
    run_id: str | None
    sequence: int | None
    created_at: datetime
    state: DeliveryState
    tries: int
    tried_at: datetime | None
    next_try_at: datetime | None
    answer: str | None = Field(description="Of the last try: the status and the beginning of the body, or why there was no answer.")

    @classmethod
    def of(cls, row: DeliveryRow) -> Self:
        return cls(webhook=row.webhook_id, **{name: getattr(row, name) for name in cls.model_fields if name != "webhook"})


class DeliveryPage(BaseModel):
    items: list[Delivery]
    next: str | None
