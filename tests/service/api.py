"""The API alone, in a thread of the test's process, on a database of its own: for facts that need neither a worker nor a trainer."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from sqlalchemy.ext.asyncio import AsyncSession

from dayrun.client import Client
from dayrun.rules import load
from service.access import LOCAL, Action, Permit
from service.app import create_app
from service.database import Database
from service.revisions import bring_up_to_date
from service.runs import service as runs
from service.runs.schemas import NewRun
from service.runs.tables import RunRow
from service.settings import Settings
from tests.tiny import tiny_recipe

PERMIT = Permit(LOCAL, Action.MOVE_RUNS)
NOTHING = runs.AcceptedWith(accelerators=None, estimate=None)


class Api:
    """`http` and `client` speak to it, `database` is the same rows seen from this thread."""

    def __init__(self, settings: Settings) -> None:
        bring_up_to_date(settings, may_migrate=True)
        self.settings, self.database = settings, Database(settings)
        self.app = create_app(settings)
        listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(self.app, log_level="warning", timeout_graceful_shutdown=1, lifespan="on"))
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve(sockets=[listener])), daemon=True)
        self._thread.start()
        self.client = Client(self.url)
        self.http = httpx.Client(base_url=self.url, timeout=60)
        self.asynchronous = httpx.AsyncClient(base_url=self.url, timeout=60)

    async def close(self) -> None:
        self._server.should_exit = True
        await asyncio.to_thread(self._thread.join, 30)
        self.client.close()
        self.http.close()
        await self.asynchronous.aclose()
        await self.database.close()

    async def run(self, **more: Any) -> str:
        """A stored run that nobody launches."""
        document = tiny_recipe("nowhere", steps=10)
        async with self.database.write() as session:
            run = await runs.create(session, NewRun(recipe=document, **more), load(document), PERMIT, NOTHING)
        return run.id

    @asynccontextmanager
    async def locked(self, run_id: str) -> AsyncIterator[tuple[AsyncSession, RunRow]]:
        """A transaction that holds the run's row."""
        async with self.database.write() as session:
            yield session, await runs.find(session, run_id, PERMIT, to_change=True)

    async def execute(self, statement: Any, **values: Any) -> Any:
        async with self.database.write() as session:
            return await session.execute(statement, values)

    @contextmanager
    def stream(self, path: str, last: str | None = None) -> Iterator["Stream"]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last is not None else {})
        with self.http.stream("GET", path, headers=headers) as response:
            assert response.status_code == 200, response.read()
            assert response.headers["content-type"].startswith("text/event-stream")
            yield Stream(response)


class Stream:
    """Server-sent events of a response, one (id, event, data) at a time; comments are left out."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.iter_lines()

    def __iter__(self) -> Iterator[tuple[str, str, str]]:
        found: dict[str, str] = {}
        for line in self._lines:
            name, _, value = line.partition(": ")
            if line == "" and "data" in found:
                yield found["id"], found["event"], found["data"]
                found = {}
            elif name:
                found[name] = value

    def next(self) -> tuple[str, str, str]:
        return next(iter(self))


def settings_for(home: Path, database: str | None, **more: Any) -> Settings:
    home.mkdir(parents=True, exist_ok=True)
    return Settings(home=home, database=database, **more)
