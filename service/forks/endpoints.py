"""Runs that begin where others were, and what their recipes change."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from service.context import Ctx
from service.folders import hold_checkpoint
from service.forks import service
from service.forks.schemas import ForkedRun, NewFork, RecipeDiff
from service.http.etags import version_tag
from service.http.idempotency import Answer, IdempotencyKey, once
from service.http.identity import CreateRuns, ReadRuns
from service.http.problem import Problem, problems
from service.jobs.service import checkpoint_of
from service.runs import service as runs
from service.runs.endpoints import accepted_with

router = APIRouter(tags=["runs"])


@router.post("/runs/{run_id}:fork", status_code=201, response_model=ForkedRun, responses=problems(403, 404, 409, 413, 422))
async def fork_run(
    request: Request, context: Ctx, permit: CreateRuns, run_id: str, new: NewFork, idempotency_key: IdempotencyKey = None
) -> Response:
    """A new run from a checkpoint of this one, with another recipe. Whether the weights fit is told now, not when they are loaded."""
    async with context.database.read() as session:
        parent = await service.parent_of(session, run_id, permit)
    child = service.child_recipe(parent, new, context.launcher)
    step = await asyncio.to_thread(checkpoint_of, context.settings.run_url(run_id), new.step)
    service.check_fit(parent, child, new, step)
    made: list[str] = []

    async def work(session: Any) -> Answer:
        run = await service.fork(session, parent, child, new, step, permit, await accepted_with(session, context, child))
        made.append(run.id)
        headers = {"Location": f"/runs/{run.id}", "ETag": version_tag(run.version)}
        return Answer(status=201, body=ForkedRun.made(run, parent).model_dump_json().encode(), headers=headers)

    response = await once(request, context.database, idempotency_key, work)
    for made_id in made:
        await hold_checkpoint(context.settings.run_url(run_id), step, made_id)
        context.hint(made_id)
    return response


@router.get("/runs/{run_id}/recipe:diff", responses=problems(404, 409, 422))
async def show_recipe_diff(
    context: Ctx,
    permit: ReadRuns,
    run_id: str,
    against: Annotated[str | None, Query(min_length=1, max_length=40, description="Another run; default: its parent.")] = None,
) -> RecipeDiff:
    """What the run's recipe changes in another run's, field by field."""
    async with context.database.read() as session:
        run = await runs.find(session, run_id, permit)
        other = against or run.parent_run_id
        if other is None:
            raise Problem(409, "the run is no fork: name the run to compare with in `against`", kind="no-parent")
        return RecipeDiff.of(run, await runs.find(session, other, permit))
