"""Rows of jobs."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from service.database import Base, Json, UtcDateTime


class Kind(StrEnum):
    DRAW = "draw"
    EXPORT = "export"


class JobState(StrEnum):
    QUEUED = "queued"
    WORKING = "working"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


WAITING_OR_WORKING = (JobState.QUEUED, JobState.WORKING)


class JobRow(Base):
    """One piece of work. Its files are in the run's folder, under its id; the row says how far it is."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    kind: Mapped[Kind] = mapped_column(String(10))
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"))
    step: Mapped[int] = mapped_column(Integer)  # of the checkpoint
    request: Mapped[dict[str, Any]] = mapped_column(Json)
    created_by: Mapped[str] = mapped_column(String(300))

    state: Mapped[JobState] = mapped_column(String(10))
    because: Mapped[dict[str, Any] | None] = mapped_column(Json)  # why it failed: cause, because, evidence
    version: Mapped[int] = mapped_column(Integer, default=1)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    stop_asked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    host: Mapped[str | None] = mapped_column(String(255))  # the machine whose processes work on it

    leased_by: Mapped[str | None] = mapped_column(String(60))
    leased_until: Mapped[datetime | None] = mapped_column(UtcDateTime)

    __table_args__ = (Index("ix_jobs_run", "run_id", "kind", "id"), Index("ix_jobs_state", "state"))
