"""Pictures of runs over HTTP: listed, whole, as thumbnails, on one sheet, side by side."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from service.access import Permit
from service.context import Context, Ctx
from service.http.etags import IfNoneMatch, content_tag, is_known
from service.http.identity import ReadRuns
from service.http.paging import Cursor, Limit, pages_of
from service.http.problem import ErrorDetail, Problem, problems
from service.runs import service
from service.runs.tables import RunRow
from service.samples.comparing import side_by_side, steps_to_show
from service.samples.reading import picture, samples, steps_with_pictures
from service.samples.schemas import Comparison, SamplePage
from service.samples.sheets import refuse_too_many, sheet_of_comparison, sheet_of_run
from service.samples.thumbnails import Width, as_image, worked_on

router = APIRouter(tags=["samples"])

IMAGES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {}, "image/webp": {}}},
    304: {"description": "The client has it."},
}
SHEET: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}}, 304: {"description": "The client has it."}}
Cell = Annotated[int, Query(ge=32, le=256, description="Width and height of a picture on the sheet.")]
MOST_RUNS = 4
Step = Annotated[int, Path(ge=0, le=10**12)]


@router.get("/runs/{run_id}/samples", responses=problems(400, 404, 422))
async def list_samples(
    request: Request,
    response: Response,
    context: Ctx,
    permit: ReadRuns,
    run_id: str,
    step: Annotated[list[Annotated[int, Field(ge=0, le=10**12)]], Query(description="Only pictures of these steps.")] = [],  # noqa: B006
    set: Annotated[list[str], Query(description="Only pictures of these sets.")] = [],  # noqa: B006
    limit: Limit = 200,
    cursor: Cursor = None,
) -> SamplePage:
    """Pictures that the model has drawn so far, by step."""
    pages = await pages_of(request, context)
    position = pages.open(cursor)
    await seen(context, permit, run_id)
    after = None if position is None else (int(position.partition("/")[0]), position.partition("/")[2])
    found = await asyncio.to_thread(samples, context.settings.run_url(run_id), run_id, step, set, after, limit)
    following = pages.seal(found[limit - 1].url.rsplit("/samples/", 1)[-1]) if len(found) > limit else None
    pages.link(response, following)
    return SamplePage(items=found[:limit], next=following)


@router.get("/runs/{run_id}/samples/{step}/{file}", response_class=Response, responses={**problems(404, 422), **IMAGES})
async def show_sample(
    context: Ctx, permit: ReadRuns, run_id: str, step: Step, file: str, width: Width = None, if_none_match: IfNoneMatch = None
) -> Response:
    """One picture (PNG), or a thumbnail of it (WebP)."""
    await seen(context, permit, run_id)
    url = context.settings.run_url(run_id)
    return await as_image(f"{run_id}/{step}/{file}", lambda: picture(url, step, file), width, if_none_match)


@router.get("/runs/{run_id}/samples:sheet", response_class=Response, responses={**problems(404, 422), **SHEET})
async def show_sheet(
    context: Ctx,
    permit: ReadRuns,
    run_id: str,
    set: Annotated[str | None, Query(max_length=100, description="Which set; default: the first.")] = None,
    steps: Annotated[
        str | None, Query(pattern=r"^\d{1,12}(,\d{1,12})*$", max_length=2000, description="Steps, with commas between; default: all.")
    ] = None,
    width: Cell = 112,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """One page of what the model drew: prompts from top to bottom, steps from left to right (PNG)."""
    run = await seen(context, permit, run_id)
    url = context.settings.run_url(run_id)
    wanted = [int(one) for one in steps.split(",")] if steps else None
    found = await asyncio.to_thread(samples, url, run_id, wanted, [set] if set else None)
    found = [one for one in found if one.set == (set or found[0].set)]
    if not found:
        raise Problem(404, "nothing was drawn that could be on the sheet; GET …/samples lists what was", kind="no-such-sample")
    refuse_too_many(len(found), sorted({one.step for one in found}))
    tag = content_tag(f"{width}".encode(), *(f"{one.url}{one.time}".encode() for one in found))
    return await sheet(tag, if_none_match, lambda: sheet_of_run(url, f"{run.name} · {run.id}", found, width))


Runs = Annotated[
    str, Query(max_length=400, pattern=r"^[^,\s]+(,[^,\s]+)+$", description=f"Ids of two runs, with a comma between; at most {MOST_RUNS}.")
]


@router.get("/samples:compare", responses=problems(404, 422))
async def compare_samples(
    context: Ctx,
    permit: ReadRuns,
    runs: Runs,
    set: Annotated[str | None, Query(max_length=100, description="Only pictures of this set.")] = None,
    prompt: Annotated[str | None, Query(max_length=2000, description="Only this prompt.")] = None,
    step: Annotated[int | None, Query(ge=0, description="As near to it as there are; default: the newest that all have reached.")] = None,
) -> Comparison:
    """What runs drew of the same prompts from the same noise, side by side."""
    return (await compared(context, permit, runs, set, prompt, step))[1]


@router.get("/samples:compare-sheet", response_class=Response, responses={**problems(404, 422), **SHEET})
async def show_comparison(
    context: Ctx,
    permit: ReadRuns,
    runs: Runs,
    set: Annotated[str | None, Query(max_length=100, description="Only pictures of this set.")] = None,
    prompt: Annotated[str | None, Query(max_length=2000, description="Only this prompt.")] = None,
    step: Annotated[int | None, Query(ge=0, description="As near to it as there are; default: the newest that all have reached.")] = None,
    width: Cell = 112,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The same as one page: prompts from top to bottom, runs from left to right (PNG)."""
    rows, comparison = await compared(context, permit, runs, set, prompt, step)
    urls, names = [context.settings.run_url(row.id) for row in rows], [f"{row.name} {row.id[-4:]}" for row in rows]
    refuse_too_many(len(comparison.pairs) * len(rows), [])
    tag = content_tag(f"{width}".encode(), comparison.model_dump_json().encode())
    return await sheet(tag, if_none_match, lambda: sheet_of_comparison(urls, names, comparison, width))


async def seen(context: Context, permit: Permit, run_id: str) -> RunRow:
    async with context.database.read() as session:
        return await service.find(session, run_id, permit)


async def compared(
    context: Context, permit: Permit, runs: str, set: str | None, prompt: str | None, step: int | None
) -> tuple[list[RunRow], Comparison]:
    ids = list(dict.fromkeys(runs.split(",")))
    if not 2 <= len(ids) <= MOST_RUNS:
        because = f"{len(ids)} different runs: it takes 2 to {MOST_RUNS}"
        raise Problem(422, because, kind="invalid-request", errors=[ErrorDetail(pointer="query runs", value=runs[:200], because=because)])
    rows = [await seen(context, permit, run_id) for run_id in ids]

    def read() -> Comparison:
        urls = [context.settings.run_url(row.id) for row in rows]
        steps = steps_to_show([steps_with_pictures(url) for url in urls], step)
        found = [
            samples(url, row.id, [at], [set] if set else None) if at is not None else []
            for url, row, at in zip(urls, rows, steps, strict=True)
        ]
        return side_by_side(ids, steps, [[one for one in some if prompt in (None, one.prompt)] for some in found])

    return rows, await asyncio.to_thread(read)


async def sheet(tag: str, if_none_match: str | None, make: Callable[[], bytes]) -> Response:
    """A sheet of pictures; 304, without drawing it, to who has it."""
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if is_known(if_none_match, tag):
        return Response(status_code=304, headers=headers)
    return Response(await worked_on(make), headers=headers, media_type="image/png")
