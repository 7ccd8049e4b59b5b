"""Is it alive, is it ready, and its figures for Prometheus."""

import asyncio

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from service.context import Context, Ctx
from service.database import now
from service.revisions import known_revisions, newest_revision, revision_of
from service.runs import repository
from service.runs.states import State
from service.usage import repository as ledger

router = APIRouter(tags=["health"])

REGISTRY = CollectorRegistry()
REQUESTS = Counter("dayrun_http_requests", "Requests answered.", ["method", "route", "status"], registry=REGISTRY)
SECONDS = Histogram("dayrun_http_request_seconds", "Time to answer.", ["method", "route"], registry=REGISTRY)
RUNS = Gauge("dayrun_runs", "Runs in each state.", ["state"], registry=REGISTRY)
WORKER_SILENT = Gauge("dayrun_worker_silent_seconds", "Time since the worker's last sweep; NaN before the first.", registry=REGISTRY)
RUN_LABELS = ["run", "name"]
RUN_STEP = Gauge("dayrun_run_step", "Optimizer steps done by a run that is not over.", RUN_LABELS, registry=REGISTRY)
RUN_LOSS = Gauge("dayrun_run_loss", "Newest training loss.", RUN_LABELS, registry=REGISTRY)
RUN_RATE = Gauge("dayrun_run_images_per_second", "Training speed.", RUN_LABELS, registry=REGISTRY)
QUEUE_WAIT = Gauge("dayrun_queue_oldest_seconds", "How long the run that waits longest has been queued.", registry=REGISTRY)
HELD = Gauge("dayrun_accelerators_held", "Accelerators that runs hold, by project.", ["project"], registry=REGISTRY)
BURN = Gauge("dayrun_dollars_per_hour", "What the held accelerators cost, by project.", ["project"], registry=REGISTRY)
OTHERS = "(others)"

MOST_PROJECTS = 200
"""Series of projects; those that burn least are added up under OTHERS."""
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
            beat = await repository.last_beat(session, "worker")
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
async def metrics(context: Ctx) -> Response:
    """Figures of this process and of all runs, in Prometheus' text format."""
    async with context.database.read() as session:
        counts = await repository.count_by_state(session)
        active = await repository.page(session, None, [State.RUNNING, State.PAUSING, State.CANCELLING], 200)
        beat = await repository.last_beat(session, "worker")
        held = await ledger.held_by_project(session)
        oldest = await repository.oldest_queued(session)
    QUEUE_WAIT.set((now() - oldest).total_seconds() if oldest else 0.0)
    HELD.clear()
    BURN.clear()
    for number, (project_id, accelerators, dollars_per_hour) in enumerate(held):
        label = project_id if number < MOST_PROJECTS else OTHERS
        HELD.labels(label).inc(accelerators)
        BURN.labels(label).inc(dollars_per_hour)
    for state in State:
        RUNS.labels(state).set(counts.get(state, 0))
    for gauge, name in ((RUN_STEP, "step"), (RUN_LOSS, "loss"), (RUN_RATE, "images_per_second")):
        gauge.clear()  # a run that is over leaves no series behind
        for run in active:
            if (value := getattr(run, name)) is not None:
                gauge.labels(run.id, run.name).set(value)
    WORKER_SILENT.set((now() - beat).total_seconds() if beat else float("nan"))
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)
