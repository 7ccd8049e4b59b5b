"""chains of events, the audit of projects, webhooks, and what was forgotten

Expands only. Events from before stay without a sequence: the service chains them run by run, when it next locks a run or in its sweeps,
so that no migration holds a large table for long.
"""

import sqlalchemy as sa
from alembic import op

from service import expand

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

UNCHAINED = sa.text("sequence IS NULL")
BY_SOMEBODY = sa.text("actor IS NOT NULL AND actor <> 'service'")


def runs_columns() -> list[sa.Column]:
    return [
        sa.Column("pruned_length", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("pruned_digest", sa.String(length=64), nullable=True),
        sa.Column("forgotten", sa.Text(), nullable=True),
    ]


def events_columns() -> list[sa.Column]:
    return [
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.Column("transaction_id", sa.BigInteger(), nullable=False, server_default="0"),
    ]


def upgrade() -> None:
    for column in runs_columns():
        op.add_column("runs", column)
    for column in events_columns():
        op.add_column("events", column)
    if expand.on_postgres():  # a default of its own statement: the rows that are there keep 0 and are not rewritten
        op.execute("ALTER TABLE events ALTER COLUMN transaction_id SET DEFAULT txid_current()")
    op.create_table(
        "audit_events",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("time", sa.DateTime(), nullable=False),
        sa.Column("type", sa.String(length=40), nullable=False),
        sa.Column("actor", sa.String(length=300), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_events_chain", "audit_events", ["project_id", "sequence"], unique=True)
    op.create_index("ix_audit_events_time", "audit_events", ["time", "id"])
    op.create_table(
        "audit_chains",
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("project_id"),
    )
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("created_by", sa.String(length=300), nullable=False),
        sa.Column("disabled_at", sa.DateTime(), nullable=True),
        sa.Column("disabled_because", sa.Text(), nullable=True),
        sa.Column("delivered_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_webhooks_project", "webhooks", ["project_id", "id"])
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("webhook_id", sa.String(length=40), nullable=False),
        sa.Column("type", sa.String(length=40), nullable=False),
        sa.Column("run_id", sa.String(length=40), nullable=True),
        sa.Column("sequence", sa.Integer(), nullable=True),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_try_at", sa.DateTime(), nullable=True),
        sa.Column("tried_at", sa.DateTime(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("leased_until", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(["webhook_id"], ["webhooks.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_webhook_deliveries_due", "webhook_deliveries", ["state", "next_try_at"])
    op.create_index("ix_webhook_deliveries_of", "webhook_deliveries", ["webhook_id", "id"])
    op.create_table(
        "log_cursors",
        sa.Column("reader", sa.String(length=40), nullable=False),
        sa.Column("transaction_id", sa.BigInteger(), nullable=False),
        sa.Column("event_id", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("reader"),
    )
    expand.create_index("ix_events_chain", "events", ["run_id", "sequence"], unique=True)
    expand.create_index("ix_events_position", "events", ["transaction_id", "id"])
    expand.create_index("ix_events_unchained", "events", ["run_id"], where=UNCHAINED)
    expand.create_index("ix_events_actor", "events", ["time", "id"], where=BY_SOMEBODY)


def downgrade() -> None:
    for index in ("ix_events_actor", "ix_events_unchained", "ix_events_position", "ix_events_chain"):
        expand.drop_index(index, "events")
    for table in ("log_cursors", "webhook_deliveries", "webhooks", "audit_chains", "audit_events"):
        op.drop_table(table)
    with op.batch_alter_table("events") as batch_op:
        for column in events_columns():
            batch_op.drop_column(column.name)
    with op.batch_alter_table("runs") as batch_op:
        for column in runs_columns():
            batch_op.drop_column(column.name)
