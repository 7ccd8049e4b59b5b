"""What the wire carries of the audit."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field


class Entry(BaseModel):
    """Who did what, when, from where, to what."""

    time: datetime
    actor: str
    type: str
    project: str = Field(description="`*`: the service as a whole.")
    run_id: str | None = Field(description="Null where a project as such was changed: its keys, members, webhooks, quotas.")
    request_id: str | None = Field(description="The `X-Request-Id` of the request that did it.")
    data: dict[str, Any]
    chain: str = Field(description="The chain that the entry is a link of: a run's id, or `project:<id>`.")
    sequence: int
    digest: str


class AuditPage(BaseModel):
    items: list[Entry]
    next: str | None


class ProjectEvent(BaseModel):
    """A link of a project's chain; docs/events.md says how its digest is made."""

    sequence: int
    time: datetime
    type: str
    actor: str
    request_id: str | None
    data: dict[str, Any]
    digest: str


class ChainHead(BaseModel):
    length: int
    digest: str | None


class ProjectEventPage(BaseModel):
    items: list[ProjectEvent]
    next: str | None
    chain: ChainHead
