"""Composes the app; the only file that knows every router."""

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dayrun import __version__
from service import health, reachable
from service.audit import endpoints as audit
from service.context import Context
from service.database import Database
from service.draws import endpoints as draws
from service.exports import endpoints as exports
from service.feeds import endpoints as feeds
from service.feeds.broadcast import Broadcast
from service.forks import endpoints as forks
from service.hints import Hints
from service.http import problem
from service.http.door import Door
from service.http.identity import GUARDED
from service.http.problem import Problem
from service.http.request_id import RequestId
from service.keys import endpoints as keys
from service.launchers.local import LocalLauncher
from service.logs import endpoints as logs
from service.plans import endpoints as plans
from service.projects import endpoints as projects
from service.recipes import endpoints as recipes
from service.runs import amend, bulk, endpoints
from service.samples import endpoints as samples
from service.settings import Settings
from service.tasks import make_celery
from service.usage import endpoints as usage
from service.webhooks import endpoints as webhooks

PARTS = (endpoints, plans, bulk, amend, forks, samples, draws, exports, logs, feeds, usage, recipes, projects, keys, webhooks, audit)
"""Whose routes need somebody who was recognised."""
WEB = Path(__file__).parent / "web"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def create_app(settings: Settings) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        database = Database(settings)
        hints, broadcast = Hints(make_celery(settings)), Broadcast(database)
        probes = reachable.broker(settings), reachable.objects(settings)
        app.state.context = context = Context(settings, database, LocalLauncher(settings), hints, broadcast, *probes)
        yield
        hints.close()
        await broadcast.close()
        await context.credentials.close()
        await database.close()

    app = FastAPI(
        title="dayrun",
        version=__version__,
        description="A recipe in, a text-to-image model in a day, at a price told beforehand.",
        lifespan=lifespan,
        redoc_url=None,
        docs_url=None,
    )
    problem.install(app)
    for part in PARTS:
        app.include_router(part.router, responses=GUARDED)
    app.include_router(health.router)
    app.add_middleware(Door, settings=settings)
    app.add_middleware(Guard, largest=settings.request_bytes)
    app.add_middleware(RequestId)
    app.add_middleware(Measured)

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(WEB / "index.html", headers={"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"})

    app.mount("/web", StaticFiles(directory=WEB), name="web")
    return app


class Guard:
    """Refuses bodies that are too large, and writes that a page of another origin makes a browser send."""

    def __init__(self, app: ASGIApp, largest: int) -> None:
        self._app, self._largest = app, largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers: dict[str, str] = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        origin: str | None = headers.get("origin")
        if scope["method"] not in ("GET", "HEAD") and origin is not None and urlsplit(origin).netloc != headers.get("host"):
            foreign = Problem(403, f"a page of {origin[:100]} may not change anything here")
            return await foreign.response(scope["path"])(scope, receive, send)
        too_large = Problem(413, f"the body has more than the {self._largest:,} bytes that a request may have", kind="body-too-large")
        if headers.get("content-length", "0").isdigit() and int(headers.get("content-length", "0")) > self._largest:
            return await too_large.response(scope["path"])(scope, receive, send)
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._largest:
                raise too_large
            return message

        await self._app(scope, counted, send)


class Measured:
    """Counts and times requests by route, not by path: ids would make endless series."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        begun, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            health.REQUESTS.labels(scope["method"], route, str(status)).inc()
            health.SECONDS.labels(scope["method"], route).observe(time.perf_counter() - begun)
