"""The API inside the test's own process, on a real database: for what is about requests and rows, not about processes."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from service.app import create_app
from service.context import Context
from service.keys.__main__ import first_key
from service.keys.schemas import NewKey
from service.revisions import bring_up_to_date
from service.settings import Settings


class Inside:
    def __init__(self, app: FastAPI, operator: str) -> None:
        self.app, self.operator = app, operator

    @property
    def context(self) -> Context:
        return self.app.state.context

    async def ask(self, method: str, path: str, key: str | None = None, **arguments: Any) -> httpx.Response:
        """Send one request; `key` is what stands behind Bearer."""
        headers = arguments.pop("headers", {}) | ({"Authorization": f"Bearer {key}"} if key else {})
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://inside") as http:
            return await http.request(method, path, headers=headers, **arguments)

    async def key(self, role: str = "writer", project: str | None = "default", **more: Any) -> str:
        """A new key, made by the operator."""
        made = await self.made_key(role, project, **more)
        return made["key"]

    async def made_key(self, role: str = "writer", project: str | None = "default", **more: Any) -> dict[str, Any]:
        answer = await self.ask(
            "POST", "/keys", self.operator, json={"name": f"{role} of {project}", "role": role, "project": project, **more}
        )
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def project(self, project_id: str) -> str:
        answer = await self.ask("POST", "/projects", self.operator, json={"id": project_id})
        assert answer.status_code == 201, answer.text
        return project_id


@asynccontextmanager
async def inside(home: Path, **settings: Any) -> AsyncIterator[Inside]:
    """A service that asks for keys, with an operator's key, without limits unless `settings` say otherwise."""
    chosen = Settings(**{"home": home, "auth": "required", "requests_per_second": 0, **settings})
    bring_up_to_date(chosen, False)
    key = await first_key(chosen, NewKey(name="the test", role="operator"), force=True)
    app = create_app(chosen)
    async with app.router.lifespan_context(app):
        yield Inside(app, key)


@contextmanager
def listening(home: Path, port: int = 0, **settings: Any) -> Iterator[tuple[str, str]]:
    """The same behind a port of this machine (0: a free one), for clients and browsers: its address, and an operator's key."""
    chosen = Settings(**{"home": home, "auth": "required", **settings})
    bring_up_to_date(chosen, False)
    with ThreadPoolExecutor() as threads:  # a test that drives a browser has a loop in its own thread
        key = threads.submit(asyncio.run, first_key(chosen, NewKey(name="the test", role="operator"), force=True)).result()
    listener = socket.create_server(("127.0.0.1", port))
    server = uvicorn.Server(uvicorn.Config(create_app(chosen), log_level="warning", lifespan="on", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", key
    finally:
        server.should_exit = True
        thread.join()


def kind(answer: httpx.Response) -> str:
    """The kind of problem that an answer is."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.json()["type"].removeprefix("urn:dayrun:problem:")
