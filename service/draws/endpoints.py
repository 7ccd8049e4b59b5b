"""Pictures of given prompts from a checkpoint: asked for, watched, fetched."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response

from dayrun.draws import DrawRequest, draw_conflicts
from dayrun.recipe import Recipe
from service.context import Context, Ctx
from service.draws.schemas import Draw, DrawPage
from service.folders import folder_at
from service.http.etags import IfNoneMatch
from service.http.idempotency import IdempotencyKey
from service.http.identity import DrawSamples, ReadRuns
from service.http.paging import Cursor, Limit, pages_of
from service.http.prefer import PreferWait
from service.http.problem import ErrorDetail, Problem, problems
from service.jobs import repository, service
from service.jobs.answers import Shown, accepted, shown_now
from service.jobs.tables import JobRow, Kind
from service.runs import service as runs
from service.samples.thumbnails import Width, as_image

router = APIRouter(tags=["draws"])


def read_draw(context: Context, job: JobRow) -> Draw:
    """A draw with the pictures that are there. Reads the folder."""
    if job.started_at is None:
        return Draw.of(job, None, [])
    try:
        index = folder_at(context.settings.run_url(job.run_id)).draw_index(job.id)
    except (FileNotFoundError, ValueError):  # nothing was drawn yet
        return Draw.of(job, None, [])
    return Draw.of(job, index["checkpoint"], index["images"])


def shown(context: Context) -> Shown:
    async def show(job: JobRow) -> Draw:
        return await asyncio.to_thread(read_draw, context, job)

    return show


@router.post(
    "/runs/{run_id}/samples",
    status_code=202,
    response_model=Draw,
    responses={**problems(404, 409, 422, 429), 200: {"model": Draw, "description": "Drawn, for who preferred to wait."}},
)
async def draw_samples(
    request: Request,
    context: Ctx,
    permit: DrawSamples,
    run_id: str,
    new: DrawRequest,
    wait: PreferWait = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Draw prompts from a checkpoint of the run; the newest, if no step is named. `Location` is where the pictures appear."""
    async with context.database.read() as session:
        run = await runs.find(session, run_id, permit)
    if conflicts := draw_conflicts(Recipe.model_validate(run.recipe), new):
        errors = [ErrorDetail(pointer=e.at, value=e.value, because=e.because, nearest=list(e.nearest)) for e in conflicts]
        raise Problem(422, f"it cannot be drawn: {conflicts[0]}", kind="cannot-be-drawn", errors=errors)
    step = await asyncio.to_thread(service.checkpoint_of, context.settings.run_url(run_id), new.step)

    async def work(session: Any) -> JobRow:
        run = await runs.find(session, run_id, permit, to_change=True)
        return await service.order(session, run, Kind.DRAW, step, new.model_dump(mode="json"), permit, context.settings.jobs_waiting)

    return await accepted(request, context, idempotency_key, wait, work, shown(context))


@router.get("/runs/{run_id}/draws", responses=problems(400, 404, 422))
async def list_draws(
    request: Request, response: Response, context: Ctx, permit: ReadRuns, run_id: str, limit: Limit = 20, cursor: Cursor = None
) -> DrawPage:
    """What was asked to be drawn from the run's checkpoints, newest first."""
    pages = await pages_of(request, context)
    before = pages.open(cursor)
    async with context.database.read() as session:
        await runs.find(session, run_id, permit)
        rows = await repository.page(session, run_id, Kind.DRAW, before, limit + 1)
    following = pages.seal(rows[limit - 1].id) if len(rows) > limit else None
    pages.link(response, following)
    items = await asyncio.to_thread(lambda: [read_draw(context, row) for row in rows[:limit]])
    return DrawPage(items=items, next=following)


@router.get("/runs/{run_id}/draws/{draw_id}", response_model=Draw, responses={**problems(404), 304: {"description": "It is as it was."}})
async def show_draw(
    request: Request,
    context: Ctx,
    permit: ReadRuns,
    run_id: str,
    draw_id: str,
    wait: PreferWait = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """One draw, with the pictures so far. With `Prefer: wait` and `If-None-Match`: as soon as its state is another."""
    async with context.database.read() as session:
        await runs.find(session, run_id, permit)
        job = await service.find(session, run_id, Kind.DRAW, draw_id)
    return await shown_now(request, context, job, shown(context), wait, if_none_match)


@router.post("/runs/{run_id}/draws/{draw_id}:cancel", status_code=202, response_model=Draw, responses=problems(404, 409, 422))
async def cancel_draw(
    request: Request,
    context: Ctx,
    permit: DrawSamples,
    run_id: str,
    draw_id: str,
    wait: PreferWait = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Stop drawing. What was drawn so far stays readable."""

    async def work(session: Any) -> JobRow:
        await runs.find(session, run_id, permit)
        job = await service.find(session, run_id, Kind.DRAW, draw_id, to_change=True)
        await service.cancel(session, job, permit)
        return job

    return await accepted(request, context, idempotency_key, wait, work, shown(context))


@router.get(
    "/runs/{run_id}/draws/{draw_id}/{file}",
    response_class=Response,
    responses={**problems(404, 422), 200: {"content": {"image/png": {}, "image/webp": {}}}, 304: {"description": "The client has it."}},
)
async def show_drawn_picture(
    context: Ctx, permit: ReadRuns, run_id: str, draw_id: str, file: str, width: Width = None, if_none_match: IfNoneMatch = None
) -> Response:
    """One drawn picture (PNG), or a thumbnail of it (WebP)."""
    async with context.database.read() as session:
        await runs.find(session, run_id, permit)
        await service.find(session, run_id, Kind.DRAW, draw_id)
    folder = folder_at(context.settings.run_url(run_id))

    def read() -> bytes:
        try:
            if any(image["file"] == file for image in folder.draw_index(draw_id)["images"]):
                return folder.draw_picture(draw_id, file)
        except (FileNotFoundError, ValueError):
            pass
        raise Problem(
            404, f"the draw has no picture {file[:60]!r} (yet); GET /runs/{run_id}/draws/{draw_id} lists them", kind="no-such-picture"
        )

    return await as_image(f"{run_id}/{draw_id}/{file}", read, width, if_none_match)
