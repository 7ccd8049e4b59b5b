"""Runs over HTTP: in and out, nothing else."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic import Field

from service import events
from service.access import Permit
from service.context import Context, Ctx
from service.http.etags import IfMatch, check_match
from service.http.idempotency import Answer, IdempotencyKey, once
from service.http.identity import CreateRuns, MoveRuns, ReadRuns
from service.http.paging import LARGEST, Cursor, Limit, link_next
from service.http.problem import Problem, problems
from service.runs import artifacts, repository, service
from service.runs.reconcile import order_of
from service.runs.schemas import Checkpoints, Event, EventPage, Metrics, NewRun, Run, RunPage, RunSummary, Sample, SamplePage
from service.runs.states import OVER, Move, State

router = APIRouter(tags=["runs"])

Step = Annotated[int, Field(ge=0, le=LARGEST)]
EVENT_STREAM = "text/event-stream"
LOOK_AGAIN_SECONDS = 0.5
KEEPALIVE_SECONDS = 15.0


def answer(run: Run, status: int) -> Answer:
    headers = {"Location": f"/runs/{run.id}", "ETag": f'"{run.version}"'}
    return Answer(status=status, body=run.model_dump_json().encode(), headers=headers)


@router.post("/runs", status_code=201, response_model=Run, responses=problems(409, 413, 422))
async def create_run(request: Request, context: Ctx, permit: CreateRuns, new: NewRun, idempotency_key: IdempotencyKey = None) -> Response:
    """Store a run and queue it. The recipe is checked first: a run that exists can be trained."""
    recipe = service.effective_recipe(new)
    made: list[str] = []

    async def work(session: Any) -> Answer:
        run = Run.of(await service.create(session, new, recipe, permit))
        made.append(run.id)
        return answer(run, 201)

    response = await once(request, context.database, idempotency_key, work)
    for run_id in made:
        context.hint(run_id)
    return response


@router.get("/runs", responses=problems(422))
async def list_runs(
    request: Request,
    response: Response,
    context: Ctx,
    permit: ReadRuns,
    state: Annotated[list[State], Query(description="Only runs in one of these states.")] = [],  # noqa: B006
    limit: Limit = 50,
    cursor: Cursor = None,
) -> RunPage:
    """Runs, newest first."""
    async with context.database.read() as session:
        rows = await repository.page(session, cursor, state, limit + 1, permit.projects)
    following = rows[limit - 1].id if len(rows) > limit else None
    link_next(request, response, following)
    return RunPage(items=[RunSummary.of(row) for row in rows[:limit]], next=following)


@router.get("/runs/{run_id}", responses=problems(404))
async def show_run(context: Ctx, permit: ReadRuns, run_id: str, response: Response) -> Run:
    """One run with its effective recipe, and the moves that it can make."""
    async with context.database.read() as session:
        run = Run.of(await service.find(session, run_id, permit))
    response.headers["ETag"] = f'"{run.version}"'
    return run


async def ask(
    request: Request, context: Context, permit: Permit, run_id: str, wanted: Move, key: str | None, match: str | None
) -> Response:
    async def work(session: Any) -> Answer:
        run = await service.find(session, run_id, permit, to_change=True)
        check_match(match, run.version, "the run")
        return answer(Run.of(await service.ask(session, run, wanted, permit)), 202)

    response = await once(request, context.database, key, work)
    context.hint(run_id)
    return response


@router.post("/runs/{run_id}:pause", status_code=202, response_model=Run, responses=problems(404, 409, 412))
async def pause_run(
    request: Request, context: Ctx, permit: MoveRuns, run_id: str, idempotency_key: IdempotencyKey = None, if_match: IfMatch = None
) -> Response:
    """Write a checkpoint, then stop the workers. The run can be resumed."""
    return await ask(request, context, permit, run_id, Move.PAUSE, idempotency_key, if_match)


@router.post("/runs/{run_id}:resume", status_code=202, response_model=Run, responses=problems(404, 409, 412))
async def resume_run(
    request: Request, context: Ctx, permit: MoveRuns, run_id: str, idempotency_key: IdempotencyKey = None, if_match: IfMatch = None
) -> Response:
    """Queue a paused or failed run again; it goes on from its newest good checkpoint."""
    return await ask(request, context, permit, run_id, Move.RESUME, idempotency_key, if_match)


@router.post("/runs/{run_id}:cancel", status_code=202, response_model=Run, responses=problems(404, 409, 412))
async def cancel_run(
    request: Request, context: Ctx, permit: MoveRuns, run_id: str, idempotency_key: IdempotencyKey = None, if_match: IfMatch = None
) -> Response:
    """Stop the run for good. What it has left so far stays readable."""
    return await ask(request, context, permit, run_id, Move.CANCEL, idempotency_key, if_match)


@router.get("/runs/{run_id}/events", response_model=EventPage, responses={**problems(404, 422), 200: {"content": {EVENT_STREAM: {}}}})
async def list_events(
    request: Request,
    context: Ctx,
    permit: ReadRuns,
    run_id: str,
    limit: Limit = 200,
    cursor: Annotated[int, Query(ge=0, le=LARGEST, description="Events after this id.")] = 0,
    accept: Annotated[str, Header(description=f"{EVENT_STREAM}: events as they come, until the run is over.")] = "",
    last_event_id: Annotated[int | None, Header(ge=0, le=LARGEST, description="Go on after this event.")] = None,
) -> Response:
    """What happened to the run, oldest first; as JSON, or live as server-sent events."""
    async with context.database.read() as session:
        await service.find(session, run_id, permit)
        if EVENT_STREAM not in accept:
            rows = await events.after(session, run_id, cursor, limit + 1)
            following = str(rows[limit - 1].id) if len(rows) > limit else None
            page = EventPage(items=[Event.of(row) for row in rows[:limit]], next=following)
            response = Response(page.model_dump_json(), media_type="application/json")
            link_next(request, response, following)
            return response
    stream = event_stream(context, run_id, cursor if last_event_id is None else last_event_id)
    return StreamingResponse(stream, media_type=EVENT_STREAM, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})


async def event_stream(context: Context, run_id: str, last: int) -> AsyncIterator[bytes]:
    """Events after `last` as they are recorded; ends when the run is over and all were sent."""
    quiet = 0.0
    while True:
        async with context.database.read() as session:
            run = await repository.get(session, run_id)
            rows = await events.after(session, run_id, last, 500)
        for row in rows:
            last, quiet = row.id, 0.0
            yield format_sse_event(data_str=Event.of(row).model_dump_json(), event=row.type, id=str(row.id))
        if not rows and (run is None or run.state in OVER):
            return
        if not rows:
            quiet += LOOK_AGAIN_SECONDS
            if quiet % KEEPALIVE_SECONDS == 0:
                yield KEEPALIVE_COMMENT
            await asyncio.sleep(LOOK_AGAIN_SECONDS)


@router.get("/runs/{run_id}/metrics", responses=problems(404, 422))
async def show_metrics(
    context: Ctx,
    permit: ReadRuns,
    run_id: str,
    names: Annotated[str | None, Query(description="Names, with commas between; all when left out.")] = None,
    points: Annotated[int | None, Query(ge=2, le=100_000, description="Thin each series to about this many points.")] = None,
) -> Metrics:
    """What was measured, by name, as [step, value, time]."""
    async with context.database.read() as session:
        await service.find(session, run_id, permit)
        wanted = names.split(",") if names else await repository.metric_names(session, run_id)
        found = {name: await repository.series(session, run_id, name) for name in wanted}
    return Metrics(series={name: thinned(series, points) for name, series in found.items()})


def thinned(series: list[Any], points: int | None) -> list[Any]:
    """Every n-th point so that about `points` are left, the last one always among them."""
    stride = -(-len(series) // points) if points else 1
    return series[(len(series) - 1) % stride :: stride] if series else []


@router.get("/runs/{run_id}/samples", responses=problems(404, 422))
async def list_samples(
    request: Request,
    response: Response,
    context: Ctx,
    permit: ReadRuns,
    run_id: str,
    step: Annotated[list[Step], Query(description="Only pictures of these steps.")] = [],  # noqa: B006
    set: Annotated[list[str], Query(description="Only pictures of these sets.")] = [],  # noqa: B006
    limit: Limit = 200,
    cursor: Cursor = None,
) -> SamplePage:
    """Pictures that the model has drawn so far, by step."""
    async with context.database.read() as session:
        await service.find(session, run_id, permit)
    after = cursor_of_sample(cursor)
    url = context.settings.run_url(run_id)
    found: list[Sample] = await asyncio.to_thread(artifacts.samples, url, run_id, step, set, after, limit)
    following = found[limit - 1].url.rsplit("/samples/", 1)[-1] if len(found) > limit else None
    link_next(request, response, following)
    return SamplePage(items=found[:limit], next=following)


def cursor_of_sample(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    step, _, file = cursor.partition("/")
    if not step.isdigit():
        raise Problem(422, f"cursor {cursor[:60]!r} is none of ours; take `next` of the page before")
    return int(step), file


@router.get(
    "/runs/{run_id}/samples/{step}/{file}", response_class=Response, responses={**problems(404), 200: {"content": {"image/png": {}}}}
)
async def show_sample(context: Ctx, permit: ReadRuns, run_id: str, step: Annotated[Step, Path()], file: str) -> Response:
    """One picture (PNG)."""
    async with context.database.read() as session:
        await service.find(session, run_id, permit)
    data = await asyncio.to_thread(artifacts.picture, context.settings.run_url(run_id), step, file)
    return Response(data, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})


@router.get("/runs/{run_id}/checkpoints", responses=problems(404))
async def list_checkpoints(context: Ctx, permit: ReadRuns, run_id: str) -> Checkpoints:
    """Complete checkpoints, oldest first."""
    async with context.database.read() as session:
        await service.find(session, run_id, permit)
    return Checkpoints(items=await asyncio.to_thread(artifacts.checkpoints, context.settings.run_url(run_id)))


@router.get("/runs/{run_id}/logs", response_class=PlainTextResponse, responses=problems(404, 422))
async def show_log(
    context: Ctx,
    permit: ReadRuns,
    run_id: str,
    attempt: Annotated[int | None, Query(ge=1, le=LARGEST, description="Default: the newest.")] = None,
    rank: Annotated[str | None, Query(max_length=20, description="A number, or `launcher`. Default: 0.")] = None,
    tail: Annotated[int | None, Query(ge=1, le=LARGEST, description="Only the last lines.")] = None,
) -> str:
    """What one process of an attempt printed."""
    async with context.database.read() as session:
        newest = (await service.find(session, run_id, permit)).attempt
    return await asyncio.to_thread(artifacts.log_text, context.settings.run_url(run_id), newest, attempt, rank, tail)


@router.get("/runs/{run_id}/manifest", responses=problems(404))
async def show_manifest(context: Ctx, permit: ReadRuns, run_id: str) -> dict[str, Any]:
    """What the launcher starts for the newest attempt, or would start for the first."""
    async with context.database.read() as session:
        run = await service.find(session, run_id, permit)
    settings = context.settings
    return context.launcher.manifest(order_of(run, max(1, run.attempt), settings.run_url(run.id), settings.stop_seconds))
