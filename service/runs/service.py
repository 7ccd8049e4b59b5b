"""The decisions of people about runs, each inside the caller's transaction."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from dayrun import builtin, tracing
from dayrun.recipe import Recipe, merge_patch
from dayrun.recipe_errors import RecipeError, RecipeErrors
from dayrun.rules import load
from dayrun.run_folder import Weights
from service import events
from service.access import Action, Actor, Permit
from service.database import new_id, now
from service.http.problem import ErrorDetail, Problem
from service.launchers import Launcher, Unsuitable
from service.projects import admission
from service.projects import service as projects
from service.projects.budget import predict
from service.runs import repository
from service.runs.schemas import NewRun
from service.runs.states import Move, NoSuchMove, State
from service.runs.tables import RunRow
from service.runs.transition import just_queued, move


def effective_recipe(new: NewRun, *, for_training: bool = True) -> Recipe:
    """The recipe that `new` asks for, with its overrides. Raises Problem 422 with everything that is wrong with it.

    Without `for_training` it may also ask for what the trainer cannot do yet: a plan tells of that by itself.
    """
    document = new.recipe
    if isinstance(document, str):
        try:
            document = builtin.get(document)
        except builtin.UnknownRecipe as error:
            detail = ErrorDetail(
                pointer="/recipe", value=error.name[:100], because="no built-in recipe has this name", nearest=list(error.nearest)
            )
            raise Problem(422, str(error), kind="invalid-recipe", errors=[detail]) from error
    if new.overrides is not None:
        document = merge_patch(document, new.overrides)
    try:
        return load(document, for_training=for_training)
    except RecipeErrors as error:
        raise Problem(422, in_short(error.errors), kind="invalid-recipe", errors=[detail_of(one) for one in error.errors]) from error


def must_suit(launcher: Launcher, recipe: Recipe) -> None:
    """Raises Problem 422 for a recipe that could never be launched where this service launches."""
    try:
        launcher.must_suit(recipe)
    except Unsuitable as error:
        raise Problem(422, in_short([error.error]), kind="invalid-recipe", errors=[detail_of(error.error)]) from error


def in_short(errors: list[RecipeError]) -> str:
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"the recipe cannot be trained: {errors[0]}{more}"


def detail_of(error: RecipeError) -> ErrorDetail:
    return ErrorDetail(pointer=f"/recipe{error.at}", value=error.value, because=error.because, nearest=list(error.nearest))


@dataclass(frozen=True)
class AcceptedWith:
    """What a new run is held against."""

    accelerators: int | None  # that there are; None: no limit
    estimate: dict[str, Any] | None  # of its recipe


@dataclass(frozen=True)
class Origin:
    """The checkpoint that a fork begins from."""

    run: str
    step: int
    weights: Weights


async def create(
    session: AsyncSession, new: NewRun, recipe: Recipe, permit: Permit, accepted_with: AcceptedWith, origin: Origin | None = None
) -> RunRow:
    """Store a run, queued; its events and its hint go with it. Raises Problem 403, 404 for the project, and 409 over its quota."""
    project = await projects.open_for_runs(session, new.project, permit)
    may_prioritise(permit.actor, new.project, new.priority)
    at, predicted = now(), predict(recipe, accepted_with.estimate)
    await admission.admit(session, project, recipe, predicted.dollars, accepted_with.accelerators)
    document: dict[str, Any] = recipe.model_dump(mode="json")
    run = RunRow(
        id=new_id("run"),
        name=recipe.name,
        labels=new.labels,
        project_id=new.project,
        created_by=permit.actor.subject,
        priority=new.priority,
        estimate=accepted_with.estimate,
        predicted_dollars=predicted.dollars,
        predicted_hours=predicted.hours,
        recipe=document,
        total_steps=recipe.total_steps,
        world_size=recipe.hardware.world_size,
        dollars_per_accelerator_hour=recipe.hardware.dollars_per_accelerator_hour,
        state=State.QUEUED,
        evidence=[],
        created_at=at,
        updated_at=at,
        version=1,
        attempt=0,
        attempts_allowed=recipe.retries.attempts,
        faults=0,
        step=0,
        began_attempt=0,
        events_cursor={},
        metrics_cursor={},
        accelerator_seconds=0.0,
        chain_length=0,
    )
    run.queued_at, run.waiting = at, just_queued(run).as_json()
    said = {"name": run.name, "project": run.project_id, "labels": run.labels, "priority": run.priority}
    happened: dict[str, dict[str, Any]] = {"run_created": {**said, "reserved_dollars": predicted.dollars}}
    if (trace := tracing.traceparent()) is not None:
        happened["run_created"]["traceparent"] = trace
    if origin is not None:
        run.parent_run_id, run.parent_step, run.parent_weights = origin.run, origin.step, origin.weights
        happened["run_forked"] = {"parent": origin.run, "checkpoint": origin.step, "weights": origin.weights}
    events.begin(session, run, by=permit.actor.subject, **happened)
    return run


async def find(session: AsyncSession, run_id: str, permit: Permit, *, to_change: bool = False) -> RunRow:
    """The run, if `permit` covers it; `to_change` locks its row. Raises Problem 403 and 404."""
    run = await repository.get(session, run_id, to_change=to_change)
    if run is None or not permit.sees(run.project_id):
        raise Problem(404, f"there is no run {run_id[:60]!r}; GET /runs lists them", kind="no-such-run")
    permit.on(run.project_id)
    return run


def may_prioritise(actor: Actor, project_id: str, priority: int) -> None:
    """Raises Problem 403 for a priority that would pass others by, from somebody who may not give it."""
    if priority > 0:
        Permit(actor, Action.PRIORITISE_RUNS).on(project_id)


async def ask(session: AsyncSession, run: RunRow, wanted: Move, permit: Permit) -> RunRow:
    """Pause, resume or cancel a run whose row is locked. Raises Problem 409 that names the moves that there are, or what is used up."""
    try:
        move(session, run, wanted, by=permit.actor.subject)
        if wanted == Move.RESUME:
            await admission.readmit(session, run)
    except NoSuchMove as error:
        moves = [str(one) for one in error.moves]
        what = f"it can {' or '.join(moves)}" if moves else "its state is final"
        detail = ErrorDetail(pointer="/state", value=str(error.state), because=str(error), nearest=moves)
        raise Problem(409, f"{error}; {what}", kind="no-such-move", errors=[detail]) from error
    await session.flush()
    return run
