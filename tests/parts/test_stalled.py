"""Who stalls in a transaction, and what becomes of the rows that it has locked."""

from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.string import StrDumper
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from service.database import Database
from service.settings import Settings
from service.stack import Stack
from tests.conftest import until


async def test_rows_are_free_again_though_their_holder_stalled_between_many_statements(stack: Stack, tmp_path: Path):
    """As a machine does that is paused, or a process that waits for memory."""
    address = stack.postgres.create_database("stalled")
    database = Database(Settings(home=tmp_path, database=address, lease_seconds=2))
    with psycopg.connect(address, autocommit=True) as successor:
        successor.execute("CREATE TABLE rows (id text PRIMARY KEY, changes int)")
        successor.execute("INSERT INTO rows VALUES ('a', 0), ('b', 0)")
        successor.execute("SET lock_timeout = '100ms'")

        def is_free() -> bool:
            try:
                return successor.execute("UPDATE rows SET changes = changes + 1 WHERE id = 'a'").rowcount == 1
            except psycopg.errors.LockNotAvailable:
                return False

        class Stalls(StrDumper):
            """Before the second statement: the whole process waits in here, as if it were stopped."""

            def dump(self, obj: str) -> Any:
                if obj == "b":
                    assert not is_free()
                    until(is_free, "a successor to get the row", 20)
                return super().dump(obj)

        async with database.engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            driver.adapters.register_dumper(str, Stalls)
            with pytest.raises(DBAPIError):
                await connection.execute(text("UPDATE rows SET changes = 100 WHERE id = :id"), [{"id": "a"}, {"id": "b"}])
        assert successor.execute("SELECT id, changes FROM rows ORDER BY id").fetchall() == [("a", 1), ("b", 0)]
    await database.close()


async def test_many_statements_tell_how_many_rows_they_changed(stack: Stack, tmp_path: Path):
    database = Database(Settings(home=tmp_path, database=stack.postgres.create_database("counted")))
    async with database.engine.begin() as connection:
        await connection.execute(text("CREATE TABLE rows (id int PRIMARY KEY)"))
        await connection.execute(text("INSERT INTO rows VALUES (1), (2), (3)"))
        done = await connection.execute(text("DELETE FROM rows WHERE id >= :id"), [{"id": 3}, {"id": 2}, {"id": 9}])
        assert done.rowcount == 2
    await database.close()
