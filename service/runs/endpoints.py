"""Runs over HTTP: in and out, nothing else."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from dayrun.recipe import Recipe
from service.access import Permit
from service.context import Context, Ctx
from service.http.etags import IfMatch, IfNoneMatch, check_match, content_tag, is_known, version_tag
from service.http.idempotency import Answer, IdempotencyKey, once
from service.http.identity import CreateRuns, MoveRuns, ReadRuns
from service.http.instants import Instant
from service.http.paging import Cursor, Limit, pages_of
from service.http.prefer import PreferWait, applied, hold
from service.http.problem import problems
from service.plans import service as plans
from service.plans.endpoints import must_still_hold
from service.recipes.service import named
from service.runs import artifacts, listing, repository, service
from service.runs.reconcile import order_of
from service.runs.schemas import Checkpoints, Metrics, NewRun, Run, RunPage, lean_page
from service.runs.states import Move, State
from service.runs.tables import RunRow

router = APIRouter(tags=["runs"])

PlanMatch = Annotated[str | None, Header(alias="If-Match", description="ETag of the plan that must still hold.")]
NOT_MODIFIED = {304: {"description": "The client has it."}}


def answer(run: RunRow, status: int) -> Answer:
    headers = {"Location": f"/runs/{run.id}", "ETag": version_tag(run.version)}
    return Answer(status=status, body=Run.json_of(run), headers=headers)


async def accepted_with(session: AsyncSession, context: Context, recipe: Recipe) -> service.AcceptedWith:
    """What a new run is held against: the room that there is, and its plan as of now."""
    estimate = await plans.predicted(session, recipe, context.history)
    return service.AcceptedWith(context.settings.accelerators, estimate.model_dump(mode="json"))


@router.post("/runs", status_code=201, response_model=Run, responses=problems(403, 404, 409, 412, 413, 422))
async def create_run(
    request: Request, context: Ctx, permit: CreateRuns, new: NewRun, idempotency_key: IdempotencyKey = None, if_match: PlanMatch = None
) -> Response:
    """Store a run and queue it. The recipe is checked first: a run that exists can be trained."""
    if isinstance(new.recipe, str):
        async with context.database.read() as session:
            new = await named(session, new, new.recipe, permit)
    recipe = service.effective_recipe(new)
    service.must_suit(context.launcher, recipe)
    if if_match is not None:
        await must_still_hold(context, new, recipe, permit, if_match)
    made: list[str] = []

    async def work(session: Any) -> Answer:
        run = await service.create(session, new, recipe, permit, await accepted_with(session, context, recipe))
        made.append(run.id)
        return answer(run, 201)

    response = await once(request, context.database, idempotency_key, work)
    for run_id in made:
        context.hint(run_id)
    return response


@router.get("/runs", response_model=RunPage, responses={**problems(400, 404, 422), **NOT_MODIFIED})
async def list_runs(
    request: Request,
    context: Ctx,
    permit: ReadRuns,
    state: Annotated[list[State], Query(description="Only runs in one of these states.")] = [],  # noqa: B006
    project: Annotated[str | None, Query(min_length=1, max_length=40, description="Only runs of this project.")] = None,
    name: Annotated[str | None, Query(max_length=100, description="Only runs whose recipe has this name.")] = None,
    label: Annotated[list[str], Query(description="`KEY=VALUE`: only runs with this label. Repeatable: all of them.")] = [],  # noqa: B006
    recipe: Annotated[list[str], Query(description='`/POINTER=JSON`, e.g. `/optimizer/kind="muon"`. Repeatable.')] = [],  # noqa: B006
    parent: Annotated[str | None, Query(max_length=40, description="Only forks of this run.")] = None,
    search: Annotated[str | None, Query(min_length=1, max_length=100, description="Only runs with this in their name or id.")] = None,
    created_after: Instant | None = None,
    created_before: Instant | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Runs, newest first. What is null in a run is left out of the list."""
    chosen = listing.RunFilter(
        state, project, name, listing.labels_of(label), listing.conditions_of(recipe), created_after, created_before, parent, search
    )
    if project is not None:
        permit.on(project)
    pages = await pages_of(request, context)
    before = pages.open(cursor)
    async with context.database.read() as session:
        rows = await listing.summaries(session, chosen, before, limit + 1, permit.projects)
    following = pages.seal(rows[limit - 1].id) if len(rows) > limit else None
    body = lean_page(rows[:limit], following)
    response = Response(body, media_type="application/json", headers={"ETag": content_tag(body), "Cache-Control": "private, no-cache"})
    pages.link(response, following)
    if is_known(if_none_match, response.headers["ETag"]):
        return Response(status_code=304, headers={name: response.headers[name] for name in ("ETag", "Link", "Cache-Control")})
    return response


@router.get("/runs/{run_id}", response_model=Run, responses={**problems(404, 422), **NOT_MODIFIED})
async def show_run(
    request: Request, context: Ctx, permit: ReadRuns, run_id: str, wait: PreferWait = None, if_none_match: IfNoneMatch = None
) -> Response:
    """One run with its effective recipe, and the moves that it can make. With `Prefer: wait` and `If-None-Match`: as soon as it changes."""
    async with context.database.read() as session:
        run = await service.find(session, run_id, permit)
    if wait and is_known(if_none_match, version_tag(run.version)):
        run = await hold(request, context.database, wait, lambda session: changed(session, run_id, run.version)) or run
    headers = {"ETag": version_tag(run.version), "Cache-Control": "private, no-cache", **applied(wait)}
    if is_known(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(Run.json_of(run), media_type="application/json", headers=headers)


async def changed(session: AsyncSession, run_id: str, version: int) -> RunRow | None:
    """The run once it is at another version."""
    if await repository.version_of(session, run_id) == version:
        return None
    return await repository.get(session, run_id)


SETTLING = {Move.PAUSE: State.PAUSING, Move.RESUME: State.QUEUED, Move.CANCEL: State.CANCELLING}
"""Where a run is while it does what it was asked to: who waits wants to see what comes after."""


async def settled(session: AsyncSession, run_id: str, wanted: Move) -> RunRow | None:
    """The run once it has left the state that the move began with."""
    run = await repository.get(session, run_id)
    return run if run is not None and run.state != SETTLING[wanted] else None


async def ask(
    request: Request, context: Context, permit: Permit, run_id: str, wanted: Move, key: str | None, match: str | None, wait: int | None
) -> Response:
    """202 with the run on its way; 200 with the run that has arrived, for who would wait and need not in vain."""

    async def work(session: Any) -> Answer:
        run = await service.find(session, run_id, permit, to_change=True)
        check_match(match, version_tag(run.version))
        return answer(await service.ask(session, run, wanted, permit), 202)

    response = await once(request, context.database, key, work)
    context.hint(run_id)
    if wait is None or "Idempotency-Replayed" in response.headers:
        return response
    if run := await hold(request, context.database, wait, lambda session: settled(session, run_id, wanted)):
        response = answer(run, 200).response()
    response.headers.update(applied(wait))
    return response


MOVED: dict[int | str, dict[str, Any]] = {
    **problems(404, 409, 412, 422),
    200: {"model": Run, "description": "Done, for who preferred to wait."},
}


@router.post("/runs/{run_id}:pause", status_code=202, response_model=Run, responses=MOVED)
async def pause_run(
    request: Request,
    context: Ctx,
    permit: MoveRuns,
    run_id: str,
    idempotency_key: IdempotencyKey = None,
    if_match: IfMatch = None,
    wait: PreferWait = None,
) -> Response:
    """Write a checkpoint, then stop the workers. The run can be resumed."""
    return await ask(request, context, permit, run_id, Move.PAUSE, idempotency_key, if_match, wait)


@router.post("/runs/{run_id}:resume", status_code=202, response_model=Run, responses=MOVED)
async def resume_run(
    request: Request,
    context: Ctx,
    permit: MoveRuns,
    run_id: str,
    idempotency_key: IdempotencyKey = None,
    if_match: IfMatch = None,
    wait: PreferWait = None,
) -> Response:
    """Queue a paused or failed run again; it goes on from its newest good checkpoint."""
    return await ask(request, context, permit, run_id, Move.RESUME, idempotency_key, if_match, wait)


@router.post("/runs/{run_id}:cancel", status_code=202, response_model=Run, responses=MOVED)
async def cancel_run(
    request: Request,
    context: Ctx,
    permit: MoveRuns,
    run_id: str,
    idempotency_key: IdempotencyKey = None,
    if_match: IfMatch = None,
    wait: PreferWait = None,
) -> Response:
    """Stop the run for good. What it has left so far stays readable."""
    return await ask(request, context, permit, run_id, Move.CANCEL, idempotency_key, if_match, wait)


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


@router.get("/runs/{run_id}/checkpoints", responses=problems(404))
async def list_checkpoints(context: Ctx, permit: ReadRuns, run_id: str) -> Checkpoints:
    """Complete checkpoints, oldest first."""
    async with context.database.read() as session:
        await service.find(session, run_id, permit)
    return Checkpoints(items=await asyncio.to_thread(artifacts.checkpoints, context.settings.run_url(run_id)))


@router.get("/runs/{run_id}/manifest", responses=problems(404))
async def show_manifest(context: Ctx, permit: ReadRuns, run_id: str) -> dict[str, Any]:
    """What the launcher starts for the newest attempt, or would start for the first."""
    async with context.database.read() as session:
        run = await service.find(session, run_id, permit)
    return context.launcher.manifest(order_of(run, max(1, run.attempt), context.settings))
