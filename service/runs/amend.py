"""`PATCH /runs/{id}`: what may be changed of a run that exists, its labels and its turn in the queue."""

from typing import Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession

from service import events
from service.access import Permit
from service.context import Ctx
from service.database import now
from service.http.etags import IfMatch, check_match, version_tag
from service.http.identity import MoveRuns
from service.http.problem import ErrorDetail, Problem, problems
from service.runs.endpoints import answer
from service.runs.schemas import Label, Priority, Run
from service.runs.service import find, may_prioritise
from service.runs.states import State
from service.runs.tables import OutboxRow, RunRow

router = APIRouter(tags=["runs"])
MOST_LABELS = 20


class RunChange(BaseModel):
    """What is left out stays as it is."""

    model_config = {"extra": "forbid"}

    priority: Priority | None = Field(default=None, description="Only while the run is queued.")
    labels: dict[Label, Label | None] | None = Field(default=None, description="Merged into those that there are; null takes one away.")


@router.patch("/runs/{run_id}", response_model=Run, responses=problems(403, 404, 409, 412, 422))
async def change_run(context: Ctx, permit: MoveRuns, run_id: str, change: RunChange, if_match: IfMatch = None) -> Response:
    """Give a queued run another priority, or any run other labels. Sent twice it has the same effect as once."""
    async with context.database.write() as session:
        run = await find(session, run_id, permit, to_change=True)
        check_match(if_match, version_tag(run.version))
        amend(session, run, change, permit)
        await session.flush()
        response = answer(run, 200).response()
    context.hint(run_id)
    return response


def amend(session: AsyncSession, run: RunRow, change: RunChange, permit: Permit) -> None:
    """Apply `change` to a run whose row is locked, and record who did it. Raises Problem 403, 409 and 422."""
    done: dict[str, Any] = {}
    if change.priority is not None and change.priority != run.priority:
        if run.state != State.QUEUED:
            because = f"the run is {run.state}: only the turn of a queued run can be changed"
            raise Problem(
                409, because, kind="not-queued", errors=[ErrorDetail(pointer="/priority", value=change.priority, because=because)]
            )
        may_prioritise(permit.actor, run.project_id, change.priority)
        done["priority"] = {"from": run.priority, "to": change.priority}
        run.priority = change.priority
    if change.labels is not None:
        merged = {key: value for key, value in {**run.labels, **change.labels}.items() if value is not None}
        if len(merged) > MOST_LABELS:
            because = f"the run would have {len(merged)} labels; {MOST_LABELS} at most"
            raise Problem(422, because, kind="too-many-labels", errors=[ErrorDetail(pointer="/labels", because=because)])
        if merged != run.labels:
            done["labels"] = {"from": run.labels, "to": merged}
            run.labels = merged
    if done:
        run.version, run.updated_at = run.version + 1, now()
        events.record(session, run, "run_changed", by=permit.actor.subject, **done)
        session.add(OutboxRow(run_id=run.id, due_at=run.updated_at))
