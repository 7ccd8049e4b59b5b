"""The decisions about forks: what may begin where, told from the two recipes before anything is launched."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from dayrun.forks import fork_conflicts
from dayrun.recipe import Recipe, merge_patch
from dayrun.recipe_errors import RecipeError
from dayrun.rules import RecipeErrors, load
from service.access import Permit
from service.forks.schemas import NewFork
from service.http.problem import ErrorDetail, Problem
from service.launchers import Launcher, Unsuitable
from service.runs import repository, service
from service.runs.schemas import NewRun
from service.runs.tables import RunRow


async def parent_of(session: AsyncSession, run_id: str, permit: Permit) -> RunRow:
    """The run to be forked; to see it is enough, since the fork may go to another project. Raises Problem 404."""
    run = await repository.get(session, run_id)
    if run is None or not permit.sees(run.project_id):
        raise Problem(404, f"there is no run {run_id[:60]!r}; GET /runs lists them", kind="no-such-run")
    return run


def child_recipe(parent: RunRow, new: NewFork, launcher: Launcher) -> Recipe:
    """The fork's recipe. Raises Problem 422 with everything that is wrong with it."""
    try:
        child = load(merge_patch(parent.recipe, new.overrides or {}))
        launcher.must_suit(child)
        return child
    except Unsuitable as error:
        raise refused("the recipe cannot be trained", [error.error]) from error
    except RecipeErrors as error:
        raise refused("the recipe cannot be trained", error.errors) from error


def check_fit(parent: RunRow, child: Recipe, new: NewFork, step: int) -> None:
    """Raises Problem 422 where the parent's weights do not fit the fork's recipe."""
    if conflicts := fork_conflicts(Recipe.model_validate(parent.recipe), child, new.weights, step):
        raise refused(f"the checkpoint of step {step} does not fit", conflicts)


def refused(what: str, errors: list[RecipeError]) -> Problem:
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    details = [
        ErrorDetail(pointer=f"/overrides{one.at}", value=one.value, because=one.because, nearest=list(one.nearest)) for one in errors
    ]
    return Problem(422, f"{what}: {errors[0]}{more}", kind="cannot-be-forked", errors=details)


async def fork(
    session: AsyncSession, parent: RunRow, child: Recipe, new: NewFork, step: int, permit: Permit, accepted_with: service.AcceptedWith
) -> RunRow:
    """Store the fork, queued. Raises Problem 403, 404 for the project, and 409 over its quota."""
    document: dict[str, Any] = child.model_dump(mode="json")
    labels = parent.labels if new.labels is None else new.labels
    asked = NewRun(recipe=document, labels=labels, project=new.project or parent.project_id)
    return await service.create(session, asked, child, permit, accepted_with, service.Origin(parent.id, step, new.weights))
