"""Every revision, whichever there are, up and down with rows in it; and statements of older code on newer tables."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from fastapi.testclient import TestClient
from sqlalchemy import Engine, MetaData, NullPool, Table, create_engine, inspect, text, types

from service.app import create_app
from service.check_migrations import judged, sql_of
from service.revisions import MIGRATIONS, config, known_revisions
from service.settings import Settings
from service.stack import Stack
from tests.conftest import ROOT
from tests.service.conftest import new_database

Row = dict[str, Any]
ALL = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()][::-1]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    return new_database(request.getfixturevalue("stack")).replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    made = create_engine(url, poolclass=NullPool)
    yield made
    made.dispose()


def to(url: str, revision: str) -> None:
    """Migrate up or down to `revision`."""
    with create_engine(url, poolclass=NullPool).connect() as connection:
        there = inspect(connection).has_table("alembic_version")
        now = connection.scalar(text("SELECT version_num FROM alembic_version")) if there else None
    down = now is not None and revision in ALL[: ALL.index(now) + 1]
    (command.downgrade if down else command.upgrade)(config(url), revision)


def tables(engine: Engine) -> list[Table]:
    """As they are in the database, those that others point to first."""
    found = MetaData()
    found.reflect(engine)
    return [table for table in found.sorted_tables if table.name != "alembic_version"]


def value_for(column: Any, mark: str) -> Any:
    """Something that the column takes; texts hold JSON, since most of ours do."""
    if isinstance(column.type, types.Text) or (isinstance(column.type, types.String) and column.type.length is None):
        return f'{{"mark":"{mark}"}}'
    if isinstance(column.type, types.String):
        return f"{mark}"[: column.type.length]
    if isinstance(column.type, types.Boolean):
        return False
    if isinstance(column.type, types.DateTime):
        return datetime(2026, 11, 24, 12)
    if isinstance(column.type, types.LargeBinary):
        return b"{}"
    return 1


def row_for(table: Table, mark: str, number: int) -> Row:
    """A row with a value for each column; ids that the database gives are given here, so that two rows are never one."""
    row = {column.name: value_for(column, mark) for column in table.columns}
    for column in table.primary_key.columns:
        if isinstance(column.type, types.Integer):
            row[column.name] = number
    return row


def write(engine: Engine, present: list[Table], mark: str, number: int) -> dict[str, Row]:
    """One row in each table that there is."""
    written = {table.name: row_for(table, mark, number) for table in present}
    with engine.begin() as connection:
        for table in present:
            connection.execute(table.insert().values(written[table.name]))
    return written


def survivors(engine: Engine, present: list[Table], written: dict[str, Row]) -> dict[str, Row]:
    """The rows of `written` as they are now, as far as table, row and columns are still there."""
    found: dict[str, Row] = {}
    with engine.connect() as connection:
        for table in present:
            if table.name in written:
                row = written[table.name]
                keys = [column == row[column.name] for column in table.primary_key.columns]
                now = connection.execute(table.select().where(*keys)).mappings().one_or_none()
                found[table.name] = {name: value for name, value in (now or {}).items() if name in row}
    return found


def shared(present: list[Table], written: dict[str, Row]) -> dict[str, Row]:
    """What of `written` the tables have a place for."""
    known = {table.name: set(table.columns.keys()) for table in present}
    return {
        name: {column: value for column, value in row.items() if column in known[name]} for name, row in written.items() if name in known
    }


def test_the_revisions_that_code_knows_are_alembics():
    assert known_revisions() == ALL[::-1]


def test_rows_of_every_revision_survive_the_way_up_and_down(url: str, engine: Engine):
    written: dict[str, dict[str, Row]] = {}
    for number, revision in enumerate(ALL, 1):
        to(url, revision)
        present = tables(engine)
        written[revision] = write(engine, present, f"m{number}", 100 + number)
        for older, rows in written.items():
            assert survivors(engine, present, rows) == rows, f"rows of {older} at {revision}"
    for revision in ALL[-2::-1]:
        to(url, revision)
        present = tables(engine)
        for other, rows in written.items():
            assert survivors(engine, present, rows) == shared(present, rows), f"rows of {other} back at {revision}"
    command.downgrade(config(url), "base")
    assert tables(engine) == []


def oldest_beside(revisions: list[str]) -> int:
    """Where the revisions begin whose code may run beside the newest tables: a migration that contracts says `contracts = REVISION`."""
    directory = ScriptDirectory(str(MIGRATIONS))
    told = [getattr(directory.get_revision(revision).module, "contracts", None) for revision in revisions]
    return max([0, *(revisions.index(one) + 1 for one in told if one)])


def test_statements_of_older_code_are_valid_on_the_newest_tables(url: str, engine: Engine):
    known: dict[str, list[Table]] = {}
    for revision in ALL:
        to(url, revision)
        known[revision] = tables(engine)
    for number, revision in enumerate(ALL[oldest_beside(ALL) :], 1):
        with engine.begin() as connection:
            for table in known[revision]:  # the columns that code of this revision knows, and no others
                row = row_for(table, f"old{number}", 500 + number)
                keys = [column == row[column.name] for column in table.primary_key.columns]
                connection.execute(table.insert().values(row))
                connection.execute(
                    table.update()
                    .where(*keys)
                    .values({name: value for name, value in row.items() if name not in table.primary_key.columns})
                )
                assert dict(connection.execute(table.select().where(*keys)).mappings().one()) == row, f"{table.name} of {revision}"
            for table in reversed(known[revision]):
                row = row_for(table, f"old{number}", 500 + number)
                keys = [column == row[column.name] for column in table.primary_key.columns]
                assert connection.execute(table.delete().where(*keys)).rowcount == 1


def test_code_on_an_older_schema_is_not_ready_and_says_what_it_needs(tmp_path: Path):
    settings = Settings(home=tmp_path)
    to(f"sqlite:///{settings.database_file}", ALL[-2])
    with TestClient(create_app(settings)) as client:
        assert client.get("/healthz").status_code == 200
        ready = client.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["database"] == f"at revision {ALL[-2]}, this code needs {ALL[-1]}: run `dayrun serve --migrate`"


CONCURRENT = '''"""An index on a table in use."""
from service import expand
revision = "with_index"
down_revision = "{head}"
def upgrade() -> None:
    expand.create_index("ix_runs_name", "runs", ["name"])
def downgrade() -> None:
    expand.drop_index("ix_runs_name", "runs")
'''
MIGRATE = "import sys; from alembic import command; from service import revisions; from pathlib import Path; "
MIGRATE += "revisions.MIGRATIONS = Path(sys.argv[1]); command.upgrade(revisions.config(sys.argv[2]), 'head')"


@pytest.fixture
def with_index(tmp_path: Path) -> Path:
    """The migrations, and one more that makes an index with others at work."""
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder)
    (folder / "versions" / "with_index.py").write_text(CONCURRENT.format(head=ALL[-1]))
    return folder


def test_several_that_migrate_at_once_make_one_valid_index(url: str, engine: Engine, with_index: Path):
    at_once = 1 if engine.dialect.name == "sqlite" else 2  # an SQLite file is migrated by its one service
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    start = [sys.executable, "-c", MIGRATE, str(with_index), url]
    migrating = [subprocess.Popen(start, cwd=ROOT, env=environment, stderr=subprocess.PIPE) for _ in range(at_once)]
    for process in migrating:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said.decode()
    assert [index["column_names"] for index in inspect(engine).get_indexes("runs") if index["name"] == "ix_runs_name"] == [["name"]]
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT indisvalid FROM pg_index WHERE indexrelid = 'ix_runs_name'::regclass")) is True


def test_a_migration_waits_for_a_busy_table_for_seconds_only(stack: Stack):
    url = new_database(stack).replace("postgresql://", "postgresql+psycopg://")
    to(url, ALL[0])
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("LOCK TABLE runs IN ACCESS SHARE MODE"))  # somebody reads for a long time
        with pytest.raises(Exception, match="lock timeout"):
            command.upgrade(config(url), "0003")
    to(url, ALL[-1])


def test_the_sql_of_a_migration_needs_no_database_and_limits_its_waiting():
    sql = sql_of(ALL[1], ALL[0])
    assert sql.startswith("SET lock_timeout")
    assert "CREATE TABLE heartbeats" in sql


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("SET lock_timeout = '5s'; ALTER TABLE runs ADD COLUMN x integer NOT NULL;", "adding-required-field"),
        ("SET lock_timeout = '5s'; ALTER TABLE runs DROP COLUMN name;", "ban-drop-column"),
        ("SET lock_timeout = '5s'; ALTER TABLE runs RENAME COLUMN name TO title;", "renaming-column"),
        ("SET lock_timeout = '5s'; CREATE INDEX x ON runs (name);", "require-concurrent-index-creation"),
        ("ALTER TABLE runs ADD COLUMN x integer;", "require-lock-timeout"),
        ("SET lock_timeout = '5s'; ALTER TABLE runs ADD COLUMN x integer;", None),
        ("SET lock_timeout = '5s'; ALTER TABLE runs ADD COLUMN x integer NOT NULL DEFAULT 0;", None),
    ],
)
def test_lint_stops_a_migration_that_would_stop_the_service(sql: str, rule: str | None):
    said = judged(sql, "x.sql")
    assert (rule in said) if rule else said == ""
