"""Versions of the database: which one a file has, which one this code needs, and the way from one to the other (Alembic)."""

import shutil
import sqlite3
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

MIGRATIONS = Path(__file__).resolve().parents[1] / "migrations"


class WrongVersion(Exception):
    """The database is of another version than the code; the message says what to do."""


def config(path: Path) -> Config:
    made = Config()
    made.set_main_option("script_location", str(MIGRATIONS))
    made.set_main_option("sqlalchemy.url", f"sqlite:///{path}")
    return made


@cache
def newest_revision() -> str:
    """The revision that this code needs."""
    return ScriptDirectory(str(MIGRATIONS)).get_current_head() or ""


def known_revisions() -> list[str]:
    return [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]


def revision_of(path: Path) -> str | None:
    """The revision of a database file; None when there is no file, or nothing in it. Changes nothing."""
    if not path.exists():
        return None
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return row[0] if row else None
    except sqlite3.OperationalError:
        return None
    finally:
        connection.close()


def bring_up_to_date(path: Path, may_migrate: bool) -> None:
    """Create the database, or migrate an older one when that is allowed; a copy of the old file is kept beside it. Raises WrongVersion."""
    found, needed = revision_of(path), newest_revision()
    if found == needed:
        return
    if found is not None and found not in known_revisions():
        raise WrongVersion(
            f"{path} is at revision {found}, which this dayrun does not know (it knows up to {needed}): use the newer dayrun"
        )
    if found is not None:
        if not may_migrate:
            raise WrongVersion(
                f"{path} is at revision {found}, this dayrun needs {needed}: "
                f"run `dayrun serve --migrate` (a copy is kept as {path.name}.{found})"
            )
        copy = sqlite3.connect(path)  # a plain copy would miss what is still in the write-ahead log
        copy.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        copy.close()
        shutil.copy2(path, path.with_name(f"{path.name}.{found}"))
    path.parent.mkdir(parents=True, exist_ok=True)
    command.upgrade(config(path), "head")
