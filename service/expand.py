"""For migrations: steps that need care on a Postgres in use. SQLite's files are changed by one process, with nobody waiting."""

from alembic import op
from sqlalchemy import TextClause


def on_postgres() -> bool:
    """Also where only the SQL is wanted and there is no database."""
    return op.get_context().dialect.name == "postgresql"


def create_index(name: str, table: str, columns: list[str], *, unique: bool = False, where: TextClause | None = None) -> None:
    """An index on a table that may be large, while others write to it.

    Postgres builds it concurrently, outside of any transaction, so let it be the last thing that a migration does. One that was broken off
    leaves an index that is not valid: it is dropped and built anew when the migration is run again.
    """
    if not on_postgres():
        op.create_index(name, table, columns, unique=unique, sqlite_where=where)
        return
    with op.get_context().autocommit_block():
        op.drop_index(name, table_name=table, if_exists=True, postgresql_concurrently=True)
        op.create_index(name, table, columns, unique=unique, postgresql_where=where, postgresql_concurrently=True)


def drop_index(name: str, table: str) -> None:
    """The way back."""
    if not on_postgres():
        op.drop_index(name, table_name=table)
        return
    with op.get_context().autocommit_block():
        op.drop_index(name, table_name=table, if_exists=True, postgresql_concurrently=True)
