"""Many runs cancelled by one request: which, what became of each. One transaction for all of them, so that it is done or not done."""

from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from service.access import Permit
from service.context import Ctx
from service.http.idempotency import Answer, IdempotencyKey, once
from service.http.identity import MoveRuns
from service.http.problem import ErrorDetail, Problem, problems
from service.runs import listing, repository
from service.runs.schemas import BulkCancel, BulkCancelled, Cancelled
from service.runs.states import Move, NoSuchMove, State, personal_moves
from service.runs.transition import move

router = APIRouter(tags=["runs"])
MOST_AT_ONCE = 500
CANCELLABLE = [state for state in State if Move.CANCEL in personal_moves(state)]


@router.post("/runs:cancel", status_code=202, response_model=BulkCancelled, responses=problems(403, 404, 409, 413, 422))
async def cancel_runs(
    request: Request, context: Ctx, permit: MoveRuns, chosen: BulkCancel, idempotency_key: IdempotencyKey = None
) -> Response:
    """Stop every run that fits, for good; the oldest first, a bounded number at once. Those that cannot be cancelled are told with why."""
    if not (chosen.state or chosen.labels or chosen.project):
        because = f"say which runs: by state, labels or project. All that can be cancelled: {', '.join(CANCELLABLE)}"
        detail = ErrorDetail(pointer="/state", because=because, nearest=[CANCELLABLE])
        raise Problem(422, because, kind="invalid-request", errors=[detail])
    if chosen.project is not None:
        permit.on(chosen.project)
    told: list[Cancelled] = []

    async def work(session: Any) -> Answer:
        body = await cancel(session, chosen, permit)
        told.extend(body.items)
        return Answer(status=202, body=body.model_dump_json().encode())

    response = await once(request, context.database, idempotency_key, work)
    for one in told[:20]:  # the sweep finds the others within its second
        if one.cancelled:
            context.hint(one.id)
    return response


async def cancel(session: AsyncSession, chosen: BulkCancel, permit: Permit) -> BulkCancelled:
    """Cancel what fits and can be cancelled; each has its event in the log."""
    asked = listing.RunFilter(chosen.state or CANCELLABLE, chosen.project, labels=list(chosen.labels.items()))
    run_ids = await listing.ids(session, asked, MOST_AT_ONCE + 1, permit.projects)
    told: list[Cancelled] = []
    for run_id in run_ids[:MOST_AT_ONCE]:
        run = await repository.get(session, run_id, to_change=True)
        if run is None:
            continue
        try:
            move(session, run, Move.CANCEL, by=permit.actor.subject)
            told.append(Cancelled(id=run.id, state=State(run.state), cancelled=True))
        except NoSuchMove as error:
            told.append(Cancelled(id=run.id, state=State(run.state), cancelled=False, because=str(error)))
    await session.flush()
    return BulkCancelled(items=told, more=len(run_ids) > MOST_AT_ONCE)
