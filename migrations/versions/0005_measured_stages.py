"""what runs measured, for the plans to come

Expands only.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "measured_stages",
        sa.Column("run_id", sa.String(length=40), nullable=False),
        sa.Column("stage", sa.String(length=40), nullable=False),
        sa.Column("accelerator", sa.String(length=20), nullable=False),
        sa.Column("matrix_rate", sa.Float(), nullable=False),
        sa.Column("processes", sa.Integer(), nullable=False),
        sa.Column("flops_per_process_step", sa.Float(), nullable=False),
        sa.Column("step_seconds", sa.Float(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("measured_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "stage"),
    )
    op.create_index("ix_measured_stages_accelerator", "measured_stages", ["accelerator", "measured_at"])


def downgrade() -> None:
    op.drop_index("ix_measured_stages_accelerator", table_name="measured_stages")
    op.drop_table("measured_stages")
