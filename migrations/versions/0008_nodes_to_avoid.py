"""nodes that a run keeps away from

Expands only.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("avoid_nodes", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("runs", "avoid_nodes")
