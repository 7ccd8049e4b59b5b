"""Composes the app; the only file that knows every router."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from dayrun import __version__
from service import health, page, reachable
from service.audit import endpoints as audit
from service.context import Context
from service.database import Database
from service.draws import endpoints as draws
from service.exports import endpoints as exports
from service.feeds import endpoints as feeds
from service.feeds.broadcast import Broadcast
from service.forks import endpoints as forks
from service.hints import Hints
from service.http import openapi, problem
from service.http.bodies import Bodies
from service.http.door import Door
from service.http.identity import GUARDED
from service.http.methods import Heads
from service.http.observed import Observed
from service.http.problem import Problem
from service.http.request_id import Named
from service.keys import endpoints as keys
from service.launchers.chosen import launcher_of
from service.logs import endpoints as logs
from service.metrics.requests import Measured
from service.plans import endpoints as plans
from service.projects import endpoints as projects
from service.recipes import endpoints as recipes
from service.runs import amend, bulk, endpoints
from service.samples import endpoints as samples
from service.settings import Settings
from service.usage import endpoints as usage
from service.webhooks import endpoints as webhooks

PARTS = (endpoints, plans, bulk, amend, forks, samples, draws, exports, logs, feeds, usage, recipes, projects, keys, webhooks, audit)
"""Whose routes need somebody who was recognised."""


def create_app(settings: Settings) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        database = Database(settings)
        hints, broadcast = Hints(settings), Broadcast(database)
        probes = reachable.broker(settings), reachable.objects(settings)
        app.state.context = context = Context(settings, database, launcher_of(settings), hints, broadcast, *probes)
        yield
        hints.close()
        context.queue.close()
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
        generate_unique_id_function=openapi.operation_id,
    )
    problem.install(app)
    for part in PARTS:
        app.include_router(part.router, responses=GUARDED)
    app.include_router(health.router)
    # the last that is added is asked first: a request gets its name, is let in, and is measured before its body is looked at
    app.add_middleware(Bodies, largest=settings.request_bytes)
    app.add_middleware(Guard)
    app.add_middleware(Door, settings=settings)
    app.add_middleware(Measured)
    app.add_middleware(Heads)
    if settings.otlp_endpoint or settings.log_format == "json":
        app.add_middleware(Observed)
    app.add_middleware(Named)
    openapi.install(app, settings.oidc_issuer)

    page.install(app)
    return app


class Guard:
    """Refuses writes that a page of another origin makes a browser send."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD"):
            headers: dict[bytes, bytes] = dict(scope["headers"])
            origin = headers.get(b"origin", b"").decode("latin-1")
            if origin and host_of(origin) != headers.get(b"host", b"").decode("latin-1"):
                foreign = Problem(403, f"a page of {origin[:100]} may not change anything here")
                return await foreign.response(scope["path"])(scope, receive, send)
        await self._app(scope, receive, send)


def host_of(origin: str) -> str:
    """Host and port of an origin; empty for one that is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:  # such as an unclosed [ of an IPv6 address
        return ""
