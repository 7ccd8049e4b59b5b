"""Logs over HTTP: in and out, nothing else."""

import asyncio
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from service.context import Ctx
from service.http.identity import ReadRuns
from service.http.problem import problems
from service.http.stream import EVENT_STREAM, EventStream
from service.logs import follow, read
from service.runs import service

router = APIRouter(tags=["logs"])

Rank = Annotated[str | None, Query(max_length=20, description="A number, or `launcher` (not live). Default: 0.")]


class Log(BaseModel):
    attempt: int
    rank: str
    bytes: int


class Logs(BaseModel):
    items: list[Log]


@router.get(
    "/runs/{run_id}/logs",
    response_class=PlainTextResponse,
    responses={**problems(400, 404, 422), 200: {"content": {"text/plain": {}, EVENT_STREAM: {}}}},
)
async def show_log(
    context: Ctx,
    permit: ReadRuns,
    run_id: str,
    attempt: Annotated[
        int | None, Query(ge=1, le=2**31 - 1, description="Default: the newest; of a stream: the first to begin with.")
    ] = None,
    rank: Rank = None,
    tail: Annotated[int | None, Query(ge=1, description="Only the last lines.")] = None,
    accept: Annotated[str, Header(description=f"{EVENT_STREAM}: follow the log live, over all attempts, until the run is over.")] = "",
    last_event_id: Annotated[str | None, Header(max_length=40, description="Go on after `<attempt>:<byte>`.")] = None,
) -> Response:
    """What one process of an attempt printed; as text, or live as server-sent events."""
    async with context.database.read() as session:
        newest = (await service.find(session, run_id, permit)).attempt
    url = context.settings.run_url(run_id)
    if EVENT_STREAM in accept:
        place = follow.Place.parse(last_event_id) if last_event_id else follow.Place(attempt or max(1, newest), 0)
        return EventStream(follow.log_stream(context.database, url, run_id, rank or "0", place))
    launcher = partial(context.launcher.logs, run_id)
    return PlainTextResponse(await asyncio.to_thread(read.log_text, url, newest, attempt, rank, tail, launcher))


@router.get("/runs/{run_id}/ranks", responses=problems(404, 422))
async def list_ranks(context: Ctx, permit: ReadRuns, run_id: str) -> Logs:
    """The logs that there are: of every attempt, of every rank and of the launcher."""
    async with context.database.read() as session:
        await service.find(session, run_id, permit)
    found = await asyncio.to_thread(read.logs, context.settings.run_url(run_id))
    return Logs(items=[Log(attempt=attempt, rank=rank, bytes=size) for attempt, rank, size in found])
