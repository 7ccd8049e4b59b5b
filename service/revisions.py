"""Versions of the database: which one it has, which one this code needs, and the way from one to the other (Alembic).

Alembic is imported where something is migrated: an API process only compares names, and would start half as fast again with it.
"""

import re
import shutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError

from service.settings import Settings

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).resolve().parents[1] / "migrations"
MIGRATION_LOCK = 0x6461797275_6E  # any number that nobody else would take: the bytes of "dayrun"


class WrongVersion(Exception):
    """The database is of another version than the code; the message says what to do."""


def sync_url(settings: Settings) -> str:
    """The database's address for a synchronous engine."""
    return settings.database_url.replace("+aiosqlite", "")


def config(url: str) -> "Config":
    """Alembic for the database at the SQLAlchemy address `url`."""
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", str(MIGRATIONS))
    made.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return made


@cache
def known_revisions() -> list[str]:
    """Every revision that this code knows, the newest first: one a file, whose names are numbered."""
    files = sorted((MIGRATIONS / "versions").glob("*.py"), reverse=True)
    return [name for file in files for name in re.findall(r'^revision = "(\w+)"', file.read_text(), re.MULTILINE)]


def newest_revision() -> str:
    """The revision that this code needs."""
    return known_revisions()[0]


def revision_of(settings: Settings) -> str | None:
    """The revision of the database; None when there is nothing in it. Changes nothing. Raises DBAPIError when it cannot be reached."""
    file = settings.database_file
    if file is not None and not file.exists():
        return None
    url = f"sqlite:///file:{file}?mode=ro&uri=true" if file else sync_url(settings)
    with create_engine(url, poolclass=NullPool).connect() as connection:
        try:
            return connection.scalar(text("SELECT version_num FROM alembic_version"))
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            return None  # no such table: nothing was ever made here


def bring_up_to_date(settings: Settings, may_migrate: bool) -> None:
    """Create the tables, or migrate older ones when that is allowed. Raises WrongVersion.

    Of an SQLite file a copy is kept beside it. Several that migrate a Postgres at once wait for each other.
    """
    found, needed, file = revision_of(settings), newest_revision(), settings.database_file
    if found == needed:
        return
    place = str(file) if file else f"the database {create_engine(sync_url(settings)).url.render_as_string(hide_password=True)}"
    if found is not None and found not in known_revisions():
        raise WrongVersion(
            f"{place} is at revision {found}, which this dayrun does not know (it knows up to {needed}): use the newer dayrun"
        )
    if found is not None and not may_migrate:
        copy = f" (a copy is kept as {file.name}.{found})" if file else ""
        raise WrongVersion(f"{place} is at revision {found}, this dayrun needs {needed}: run `dayrun serve --migrate`{copy}")
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        if found is not None:
            keep_a_copy(file, found)
    from alembic import command

    command.upgrade(config(sync_url(settings)), "head")


def keep_a_copy(file: Path, revision: str) -> None:
    """The database as it is, beside it under the name of its revision."""
    with create_engine(f"sqlite:///{file}", poolclass=NullPool).connect() as connection:
        connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))  # a plain copy would miss what is still in the write-ahead log
    shutil.copy2(file, file.with_name(f"{file.name}.{revision}"))
