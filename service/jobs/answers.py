"""How every endpoint of jobs answers: 202 and a place to look; for who prefers to wait, the end."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from service.context import Context
from service.folders import hold_checkpoint
from service.http.etags import is_known
from service.http.idempotency import Answer, once
from service.http.prefer import applied, hold
from service.jobs import repository
from service.jobs.schemas import Job
from service.jobs.tables import WAITING_OR_WORKING, JobRow, JobState

Shown = Callable[[JobRow], Awaitable[Job]]
"""A job as the wire carries it, with what it has made so far."""


def place(job: JobRow) -> str:
    return f"/runs/{job.run_id}/{job.kind}s/{job.id}"


async def answer(job: JobRow, status: int, shown: Shown) -> Answer:
    now = await shown(job)
    return Answer(status=status, body=now.model_dump_json().encode(), headers={"Location": place(job), "ETag": now.etag})


async def accepted(
    request: Request,
    context: Context,
    key: str | None,
    wait: int | None,
    work: Callable[[AsyncSession], Awaitable[JobRow]],
    shown: Shown,
) -> Response:
    """202 with the job that `work` has ordered or changed; 200 with the job once it is over, for who would wait and need not in vain."""
    made: list[JobRow] = []

    async def keep(session: Any) -> Answer:
        job = await work(session)
        made.append(job)
        return await answer(job, 202, shown)

    response = await once(request, context.database, key, keep)
    for job in made:
        if job.state == JobState.QUEUED:
            await hold_checkpoint(context.settings.run_url(job.run_id), job.step, job.id)
        context.hint(job.id)
    if wait is None or not made:  # a repeated request gets the answer that the first one got
        return response
    done = await hold(request, context.database, wait, lambda session: over(session, made[0].id))
    if done is not None:
        response = (await answer(done, 200, shown)).response()
    response.headers.update(applied(wait))
    return response


async def over(session: AsyncSession, job_id: str) -> JobRow | None:
    """The job once it is over."""
    job = await repository.get(session, job_id)
    return job if job is not None and job.state not in WAITING_OR_WORKING else None


async def shown_now(request: Request, context: Context, job: JobRow, shown: Shown, wait: int | None, if_none_match: str | None) -> Response:
    """200 with the job, or 304 to who has it; who would wait is told as soon as its state is another."""
    now = await shown(job)
    if wait and is_known(if_none_match, now.etag):
        news = await hold(request, context.database, wait, lambda session: changed(session, job))
        now = await shown(news or job)
    headers = {"ETag": now.etag, **applied(wait)}
    if is_known(if_none_match, now.etag):
        return Response(status_code=304, headers=headers)
    return Response(now.model_dump_json(), headers=headers, media_type="application/json")


async def changed(session: AsyncSession, known: JobRow) -> JobRow | None:
    """The job once it is not as it was."""
    job = await repository.get(session, known.id)
    return job if job is not None and job.version != known.version else None
