"""Money over HTTP: in and out, nothing else."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from service.context import Ctx
from service.database import now
from service.http.identity import ReadProject, ReadRuns
from service.http.problem import problems
from service.runs.service import find
from service.usage import service
from service.usage.schemas import ProjectUsage, RunCost

router = APIRouter(tags=["usage"])


@router.get("/runs/{run_id}/cost", responses=problems(403, 404))
async def show_cost(context: Ctx, permit: ReadRuns, run_id: str) -> RunCost:
    """What the run has cost by attempt, what it is expected to cost, and what its limits leave."""
    async with context.database.read() as session:
        return await service.cost_of_run(session, await find(session, run_id, permit), now())


@router.get("/projects/{project_id}/usage", responses=problems(403, 404, 422))
async def show_usage(
    context: Ctx,
    permit: ReadProject,
    project_id: Annotated[str, Path(max_length=40)],
    limit: Annotated[int, Query(ge=0, le=200, description="Runs to list, the dearest first.")] = 20,
) -> ProjectUsage:
    """What the project has spent today and this month, by day and by run; what it holds, reserves and may."""
    permit.on(project_id)
    async with context.database.read() as session:
        return await service.usage_of_project(session, project_id, limit, now())
