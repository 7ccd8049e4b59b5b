"""`python -m service.migrate` as a deployment runs it: one process migrates, the others wait for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, inspect, text

from service.revisions import newest_revision, sync_url
from service.settings import Settings
from service.stack import Stack
from tests.conftest import ROOT
from tests.service.conftest import new_database


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Of an empty database."""
    return Settings(home=tmp_path, database=None if request.param == "sqlite" else new_database(request.getfixturevalue("stack")))


def start(settings: Settings, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "service.migrate", *options]
    environment = {**settings.for_children(), "PYTHONPATH": os.fspath(ROOT)}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(settings: Settings, *options: str) -> tuple[int, str]:
    """Exit code, and what was said."""
    process = start(settings, *options)
    said, trouble = process.communicate(timeout=120)
    return process.returncode, said + trouble


def tables(settings: Settings) -> list[str]:
    engine = create_engine(sync_url(settings), poolclass=NullPool)
    return inspect(engine).get_table_names()


def test_a_waiting_process_ends_once_another_has_migrated(settings: Settings):
    waiting = start(settings, "--wait")
    assert waiting.stderr
    assert "has no tables" in waiting.stderr.readline()
    code, said = run(settings)
    assert code == 0, said
    said, _ = waiting.communicate(timeout=60)
    assert (waiting.returncode, said) == (0, f"the database is at revision {newest_revision()}\n")


def test_who_waits_in_vain_says_what_to_run_and_makes_no_table(settings: Settings):
    code, said = run(settings, "--wait", "--patience", "0")
    assert code == 1
    assert "run `python -m service.migrate`" in said
    assert tables(settings) == []


@pytest.mark.parametrize("options", [(), ("--wait",)])
def test_a_database_that_a_newer_dayrun_has_migrated_is_left_as_it_is(settings: Settings, options: tuple[str, ...]):
    assert run(settings)[0] == 0
    engine = create_engine(sync_url(settings), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    code, said = run(settings, *options)
    assert code == 0
    assert "at revision 9999, which a newer dayrun made" in said
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "9999"


def test_a_database_that_is_away_is_waited_for(stack: Stack, tmp_path: Path):
    settings = Settings(home=tmp_path, database=stack.postgres.url("made-while-waiting"))
    waiting = start(settings, "--patience", "60")
    assert waiting.stderr
    assert "DAYRUN_DATABASE cannot be used" in waiting.stderr.readline()
    stack.postgres.create_database("made-while-waiting")
    said, _ = waiting.communicate(timeout=60)
    assert (waiting.returncode, said) == (0, f"the database is at revision {newest_revision()}\n")


def test_without_patience_a_database_that_is_away_ends_it(tmp_path: Path):
    code, said = run(Settings(home=tmp_path, database="postgresql://nobody:x@127.0.0.1:1/none"))
    assert code == 1
    assert said.startswith("migrate: DAYRUN_DATABASE cannot be used")
    assert said.endswith("nothing was changed\n")
