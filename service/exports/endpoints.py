"""Checkpoints as diffusers folders: asked for, watched, downloaded file by file."""

import asyncio
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from dayrun.objects import Prefix
from dayrun.run_folder import ExportManifest
from service.context import Context, Ctx
from service.exports.schemas import Export, ExportPage, NewExport
from service.folders import folder_at
from service.http.etags import IfNoneMatch, is_known
from service.http.idempotency import IdempotencyKey
from service.http.identity import ExportRuns, ReadRuns
from service.http.paging import Cursor, Limit, pages_of
from service.http.prefer import PreferWait
from service.http.problem import Problem, problems
from service.jobs import repository, service
from service.jobs.answers import Shown, accepted, shown_now
from service.jobs.tables import JobRow, JobState, Kind
from service.runs import service as runs

router = APIRouter(tags=["exports"])
PIECE_BYTES = 4 * 2**20
"""What a download holds in memory at a time."""


def manifest_of(context: Context, job: JobRow) -> ExportManifest | None:
    """The files of a finished export. Reads the folder."""
    if job.state != JobState.DONE:
        return None
    try:
        return folder_at(context.settings.run_url(job.run_id)).export_manifest(job.id)
    except (FileNotFoundError, ValueError):  # deleted since
        return None


def shown(context: Context) -> Shown:
    async def show(job: JobRow) -> Export:
        return Export.of(job, await asyncio.to_thread(manifest_of, context, job))

    return show


@router.post(
    "/runs/{run_id}/exports",
    status_code=202,
    response_model=Export,
    responses={**problems(404, 409, 422, 429), 200: {"model": Export, "description": "Exported, for who preferred to wait."}},
)
async def export_run(
    request: Request,
    context: Ctx,
    permit: ExportRuns,
    run_id: str,
    new: NewExport,
    wait: PreferWait = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Make a diffusers folder of a checkpoint of the run; the newest, if no step is named."""
    async with context.database.read() as session:
        await runs.find(session, run_id, permit)
    step = await asyncio.to_thread(service.checkpoint_of, context.settings.run_url(run_id), new.step)

    async def work(session: Any) -> JobRow:
        run = await runs.find(session, run_id, permit, to_change=True)
        return await service.order(session, run, Kind.EXPORT, step, new.model_dump(mode="json"), permit, context.settings.jobs_waiting)

    return await accepted(request, context, idempotency_key, wait, work, shown(context))


@router.get("/runs/{run_id}/exports", responses=problems(400, 404, 422))
async def list_exports(
    request: Request, response: Response, context: Ctx, permit: ReadRuns, run_id: str, limit: Limit = 20, cursor: Cursor = None
) -> ExportPage:
    """The run's exports, newest first."""
    pages = await pages_of(request, context)
    before = pages.open(cursor)
    async with context.database.read() as session:
        await runs.find(session, run_id, permit)
        rows = await repository.page(session, run_id, Kind.EXPORT, before, limit + 1)
    following = pages.seal(rows[limit - 1].id) if len(rows) > limit else None
    pages.link(response, following)
    items = await asyncio.to_thread(lambda: [Export.of(row, manifest_of(context, row)) for row in rows[:limit]])
    return ExportPage(items=items, next=following)


@router.get(
    "/runs/{run_id}/exports/{export_id}", response_model=Export, responses={**problems(404), 304: {"description": "It is as it was."}}
)
async def show_export(
    request: Request,
    context: Ctx,
    permit: ReadRuns,
    run_id: str,
    export_id: str,
    wait: PreferWait = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """One export, with its files once it is done. With `Prefer: wait` and `If-None-Match`: as soon as its state is another."""
    async with context.database.read() as session:
        await runs.find(session, run_id, permit)
        job = await service.find(session, run_id, Kind.EXPORT, export_id)
    return await shown_now(request, context, job, shown(context), wait, if_none_match)


@router.post("/runs/{run_id}/exports/{export_id}:cancel", status_code=202, response_model=Export, responses=problems(404, 409, 422))
async def cancel_export(
    request: Request,
    context: Ctx,
    permit: ExportRuns,
    run_id: str,
    export_id: str,
    wait: PreferWait = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Stop exporting. A half-written export is none."""

    async def work(session: Any) -> JobRow:
        await runs.find(session, run_id, permit)
        job = await service.find(session, run_id, Kind.EXPORT, export_id, to_change=True)
        await service.cancel(session, job, permit)
        return job

    return await accepted(request, context, idempotency_key, wait, work, shown(context))


@router.get(
    "/runs/{run_id}/exports/{export_id}/files/{path:path}",
    response_class=StreamingResponse,
    responses={
        **problems(404),
        200: {"content": {"application/octet-stream": {}}, "description": "The file; its ETag is its SHA-256."},
        304: {"description": "The client has it."},
    },
)
async def download_exported_file(
    context: Ctx, permit: ReadRuns, run_id: str, export_id: str, path: str, if_none_match: IfNoneMatch = None
) -> Response:
    """One file of a finished export."""
    async with context.database.read() as session:
        await runs.find(session, run_id, permit)
        job = await service.find(session, run_id, Kind.EXPORT, export_id)
    manifest = await asyncio.to_thread(manifest_of, context, job)
    about = manifest["files"].get(path) if manifest else None
    if about is None:  # only what the manifest names is ever read
        detail = f"the export is {job.state} and has no file {path[:100]!r}; GET /runs/{run_id}/exports/{export_id} lists them"
        raise Problem(404, detail, kind="no-such-file")
    headers = {"ETag": f'"{about["sha256"]}"', "Cache-Control": "private, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    if is_known(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    folder = folder_at(context.settings.run_url(run_id))
    headers |= {"Content-Length": str(about["bytes"]), "Content-Disposition": f'attachment; filename="{path.rsplit("/", 1)[-1]}"'}
    pieces = read_in_pieces(folder.prefix, folder.export_key(export_id, path), about["bytes"])
    return StreamingResponse(pieces, media_type="application/octet-stream", headers=headers)


def read_in_pieces(prefix: Prefix, key: str, size: int) -> Iterator[bytes]:
    """The bytes of an object, a piece at a time; Starlette reads them in a thread."""
    for start in range(0, size, PIECE_BYTES):
        yield prefix.get_from(key, start, PIECE_BYTES)
