"""The event log over HTTP: of one run and of all, as pages and as server-sent events."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from service import events
from service.context import Context, Ctx
from service.events import START, Position
from service.feeds.broadcast import Listener, Sent
from service.feeds.schemas import Chain, Event, EventPage, RunEvent, RunEventPage
from service.http.identity import ReadRuns
from service.http.paging import Cursor, Limit, link_next
from service.http.problem import ErrorDetail, Problem, problems
from service.http.stream import EVENT_STREAM, KEEPALIVE_SECONDS, EventStream
from service.runs import repository, service
from service.runs.states import OVER

router = APIRouter(tags=["events"])

ROWS_A_READ = 500
STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {EVENT_STREAM: {}}}}
Accept = Annotated[str, Header(description=f"{EVENT_STREAM}: events as they come.")]


@router.get("/runs/{run_id}/events", response_model=EventPage, responses={**problems(404, 422), **STREAMED})
async def list_events(
    request: Request,
    context: Ctx,
    permit: ReadRuns,
    run_id: str,
    limit: Limit = 200,
    cursor: Annotated[int, Query(ge=0, le=2**31 - 1, description="Events after this sequence.")] = 0,
    accept: Accept = "",
    last_event_id: Annotated[int | None, Header(ge=0, le=2**31 - 1, description="Go on after this sequence.")] = None,
) -> Response:
    """What happened to the run, oldest first; as JSON, or live as server-sent events until the run is over."""
    async with context.database.read() as session:
        run = await service.find(session, run_id, permit)  # before its events: the head is never ahead of them
        if EVENT_STREAM not in accept:
            rows = await events.after(session, run_id, cursor, limit + 1)
            following = str(rows[limit - 1].sequence) if len(rows) > limit else None
            page = EventPage(items=[Event.of(row) for row in rows[:limit]], next=following, chain=Chain.of(run))
            response = Response(page.model_dump_json(), media_type="application/json")
            link_next(request, response, following)
            return response
    return EventStream(of_run(context, run_id, cursor if last_event_id is None else last_event_id))


async def of_run(context: Context, run_id: str, last: int) -> AsyncIterator[bytes]:
    """Events after `last` as they are recorded; ends when the run is over and all were sent."""
    listener = context.broadcast.listen(run_id)
    try:
        while True:
            listener.behind, more = False, True
            while more:
                async with context.broadcast.catching_up, context.database.read() as session:
                    run = await repository.standing(session, run_id)
                    rows = await events.after(session, run_id, last, ROWS_A_READ)
                for row in rows:
                    last = row.sequence or last
                    yield format_sse_event(data_str=Event.of(row).model_dump_json(), event=row.type, id=str(last))
                more = len(rows) == ROWS_A_READ
                if not more and (run is None or (run.state in OVER and last >= run.chain_length)):
                    return
            async with aclosing(live(listener)) as sent:
                async for one in sent:
                    if one is None:
                        yield KEEPALIVE_COMMENT
                    elif one.sequence > last + 1:  # one that was recorded before it comes later: the database has both
                        break
                    elif one.sequence == last + 1:
                        last = one.sequence
                        yield one.in_run
                        if one.over:
                            return
    finally:
        context.broadcast.leave(listener)


async def live(listener: Listener) -> AsyncGenerator[Sent | None]:
    """What the listener was handed, None for each quiet while; ends when it has fallen behind."""
    while not listener.behind:
        if not await listener.wait(KEEPALIVE_SECONDS):
            yield None
        while listener.events and not listener.behind:
            yield listener.events.popleft()
    listener.events.clear()


@router.get("/events", response_model=RunEventPage, responses={**problems(400, 422), **STREAMED})
async def list_all_events(
    request: Request,
    context: Ctx,
    permit: ReadRuns,
    limit: Limit = 200,
    cursor: Cursor = None,
    accept: Accept = "",
    last_event_id: Annotated[str | None, Header(max_length=60, description="Go on after this position.")] = None,
) -> Response:
    """Events of all runs that you can see; as JSON from the oldest on, or live as server-sent events, by default from now on."""
    if EVENT_STREAM in accept:
        last = position(last_event_id, "header last-event-id") or position(cursor, "query cursor")
        return EventStream(of_all(context, permit.projects, last))
    async with context.database.read() as session:
        found = await events.feed(session, position(cursor, "query cursor") or START, limit + 1, permit.projects)
    following = str(found[limit - 1].position) if len(found) > limit else None
    response = Response(
        RunEventPage(items=[RunEvent.told(told) for told in found[:limit]], next=following).model_dump_json(), media_type="application/json"
    )
    link_next(request, response, following)
    return response


def position(text: str | None, at: str) -> Position | None:
    """Raises Problem 400."""
    try:
        return None if text is None else Position.parse(text)
    except ValueError as error:
        said = f"{error}; take the `position` of an event"
        raise Problem(400, said, kind="bad-cursor", errors=[ErrorDetail(pointer=at, value=text, because=said)]) from None


async def of_all(context: Context, projects: list[str] | None, last: Position | None) -> AsyncIterator[bytes]:
    """Events of `projects` after `last`, or from now on, as they are recorded; never ends by itself."""
    listener = context.broadcast.listen()
    try:
        if last is None:
            async with context.database.read() as session:
                last = await events.feed_end(session)
            yield KEEPALIVE_COMMENT  # the client knows that it is listening
        while True:
            listener.behind, more = False, True
            while more:
                async with context.broadcast.catching_up, context.database.read() as session:
                    found = await events.feed(session, last, ROWS_A_READ, projects)
                for told in found:
                    last = told.position
                    yield format_sse_event(data_str=RunEvent.told(told).model_dump_json(), event=told.event.type, id=str(last))
                more = len(found) == ROWS_A_READ
            async with aclosing(live(listener)) as sent:
                async for one in sent:
                    if one is None:
                        yield KEEPALIVE_COMMENT
                    elif one.position > last:
                        last = one.position
                        if projects is None or one.project_id in projects:
                            yield one.in_all
    finally:
        context.broadcast.leave(listener)
