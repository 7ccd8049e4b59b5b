"""Rows of what was done to projects: keys, members, webhooks, quotas. What was done to runs is in the runs' own log."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from service.database import Base, Json, UtcDateTime


class AuditRow(Base):
    """Append-only; each project's rows are a chain, as a run's events are."""

    __tablename__ = "audit_events"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    project_id: Mapped[str] = mapped_column(String(40))  # `*`: the service as a whole
    sequence: Mapped[int] = mapped_column(Integer)
    time: Mapped[datetime] = mapped_column(UtcDateTime)
    type: Mapped[str] = mapped_column(String(40))
    actor: Mapped[str] = mapped_column(String(300))
    request_id: Mapped[str | None] = mapped_column(String(64))
    data: Mapped[dict[str, Any]] = mapped_column(Json)
    digest: Mapped[str] = mapped_column(String(64))

    __table_args__ = (
        Index("ix_audit_events_chain", "project_id", "sequence", unique=True),
        Index("ix_audit_events_time", "time", "id"),
        {"sqlite_autoincrement": True},
    )


class AuditChainRow(Base):
    """The head of a project's chain; its lock is the right to add to it."""

    __tablename__ = "audit_chains"

    project_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    length: Mapped[int] = mapped_column(Integer, default=0)
    digest: Mapped[str | None] = mapped_column(String(64))
