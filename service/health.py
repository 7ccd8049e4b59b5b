"""Is it alive, is it ready, and its figures for Prometheus."""

import asyncio

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from service.context import Context, Ctx
from service.database import now
from service.metrics.scrape import scrape
from service.revisions import known_revisions, newest_revision, revision_of
from service.runs import repository
from service.runs.tables import WORKER

router = APIRouter(tags=["health"])

SILENT_TOO_LONG = 15.0
"""Seconds without a sweep after which the service counts as not ready: runs would not be looked after."""


class Health(BaseModel):
    status: str


class Readiness(BaseModel):
    ready: bool
    database: str
    worker: str
    broker: str = "unknown"
    objects: str = "unknown"


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers. Nothing else is looked at: a restart would not mend a database."""
    return Health(status="ok")


@router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}})
async def readyz(context: Ctx) -> JSONResponse:
    """Whether a run that is posted now would be stored and looked after.

    Without the broker it is, a sweep later; without the store of run folders it waits in the queue. Both are told and neither is asked for.
    """
    state = await readiness(context)
    return JSONResponse(state.model_dump(), 200 if state.ready else 503)


async def readiness(context: Context) -> Readiness:
    try:
        async with context.database.read() as session:
            beat = await repository.last_beat(session, WORKER)
        revision = await asyncio.to_thread(revision_of, context.settings)
    except SQLAlchemyError as error:
        broker, objects = await asyncio.gather(context.broker.says(), context.objects.says())
        return Readiness(ready=False, database=f"not usable: {type(error).__name__}", worker="unknown", broker=broker, objects=objects)
    # a revision that we do not know is a newer dayrun's, on its way in: migrations only expand, and we work on beside it
    current = revision == newest_revision()
    newer = revision is not None and revision not in known_revisions()
    silent = (now() - beat).total_seconds() if beat else None
    worker = "has not begun yet" if silent is None else f"last sweep {silent:.1f} s ago"
    alive = silent is not None and silent < SILENT_TOO_LONG
    behind = ", which a newer dayrun made" if newer else f", this code needs {newest_revision()}: run `dayrun serve --migrate`"
    database = "ok" if current else f"at revision {revision}{behind}"
    broker, objects = await asyncio.gather(context.broker.says(), context.objects.says())
    return Readiness(ready=(current or newer) and alive, database=database, worker=worker, broker=broker, objects=objects)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(context: Ctx, request: Request) -> Response:
    """Figures of this process and of all runs, in Prometheus' text format or in OpenMetrics, which has exemplars."""
    body, content_type = await scrape(context, request.headers.get("accept", ""))
    return Response(body, headers={"Content-Type": content_type})
