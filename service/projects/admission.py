"""Whether a run may join its project's queue, asked of the rows; `budget.py` decides. Raises what it refuses.

Where a project has a budget for the month its row is locked first: of two submissions at once the second must see what the first reserved.
"""

from sqlalchemy.ext.asyncio import AsyncSession

from dayrun.recipe import Recipe
from service.access import no_such_project
from service.database import now
from service.http.problem import ErrorDetail, Problem
from service.projects import repository
from service.projects.budget import Caps, Refusal, Spent, caps_of_run, refusals_of_new, refusals_of_resumed, still_to_spend
from service.projects.tables import ProjectRow
from service.runs.cost import used_accelerator_seconds, used_dollars
from service.runs.tables import RunRow
from service.usage import repository as ledger


async def caps_to_keep(session: AsyncSession, row: ProjectRow | None, project_id: str) -> Caps:
    """The limits of a project that was read before, with its row locked where money is promised against them. Raises Problem 404."""
    if row is not None and row.dollars_per_month is not None:
        row = await repository.get(session, project_id, to_change=True)
    if row is None:
        raise no_such_project(project_id, [])
    return repository.caps_of(row)


async def admit(session: AsyncSession, project: ProjectRow, recipe: Recipe, predicted_dollars: float | None, in_all: int | None) -> None:
    """Raises Problem 409 with the numbers, and the nearest that works, for a run that could never begin or never be paid for."""
    caps = await caps_to_keep(session, project, project.id)
    over_quota(await refusals(session, project.id, caps, recipe, predicted_dollars, in_all))


async def refusals(
    session: AsyncSession, project_id: str, caps: Caps, recipe: Recipe, predicted_dollars: float | None, in_all: int | None
) -> list[Refusal]:
    """What keeps a new run out, as of now."""
    at, spent, reserved = now(), Spent(), 0.0
    if caps.dollars_per_month is not None:
        spent = (await ledger.spent(session, [project_id], at))[project_id]
        reserved = await ledger.reserved(session, project_id, at)
    return refusals_of_new(recipe, project_id, caps, in_all, spent.this_month, reserved, predicted_dollars, at)


async def readmit(session: AsyncSession, run: RunRow) -> None:
    """Raises Problem 409 for a run that would only be paused again: its row is locked, and moved already."""
    project = await repository.get(session, run.project_id)
    caps, at, spent, reserved = await caps_to_keep(session, project, run.project_id), now(), Spent(), 0.0
    if caps.dollars_per_day is not None or caps.dollars_per_month is not None:
        spent = (await ledger.spent(session, [run.project_id], at))[run.project_id]
    if caps.dollars_per_month is not None:
        reserved = await ledger.reserved(session, run.project_id, at, without=run.id)
    wanted = None if run.predicted_dollars is None else still_to_spend(run.predicted_dollars, used_dollars(run, at))
    own = caps_of_run(Recipe.model_validate(run.recipe), used_accelerator_seconds(run, at))
    over_quota(refusals_of_resumed(run.project_id, caps, spent, reserved, wanted, own, at))


def over_quota(refusals: list[Refusal]) -> None:
    if refusals:
        found = [ErrorDetail(pointer=one.at, value=one.value, because=one.because, nearest=one.nearest) for one in refusals]
        raise Problem(409, "; ".join(f"{one.at}: {one.because}" for one in refusals), kind="over-quota", errors=found)
