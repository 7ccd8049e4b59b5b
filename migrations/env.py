"""How Alembic reaches the database; the tables are those of `service`."""

from alembic import context
from sqlalchemy import create_engine, pool

from service.database import Base, Json, UtcDateTime
from service.runs import tables as tables


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
        context.configure(
            connection=connection, target_metadata=Base.metadata, render_as_batch=True, compare_type=True, render_item=render_item
        )
        with context.begin_transaction():
            context.run_migrations()
