"""What the service tells of webhooks and of the audit, typed."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel


class Webhook(BaseModel):
    """Where a project's events are sent; `secret` is there only in the answer that made it."""

    id: str
    project: str
    url: str
    events: list[str]
    labels: dict[str, str]
    created_at: datetime
    created_by: str
    disabled_at: datetime | None = None
    disabled_because: str | None = None
    delivered_at: datetime | None = None
    secret: str | None = None


class Delivery(BaseModel):
    id: str
    webhook: str
    type: str
    run_id: str | None = None
    sequence: int | None = None
    created_at: datetime
    state: Literal["due", "delivered", "failed"]
    tries: int
    tried_at: datetime | None = None
    next_try_at: datetime | None = None
    answer: str | None = None


class AuditEntry(BaseModel):
    """Who did what, when, from where, to what."""

    time: datetime
    actor: str
    type: str
    project: str
    run_id: str | None = None
    request_id: str | None = None
    data: dict[str, Any]
    chain: str
    sequence: int
    digest: str


class ProjectEvent(BaseModel):
    """A link of a project's chain."""

    sequence: int
    time: datetime
    type: str
    actor: str
    request_id: str | None = None
    data: dict[str, Any]
    digest: str
