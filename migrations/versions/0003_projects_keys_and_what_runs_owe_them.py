"""projects, keys, and what runs and events owe them

Expands only: code of revision 0002 can go on writing to these tables.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def runs_columns() -> list[sa.Column]:
    return [
        sa.Column("project_id", sa.String(length=40), nullable=False, server_default="default"),
        sa.Column("created_by", sa.String(length=300), nullable=False, server_default="local"),
        sa.Column("priority", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("attempts_allowed", sa.Integer(), nullable=False, server_default="4"),
        sa.Column("parent_run_id", sa.String(length=40), nullable=True),
        sa.Column("parent_step", sa.Integer(), nullable=True),
        sa.Column("waiting", sa.Text(), nullable=True),
        sa.Column("estimate", sa.Text(), nullable=True),
        sa.Column("chain_length", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("chain_digest", sa.String(length=64), nullable=True),
    ]


def events_columns() -> list[sa.Column]:
    return [
        sa.Column("actor", sa.String(length=300), nullable=True),
        sa.Column("sequence", sa.Integer(), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=True),
    ]


def upgrade() -> None:
    op.create_table(
        "projects",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("created_by", sa.String(length=300), nullable=False),
        sa.Column("archived", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("accelerators", sa.Integer(), nullable=True),
        sa.Column("dollars_per_day", sa.Float(), nullable=True),
        sa.Column("dollars_per_month", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.execute(
        "INSERT INTO projects (id, name, created_at, created_by, archived, version) "
        "VALUES ('default', 'default', CURRENT_TIMESTAMP, 'service', false, 1)"
    )
    op.create_table(
        "members",
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=300), nullable=False),
        sa.Column("role", sa.Integer(), nullable=False),
        sa.Column("added_at", sa.DateTime(), nullable=False),
        sa.Column("added_by", sa.String(length=300), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "subject"),
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=True),
        sa.Column("role", sa.Integer(), nullable=False),
        sa.Column("operator", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("created_by", sa.String(length=300), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=True),
        sa.Column("last_used_at", sa.DateTime(), nullable=True),
        sa.Column("revoked_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )
    op.create_index("ix_keys_project", "keys", ["project_id"])
    for column in runs_columns():
        op.add_column("runs", column)
    attempts = "json_extract(recipe, '$.retries.attempts')"
    if op.get_bind().dialect.name == "postgresql":
        attempts = "(recipe::json #>> '{retries,attempts}')::int"
    op.execute(f"UPDATE runs SET attempts_allowed = coalesce({attempts}, 4)")
    op.create_index("ix_runs_project", "runs", ["project_id", "id"])
    for column in events_columns():
        op.add_column("events", column)


def downgrade() -> None:
    with op.batch_alter_table("events") as batch_op:
        for column in events_columns():
            batch_op.drop_column(column.name)
    op.drop_index("ix_runs_project", table_name="runs")
    with op.batch_alter_table("runs") as batch_op:
        for column in runs_columns():
            batch_op.drop_column(column.name)
    op.drop_index("ix_keys_project", table_name="keys")
    op.drop_table("keys")
    op.drop_table("members")
    op.drop_table("projects")
