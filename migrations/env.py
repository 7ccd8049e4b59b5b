"""How Alembic reaches the database; the tables are those of `service`."""

import time

from alembic import context
from sqlalchemy import create_engine, pool, text

from service import seals as _seals  # noqa: F401
from service.audit import tables as _audit  # noqa: F401
from service.database import Base, Json, UtcDateTime
from service.jobs import tables as _jobs  # noqa: F401
from service.keys import tables as _keys  # noqa: F401
from service.metrics import tallies as _tallies  # noqa: F401
from service.plans import tables as _plans  # noqa: F401
from service.projects import tables as _projects  # noqa: F401
from service.recipes import tables as _recipes  # noqa: F401
from service.revisions import MIGRATION_LOCK
from service.runs import tables as _runs  # noqa: F401
from service.usage import tables as _usage  # noqa: F401
from service.webhooks import tables as _webhooks  # noqa: F401


def render_item(kind, item, _context):
    """A migration names plain column types: it must still run when the code's own types have moved."""
    if kind == "type" and isinstance(item, UtcDateTime | Json):
        return "sa.DateTime()" if isinstance(item, UtcDateTime) else "sa.Text()"
    return False


def wait_for_turn(connection):
    """Of several that migrate at once, one does and the others ask again and again.

    A session that blocked in pg_advisory_lock would hold a snapshot, for which CREATE INDEX CONCURRENTLY of the first waits: a deadlock.
    """
    while not connection.scalar(text(f"SELECT pg_try_advisory_lock({MIGRATION_LOCK})")):
        connection.rollback()
        time.sleep(0.2)
    connection.commit()


# a migration waits for a busy table for seconds only, since everyone queues behind it; set for the session, it holds in each transaction
LIMIT_WAITING = "SET lock_timeout = '5s'"
url = context.config.get_main_option("sqlalchemy.url")
if context.is_offline_mode():  # the SQL alone, for squawk and for those whose databases are changed by others
    context.configure(url=url, target_metadata=Base.metadata, literal_binds=True, transaction_per_migration=True)
    if context.get_context().dialect.name == "postgresql":
        context.execute(LIMIT_WAITING)
    with context.begin_transaction():
        context.run_migrations()
else:
    with create_engine(url, poolclass=pool.NullPool).connect() as connection:
        postgres = connection.dialect.name == "postgresql"
        if postgres:
            wait_for_turn(connection)
            connection.execute(text(LIMIT_WAITING))
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
