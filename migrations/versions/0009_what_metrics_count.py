"""what /metrics counts: newest figures of a run, waits and causes of attempts, when a look became due, tallies of the workers

Expands only.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tallies",
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.add_column("runs", sa.Column("figures", sa.Text(), nullable=True))
    op.add_column("outbox", sa.Column("due_at", sa.DateTime(), nullable=True))
    op.add_column("usage", sa.Column("waited_seconds", sa.Float(), nullable=True))
    op.add_column("usage", sa.Column("start_seconds", sa.Float(), nullable=True))
    op.add_column("usage", sa.Column("cause", sa.String(length=20), nullable=True))
    op.add_column("measured_stages", sa.Column("predicted_step_seconds", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("measured_stages", "predicted_step_seconds")
    op.drop_column("usage", "cause")
    op.drop_column("usage", "start_seconds")
    op.drop_column("usage", "waited_seconds")
    op.drop_column("outbox", "due_at")
    op.drop_column("runs", "figures")
    op.drop_table("tallies")
