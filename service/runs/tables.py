"""Rows of runs, of what happened to them, and of what they measured."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Float, ForeignKey, Index, Integer, LargeBinary, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from service.database import Base, Json, UtcDateTime
from service.runs.states import State

BY_SOMEBODY = "actor IS NOT NULL AND actor <> 'service'"
"""Events that are somebody's doing: the audit reads them."""


class RunRow(Base):
    __tablename__ = "runs"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    labels: Mapped[dict[str, str]] = mapped_column(Json)
    recipe: Mapped[dict[str, Any]] = mapped_column(Json)
    project_id: Mapped[str] = mapped_column(String(40), server_default="default")
    created_by: Mapped[str] = mapped_column(String(300), server_default="local")
    parent_run_id: Mapped[str | None] = mapped_column(String(40))  # the run that this one was forked from
    parent_step: Mapped[int | None] = mapped_column(Integer)
    parent_weights: Mapped[str | None] = mapped_column(String(10))  # what it took over: all, model, ema
    estimate: Mapped[dict[str, Any] | None] = mapped_column(Json, deferred=True)  # the plan it was accepted with: kilobytes, seldom read
    total_steps: Mapped[int] = mapped_column(Integer)
    world_size: Mapped[int] = mapped_column(Integer)
    dollars_per_accelerator_hour: Mapped[float] = mapped_column(Float)

    state: Mapped[State] = mapped_column(String(20))
    cause: Mapped[str | None] = mapped_column(String(20))
    evidence: Mapped[list[str]] = mapped_column(Json, default=list)
    version: Mapped[int] = mapped_column(Integer, default=1)  # rises with every change that a reader could see
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)

    attempt: Mapped[int] = mapped_column(Integer, default=0)  # number of the newest launch: the fencing token
    faults: Mapped[int] = mapped_column(Integer, default=0)  # launches that failed since the last person's resume
    next_attempt_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    stop_asked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    avoid_nodes: Mapped[list[str] | None] = mapped_column(Json)  # where an attempt broke by what looked like the node's fault

    attempts_allowed: Mapped[int] = mapped_column(Integer, server_default="4")

    # its turn in the queue: higher priorities first, then the older; `waiting` says what for: {code, because, place, expected_start}
    priority: Mapped[int] = mapped_column(Integer, server_default="0")
    waiting: Mapped[dict[str, Any] | None] = mapped_column(Json)
    queued_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # when it last joined the queue

    # the lease: who may act on this run, and until when
    leased_by: Mapped[str | None] = mapped_column(String(60))
    leased_until: Mapped[datetime | None] = mapped_column(UtcDateTime)

    # what the run folder has shown so far, and how far it was read
    step: Mapped[int] = mapped_column(Integer, default=0)
    stage: Mapped[str | None] = mapped_column(String(40))
    loss: Mapped[float | None] = mapped_column(Float)
    images_per_second: Mapped[float | None] = mapped_column(Float)
    step_seconds: Mapped[float | None] = mapped_column(Float)
    began_attempt: Mapped[int] = mapped_column(Integer, default=0)  # newest attempt whose trainer reported for work
    outcome: Mapped[dict[str, Any] | None] = mapped_column(Json, default=None)  # of the newest attempt: its `ended` event's data
    events_cursor: Mapped[dict[str, int]] = mapped_column(Json, default=dict)
    metrics_cursor: Mapped[dict[str, int]] = mapped_column(Json, default=dict)

    figures: Mapped[dict[str, Any] | None] = mapped_column(Json)  # the newest of all that is measured (figures.py)

    # what it has cost: whole attempts that are over, and the one that holds machines now
    accelerator_seconds: Mapped[float] = mapped_column(Float, default=0.0)
    holding_since: Mapped[datetime | None] = mapped_column(UtcDateTime)

    # what it was predicted to take in all, and which caps it was warned of: name → period
    predicted_dollars: Mapped[float | None] = mapped_column(Float)
    predicted_hours: Mapped[float | None] = mapped_column(Float)
    warned: Mapped[dict[str, str] | None] = mapped_column(Json)

    # the head of its chain of events
    chain_length: Mapped[int] = mapped_column(Integer, server_default="0")
    chain_digest: Mapped[str | None] = mapped_column(String(64))

    # what was forgotten of it: events up to this one, whose digest the rest hangs on; and the kinds of files that were deleted
    pruned_length: Mapped[int] = mapped_column(Integer, server_default="0")
    pruned_digest: Mapped[str | None] = mapped_column(String(64))
    forgotten: Mapped[list[str] | None] = mapped_column(Json)

    __table_args__ = (Index("ix_runs_state", "state"), Index("ix_runs_project", "project_id", "id"))


class EventRow(Base):
    """The append-only log: what the service decided and what the trainer told."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"))
    time: Mapped[datetime] = mapped_column(UtcDateTime)
    type: Mapped[str] = mapped_column(String(40))
    attempt: Mapped[int] = mapped_column(Integer)
    step: Mapped[int | None] = mapped_column(Integer)
    data: Mapped[dict[str, Any]] = mapped_column(Json)
    actor: Mapped[str | None] = mapped_column(String(300))  # who did it; null: the trainer
    sequence: Mapped[int | None] = mapped_column(Integer)  # 1, 2, … within the run
    digest: Mapped[str | None] = mapped_column(String(64))  # of this event and, through the one before, of all before it
    request_id: Mapped[str | None] = mapped_column(String(64))  # of the request that caused it
    # Postgres puts the writing transaction's number here, so that readers of all runs can tell what may still come before an event
    transaction_id: Mapped[int] = mapped_column(BigInteger, server_default="0")

    __table_args__ = (
        Index("ix_events_run", "run_id", "id"),
        Index("ix_events_chain", "run_id", "sequence", unique=True),
        Index("ix_events_position", "transaction_id", "id"),
        Index("ix_events_unchained", "run_id", sqlite_where=text("sequence IS NULL"), postgresql_where=text("sequence IS NULL")),
        Index("ix_events_actor", "time", "id", sqlite_where=text(BY_SOMEBODY), postgresql_where=text(BY_SOMEBODY)),
        {"sqlite_autoincrement": True},
    )
    __mapper_args__ = {"eager_defaults": False}  # noqa: RUF012  (nobody asks for the transaction's number of a row just written)


class OutboxRow(Base):
    """A hint that is due: written with the change that it tells of, sent after the commit, at least once."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    run_id: Mapped[str] = mapped_column(String(40))
    due_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # null: written by an older service


class IdempotencyRow(Base):
    """What was answered to an Idempotency-Key; `status` is null while the first request is in flight."""

    __tablename__ = "idempotency"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    operation: Mapped[str] = mapped_column(String(200))
    key: Mapped[str] = mapped_column(String(255))
    digest: Mapped[str] = mapped_column(String(64))
    claim: Mapped[str] = mapped_column(String(40))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    status: Mapped[int | None] = mapped_column(Integer)
    headers: Mapped[dict[str, str]] = mapped_column(Json, default=dict)
    body: Mapped[bytes | None] = mapped_column(LargeBinary)

    __table_args__ = (UniqueConstraint("operation", "key"), Index("ix_idempotency_created_at", "created_at"))


class MetricRow(Base):
    """A measured value. A step that was trained twice keeps the value of its later training."""

    __tablename__ = "metrics"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    name: Mapped[str] = mapped_column(Text, primary_key=True)
    step: Mapped[int] = mapped_column(Integer, primary_key=True)
    value: Mapped[float] = mapped_column(Float)
    time: Mapped[datetime] = mapped_column(UtcDateTime)

    __table_args__ = ({"sqlite_with_rowid": False},)


WORKER = "worker"
"""The part that sweeps: a worker began a sweep, or went on with one."""
SWEPT = "swept"
"""...and when the last one that was finished began."""


class HeartbeatRow(Base):
    """When a part was last seen at work: `/readyz` and `/metrics` read it."""

    __tablename__ = "heartbeats"

    part: Mapped[str] = mapped_column(String(40), primary_key=True)
    time: Mapped[datetime] = mapped_column(UtcDateTime)
