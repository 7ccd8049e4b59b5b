"""The engine, sessions and column types, for SQLite (write-ahead log) and Postgres (psycopg 3). Nothing here knows a table.

Transactions that write say so (`Database.write`): SQLite refuses to turn a reader into a writer once another has written, so its writers
begin with the write lock in hand. On Postgres several writers work at once; who changes a row that others may change locks it first.
"""

import os
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache, lru_cache
from select import POLLERR, POLLHUP, POLLIN, poll
from typing import Any, NamedTuple, cast

from pydantic_core import from_json, to_json
from sqlalchemy import BindParameter, DateTime, Engine, Table, Text, TextClause, bindparam, event, insert, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.types import TypeDecorator

from service.settings import Settings

CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"


class Base(DeclarativeBase):
    """Rows of every resource."""


class UtcDateTime(TypeDecorator[datetime]):
    """An instant: aware in Python, UTC in the database."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        return value.astimezone(UTC).replace(tzinfo=None) if value else None

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        return value.replace(tzinfo=UTC) if value else None


class Json(TypeDecorator[Any]):
    """A JSON value as text: the same bytes on every database."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> str | None:
        return None if value is None else to_json(value).decode()

    def process_result_value(self, value: str | None, dialect: Any) -> Any:
        return None if value is None else from_json(value)


def now() -> datetime:
    return datetime.now(UTC)


def new_id(prefix: str) -> str:
    """`prefix` and a UUIDv7 (RFC 9562) in Crockford's base 32: sorts by time, reads aloud, needs no quoting."""
    number = (time.time_ns() // 1_000_000) << 80 | 0x7 << 76 | int.from_bytes(os.urandom(10)) & ((1 << 76) - 1)
    number = number & ~(0b11 << 62) | 0b10 << 62
    return f"{prefix}_{''.join(CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))}"


class Database:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engine: AsyncEngine = create_async_engine(
            settings.database_url,
            connect_args=connect_arguments(settings),
            hide_parameters=True,  # an error is logged with its statement; what stood in it may be a secret
            pool_size=settings.database_connections,
            max_overflow=settings.database_more_connections,
            pool_timeout=settings.database_wait_seconds,
        )
        self.is_postgres = self.engine.dialect.name == "postgresql"
        if not self.is_postgres:
            prepare(self.engine.sync_engine)
        else:
            leave_dead_connections(self.engine.sync_engine)
            event.listen(self.engine.sync_engine, "do_executemany", one_after_another)
            if settings.database_pgbouncer:
                limit_each_transaction(self.engine.sync_engine, settings)
        # a reader on Postgres needs no transaction, and BEGIN and ROLLBACK would cost two round trips
        readers = self.engine.execution_options(isolation_level="AUTOCOMMIT") if self.is_postgres else self.engine
        self._sessions = async_sessionmaker(self.engine, expire_on_commit=False)
        self._readers = async_sessionmaker(readers, expire_on_commit=False)

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[AsyncSession]:
        """To look, not to write. On SQLite one consistent view, on Postgres one a statement."""
        async with self._readers() as session:
            yield session

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[AsyncSession]:
        """One transaction, committed at the end, rolled back when the block raises."""
        async with self._sessions() as session:
            await session.connection(execution_options={"writes": True})
            yield session
            if session.info.get(WAITING):
                await finish(session)
            await session.commit()

    @asynccontextmanager
    async def single(self) -> AsyncGenerator[AsyncSession]:
        """For one statement that is a transaction by itself: on Postgres without BEGIN and COMMIT around it."""
        async with self.read() if self.is_postgres else self.write() as session:
            yield session

    @property
    def connections(self) -> tuple[dict[str, int], int]:
        """How many there are, `used` and `idle`, and how many there may be."""
        pool: Any = self.engine.pool
        return {
            "used": pool.checkedout(),
            "idle": pool.checkedin(),
        }, self.settings.database_connections + self.settings.database_more_connections

    async def close(self) -> None:
        await self.engine.dispose()


def connect_arguments(settings: Settings) -> dict[str, Any]:
    """What the driver is told for each connection."""
    if settings.database is None:
        return {"timeout": settings.database_busy_seconds}
    # a server that vanished without a word (a host that died, a network that parted) is given up after a while, not after two hours
    patience = {"connect_timeout": 5, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 30_000}
    if settings.database_pgbouncer:  # it passes on neither start-up options nor prepared statements in transaction mode
        return {**patience, "prepare_threshold": None}
    limits = " ".join(f"-c {name}={seconds * 1000:.0f}" for name, seconds in time_outs(settings).items())
    return {**patience, "options": f"{limits} -c timezone=UTC"}


def first_line(error: Exception) -> str:
    """What went wrong, without the statement and the links that drivers add."""
    return (str(getattr(error, "orig", None) or error).splitlines() or [type(error).__name__])[0]


def time_outs(settings: Settings) -> dict[str, float]:
    """Postgres' own limits, in seconds. Who stalls in a transaction loses it with the lease: its locks would hold up all the others."""
    return {
        "statement_timeout": settings.database_statement_seconds,
        "lock_timeout": settings.database_busy_seconds,
        "idle_in_transaction_session_timeout": settings.lease_seconds,
    }


def leave_dead_connections(engine: Engine) -> None:
    """Before a pooled connection is used, see whether the server has hung up on it (a restart, a failover), and then take new ones.

    An idle server says nothing: what there is to read is its farewell. That costs no round trip, as a ping would for each request.
    """

    def taken(_connection: Any, record: Any, _proxy: Any) -> None:
        watch = poll()
        watch.register(record.driver_connection.fileno(), POLLIN | POLLHUP | POLLERR)
        if watch.poll(0):
            raise InvalidatePoolError("the database has closed the connection")

    event.listen(engine, "checkout", taken)


def one_after_another(cursor: Any, statement: str, parameters: Sequence[Any], context: Any) -> bool:
    """`executemany` without psycopg's pipeline, in which Postgres takes all for one command that is under way: none of its limits ends
    who stalls there, and the rows of the first statements stay locked."""
    changed = 0
    for each in parameters:
        cursor.execute(statement, each)
        changed += cursor.rowcount
    context._rowcount = changed  # which the unit of work compares with what it meant to change
    return True


def limit_each_transaction(engine: Engine, settings: Settings) -> None:
    """Set the time-outs anew in each transaction: behind PgBouncer a connection is another one each time."""

    def begun(connection: Connection) -> None:
        if connection.get_execution_options().get("writes"):
            limits = (f"SET LOCAL {name}={seconds * 1000:.0f}" for name, seconds in time_outs(settings).items())
            connection.exec_driver_sql("; ".join(limits))

    event.listen(engine, "begin", begun)


WAITING = "rows to insert at the end"


class Beside(NamedTuple):
    """A statement of Postgres and SQLite that changes one row and returns something of it, with its typed parameters."""

    sql: str
    parameters: tuple[BindParameter[Any], ...]


def insert_last(session: AsyncSession, *rows: Base) -> None:
    """INSERT `rows` as they are, those of one kind in their order, at the end of a `Database.write`. They stay outside the session.

    Where rows are written and answered for at once, the unit of work would only find out what is known already.
    """
    session.info.setdefault(WAITING, []).extend(rows)


async def finish(session: AsyncSession, beside: Beside | None = None, values: Mapping[str, Any] | None = None) -> bool:
    """Insert what waits, and run `beside` with `values`; whether that found its row.

    Postgres takes it all in one statement, which looks at foreign keys at its end; SQLite is in this process, and takes one after another.
    """
    rows: list[Base] = session.info.pop(WAITING, [])
    given = [{name: value for name, value in vars(row).items() if name in column_names(type(row))} for row in rows]
    connection = await session.connection()
    if connection.dialect.name == "postgresql" and rows:
        shapes = tuple((type(row), tuple(one)) for row, one in zip(rows, given, strict=True))
        named = {f"{name}_{number}": value for number, one in enumerate(given) for name, value in one.items()}
        return (await connection.execute(insertion(shapes, beside), named | dict(values or {}))).first() is not None
    if rows:
        kinds = [table_of(type(row)) for row in rows]
        await connection.run_sync(lambda inside: each(inside, kinds, given))
    return beside is None or (await connection.execute(statement(beside), values)).first() is not None


@cache
def statement(beside: Beside) -> TextClause:
    return text(beside.sql).bindparams(*beside.parameters)


def each(connection: Connection, tables: list[Table], values: list[dict[str, Any]]) -> None:
    for table, one in zip(tables, values, strict=True):
        connection.execute(insert(table).inline(), one)


@lru_cache(maxsize=100)
def insertion(shapes: tuple[tuple[type[Base], tuple[str, ...]], ...], beside: Beside | None) -> TextClause:
    """One statement that inserts a row for each (kind, columns); the value of `COLUMN` of the nth row is `COLUMN_n`.

    Rows of one kind share an INSERT: between the parts of a statement Postgres knows no order, and ids must follow it. It is text, since
    SQLAlchemy compiles an INSERT of several rows anew each time, which would cost more than the database's part.
    """
    kinds: dict[type[Base], list[int]] = {}
    for number, (kind, _) in enumerate(shapes):
        kinds.setdefault(kind, []).append(number)
    parts, typed = list[str](), list[BindParameter[Any]]()
    for kind, numbers in kinds.items():
        table, names = table_of(kind), shapes[numbers[0]][1]
        places = ", ".join(f"({', '.join(f':{name}_{number}' for name in names)})" for number in numbers)
        columns = ", ".join(f'"{name}"' for name in names)
        parts.append(f"{table.name}_new AS (INSERT INTO {table.name} ({columns}) VALUES {places})")
        typed += [bindparam(f"{name}_{number}", type_=table.columns[name].type) for number in numbers for name in names]
    if beside is not None:
        parts.append(f"beside AS ({beside.sql})")
        typed += beside.parameters
    return text(f"WITH {', '.join(parts)} SELECT * FROM {'beside' if beside else '(SELECT 1) AS done'}").bindparams(*typed)


def table_of(kind: type[Base]) -> Table:
    return cast("Table", kind.__table__)


@cache
def column_names(kind: type[Base]) -> set[str]:
    return set(table_of(kind).columns.keys())


def upsert(session: AsyncSession, table: type[Base]) -> Any:
    """INSERT for `table` with ON CONFLICT, as SQLite and Postgres both have it, each in its own module."""
    return (postgresql if session.get_bind().dialect.name == "postgresql" else sqlite).insert(table)


def prepare(engine: Engine) -> None:
    """Set up each connection; let SQLAlchemy, not the driver, say when a transaction begins."""

    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        # with a write-ahead log, NORMAL keeps the file whole on any crash; FULL costs a disk flush for each row of metrics
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)
