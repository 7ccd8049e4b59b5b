"""Plans: what a run would take, what it turns out to take, and what that teaches the next plan. The arithmetic is in `dayrun`."""

import hashlib
import json
import math
import os
import time
from functools import lru_cache
from typing import Any

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from dayrun.calibration import Actual, Comparison, MeasuredStage, Renewal, StageSoFar, calibrated, compare, renewed
from dayrun.estimate import Estimate, estimate
from dayrun.hardware import Utilisation
from dayrun.plan import Change, Plan, Verdict, plan
from dayrun.recipe import Recipe
from service import events
from service.database import now
from service.http.problem import Problem
from service.plans import repository
from service.projects import admission
from service.projects.budget import Refusal, predict
from service.projects.repository import caps_of
from service.projects.tables import ProjectRow
from service.runs.cost import used_accelerator_seconds
from service.runs.tables import RunRow

WINDOW_STEPS = 10
"""Steps that one measured value is the mean of: the trainer writes one value for each ten steps."""
FIRST_WINDOWS = 1
"""Windows at the start of a stage that say more about compilation and warming caches than about its speed."""


@lru_cache(maxsize=256)
def estimate_of(document: str, utilisation: Utilisation | None) -> Estimate:
    """The estimate of a recipe given as JSON; the same few recipes are posted and looked at over and over. Raises Problem 422."""
    try:
        return estimate(Recipe.model_validate_json(document), utilisation=utilisation, cores=os.cpu_count())
    except (OverflowError, ValidationError) as error:
        because = "its numbers are so large that what they come to is beyond 10³⁰⁸"
        raise Problem(422, f"the recipe cannot be planned: {because}", kind="invalid-recipe") from error


class History:
    """What runs measured, by accelerator, as one process knows it: looked up again after `seconds`, not for each plan."""

    def __init__(self, seconds: float = 5.0) -> None:
        self._seconds = seconds
        self._known: dict[str, tuple[float, list[MeasuredStage]]] = {}

    async def of(self, session: AsyncSession, accelerator: str) -> list[MeasuredStage]:
        looked_up, stages = self._known.get(accelerator, (-math.inf, []))
        if time.monotonic() - looked_up > self._seconds:
            stages = await repository.history(session, accelerator)
            self._known[accelerator] = (time.monotonic(), stages)
        return stages


async def utilisation_for(session: AsyncSession, recipe: Recipe, document: str, history: History) -> Utilisation:
    """What to believe about a recipe's speed, given every run so far that was like it. `document`: the recipe as JSON."""
    return calibrated(estimate_of(document, None), await history.of(session, recipe.hardware.accelerator))


async def predicted(session: AsyncSession, recipe: Recipe, history: History) -> Estimate:
    """The estimate of a recipe, calibrated by history; without the lines of its arithmetic, which anyone can have anew."""
    document = recipe.model_dump_json()
    share = await utilisation_for(session, recipe, document, history)
    found = estimate_of(document, share)  # pyright: ignore[reportArgumentType]  # frozen, and so hashable
    return found.model_copy(update={"arithmetic": []})


async def plan_of(session: AsyncSession, recipe: Recipe, project: ProjectRow, in_all: int | None, history: History) -> Plan:
    """The plan of a recipe, calibrated by history, with what the project's quota and budget say. Raises Problem 422.

    in_all: accelerators that there are; None: no limit.
    """
    share = await utilisation_for(session, recipe, recipe.model_dump_json(), history)
    found = plan(recipe, utilisation=share, cores=os.cpu_count())
    wanted = predict(recipe, found.estimate.model_dump(include={"hours", "dollars"})).dollars
    kept_out = await admission.refusals(session, project.id, caps_of(project), recipe, wanted, in_all)
    return found.model_copy(update={"verdicts": [*found.verdicts, *map(of_quota, kept_out)]})


def of_quota(refusal: Refusal) -> Verdict:
    at = refusal.at.removeprefix("/recipe")
    return Verdict(about="quota", level="no", at=at, because=refusal.because, nearest=[Change(at=at, value=one) for one in refusal.nearest])


def fingerprint(*parts: Any) -> str:
    """A short digest of everything that a plan's reader relies on: its ETag."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


# ---- while it trains and when it is over -----------------------------------------------------------------------------------------------


async def so_far(session: AsyncSession, run: RunRow, recipe: Recipe) -> list[StageSoFar]:
    """Steps done and measured windows of each stage that has begun."""
    found: list[StageSoFar] = []
    begun = 0
    for stage in recipe.stages:
        if run.step <= begun:
            break
        windows = await repository.step_seconds(session, run.id, begun, begun + stage.steps)
        found.append(
            StageSoFar(name=stage.name, steps_done=min(run.step - begun, stage.steps), step_seconds=windows[FIRST_WINDOWS:] or windows)
        )
        begun += stage.steps
    return found


def held_hours_of(run: RunRow) -> float:
    """Hours that the run has held its machines."""
    return used_accelerator_seconds(run, now()) / 3600 / run.world_size


async def renewal_of(session: AsyncSession, run: RunRow) -> Renewal | None:
    """The estimate renewed by what the run measured so far; None before its first window of steps."""
    plan_made = await repository.estimate_of(session, run.id)
    measured = await so_far(session, run, Recipe.model_validate(run.recipe))
    if plan_made is None or not any(stage.step_seconds for stage in measured):
        return None
    return renewed(plan_made, measured, held_hours_of(run), now())


async def actual_of(session: AsyncSession, run: RunRow) -> Actual:
    """What the run came to."""
    held_hours = held_hours_of(run)
    stages = await so_far(session, run, Recipe.model_validate(run.recipe))
    means = {stage.name: sum(stage.step_seconds) / len(stage.step_seconds) for stage in stages if stage.step_seconds}
    peak = await repository.largest(session, run.id, "memory_bytes")
    dollars = held_hours * run.world_size * run.dollars_per_accelerator_hour
    return Actual(hours=held_hours, dollars=dollars, step_seconds=means, peak_bytes_per_process=peak)


async def compared(session: AsyncSession, run: RunRow) -> list[Comparison]:
    """Predicted and actual side by side."""
    plan_made = await repository.estimate_of(session, run.id)
    return [] if plan_made is None else compare(plan_made, await actual_of(session, run))


async def learn_from(session: AsyncSession, run: RunRow) -> None:
    """A run has ended well: keep what its stages measured for the plans to come, and tell how right its own plan was."""
    await session.flush()  # the run's last windows were measured in this transaction
    own = await repository.estimate_of(session, run.id)
    if own is None:
        return
    stages = {stage.name: stage for stage in own.stages}
    for measured in await so_far(session, run, Recipe.model_validate(run.recipe)):
        if measured.step_seconds and measured.name in stages:
            mean = sum(measured.step_seconds) / len(measured.step_seconds)
            planned = stages[measured.name]
            kept, expected = MeasuredStage.of(own, planned, mean), planned.step_seconds.expected
            await repository.keep(session, run.id, measured.name, kept, expected, len(measured.step_seconds) * WINDOW_STEPS, now())
    sides = [
        {"name": one.name, "unit": one.unit, "predicted": one.predicted.model_dump(), "actual": one.actual, "inside": one.inside}
        for one in await compared(session, run)
    ]
    events.record(session, run, "estimate_compared", comparison=sides)
