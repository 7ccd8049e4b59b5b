"""the ledger of held accelerators, and what runs reserve

Expands only: code of revision 0003 can go on writing to these tables; an attempt that it launches gets its line of the ledger when it ends.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def runs_columns() -> list[sa.Column]:
    return [
        sa.Column("queued_at", sa.DateTime(), nullable=True),
        sa.Column("predicted_dollars", sa.Float(), nullable=True),
        sa.Column("predicted_hours", sa.Float(), nullable=True),
        sa.Column("warned", sa.Text(), nullable=True),
    ]


def upgrade() -> None:
    op.create_table(
        "usage",
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("accelerators", sa.Integer(), nullable=False),
        sa.Column("dollars_per_accelerator_hour", sa.Float(), nullable=False),
        sa.Column("held_from", sa.DateTime(), nullable=False),
        sa.Column("held_until", sa.DateTime(), nullable=True),
        sa.Column("dollars", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"]),
        sa.PrimaryKeyConstraint("run_id", "attempt"),
    )
    op.create_index("ix_usage_project", "usage", ["project_id", "held_from"])
    op.create_index("ix_usage_held", "usage", ["held_until"])
    for column in runs_columns():
        op.add_column("runs", column)
    # attempts that are over stay in their run's own total: when each of them began and ended is told by events alone
    op.execute(
        "INSERT INTO usage (run_id, attempt, project_id, accelerators, dollars_per_accelerator_hour, held_from) "
        "SELECT id, attempt, project_id, world_size, dollars_per_accelerator_hour, holding_since FROM runs WHERE holding_since IS NOT NULL"
    )


def downgrade() -> None:
    with op.batch_alter_table("runs") as batch_op:
        for column in runs_columns():
            batch_op.drop_column(column.name)
    op.drop_index("ix_usage_held", table_name="usage")
    op.drop_index("ix_usage_project", table_name="usage")
    op.drop_table("usage")
