"""How Alembic reaches the database; the tables are those of `service`."""

from alembic import context
from sqlalchemy import create_engine, pool, text

from service.database import Base, Json, UtcDateTime
from service.keys import tables as _keys  # noqa: F401
from service.plans import tables as _plans  # noqa: F401
from service.projects import tables as _projects  # noqa: F401
from service.revisions import MIGRATION_LOCK
from service.runs import tables as _runs  # noqa: F401
from service.usage import tables as _usage  # noqa: F401


def render_item(kind, item, _context):
    """A migration names plain column types: it must still run when the code's own types have moved."""
    if kind == "type" and isinstance(item, UtcDateTime | Json):
        return "sa.DateTime()" if isinstance(item, UtcDateTime) else "sa.Text()"
    return False


url = context.config.get_main_option("sqlalchemy.url")
if context.is_offline_mode():
    context.configure(url=url, target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    with create_engine(url, poolclass=pool.NullPool).connect() as connection:
        postgres = connection.dialect.name == "postgresql"
        if postgres:
            # one migrates, the others wait; and a migration waits for a busy table for seconds only, since everyone queues behind it
            connection.execute(text(f"SELECT pg_advisory_lock({MIGRATION_LOCK})"))
            connection.execute(text("SET lock_timeout = '5s'"))
            connection.commit()
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=not postgres,
            compare_type=True,
            render_item=render_item,
            transaction_per_migration=True,
        )
        with context.begin_transaction():
            context.run_migrations()
