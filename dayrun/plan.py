"""A plan: what a recipe will take, and whether that can be: does it fit, is it within its limits, can this trainer do it.

Pure: the same recipe and utilisation give the same plan. What needs a service (quota, manifests, the cluster's own word) is added there.
"""

import math
from typing import Any, Literal

from pydantic import Field, ValidationError

from dayrun.estimate import Estimate, StageEstimate, estimate
from dayrun.hardware import Utilisation
from dayrun.quantities import Figures, Interval
from dayrun.recipe import Recipe
from dayrun.recipe_errors import RecipeError, RecipeErrors, pointer
from dayrun.rules import broken_rules


class Change(Figures):
    """A value that would work where the recipe's does not."""

    at: str = Field(description="JSON pointer into the recipe.")
    value: Any


class Verdict(Figures):
    about: Literal["memory", "hours", "dollars", "trainer", "quota", "cluster", "assumption"] = Field(
        description="trainer: what this trainer cannot do yet; quota: what the project has no room or money for; "
        "cluster: what its nodes, quotas and queue can never hold, or do not take."
    )
    level: Literal["ok", "unsure", "no", "note"] = Field(description="unsure: the expected figure holds, an end of its interval does not.")
    at: str = Field(description="JSON pointer into the recipe; or `profile:` and one into the profile of the cluster.")
    because: str = Field(description="With the arithmetic.")
    nearest: list[Change] = Field(default=[], description="Values that would work, most like the recipe's first.")


class Finding(Figures):
    """What was found about one thing that a run needs of a cluster."""

    check: Literal["cluster", "manifest", "quota", "queue", "nodes", "image", "store", "group"] = Field(
        description="manifest: whether the API server takes what would be launched; store: of run folders, with the run's own credentials; "
        "group: pods of the run's shape, for seconds."
    )
    level: Literal["ok", "unsure", "no", "note"] = Field(
        description="unsure: it may mend, or another may mend it; note: it may be otherwise in a minute."
    )
    at: str = Field(
        default="",
        description="What to change: a JSON pointer into the recipe, `profile:` and one into the cluster's profile, or `setting:` and one "
        "of the service's.",
    )
    because: str
    nearest: list[Change] = Field(default=[], description="Values that would work.")


class Plan(Figures):
    estimate: Estimate
    verdicts: list[Verdict]


def plan(recipe: Recipe, *, utilisation: Utilisation | None = None, cores: int | None = None) -> Plan:
    """The plan of a recipe that `rules.load` accepts, trainable here or not. Arguments are those of `estimate`.

    Raises RecipeErrors for numbers so large that what they come to is not finite.
    """
    try:
        found = estimate(recipe, utilisation=utilisation, cores=cores)
    except (OverflowError, ValidationError) as error:
        raise RecipeErrors([RecipeError("", None, "its numbers are so large that what they come to is beyond 10³⁰⁸")]) from error
    verdicts = [of_memory(recipe, stage, i) for i, stage in enumerate(found.stages)]
    verdicts += of_limits(recipe, found)
    verdicts += of_trainer(recipe)
    verdicts += [Verdict(about="assumption", level="note", at="", because=said) for said in found.assumed]
    return Plan(estimate=found, verdicts=verdicts)


def of_memory(recipe: Recipe, stage: StageEstimate, index: int) -> Verdict:
    """Whether the stage's peak fits the accelerator; where it may not, the micro-batch that does."""
    room = stage.memory
    peak = f"stage {stage.name!r} needs {in_gigabytes(room.peak_bytes)} a process with micro-batches of {room.micro_batch_size}"
    at = pointer("stages", index, "micro_batch_size")
    if room.capacity_bytes is None:
        return Verdict(about="memory", level="note", at=at, because=f"{peak}; what a process may have depends on the machine")
    because = f"{peak}; {recipe.hardware.accelerator} has {room.capacity_bytes / 1e9:.1f} GB"
    if room.fits == "yes":
        return Verdict(about="memory", level="ok", at=at, because=because)
    nearest: list[Change] = []
    if room.largest_micro_batch_that_fits is not None:
        nearest.append(Change(at=at, value=room.largest_micro_batch_that_fits))
    elif not recipe.hardware.activation_checkpointing:
        nearest.append(Change(at="/hardware/activation_checkpointing", value=True))
    if recipe.hardware.sharding == "replicate" and recipe.hardware.processes_per_node > 1:
        nearest.append(Change(at="/hardware/sharding", value="hybrid"))
    return Verdict(about="memory", level="unsure" if room.fits == "unsure" else "no", at=at, because=because, nearest=nearest)


def of_limits(recipe: Recipe, found: Estimate) -> list[Verdict]:
    """Predicted hours and dollars against the promised ones: the limit that would hold, or the steps that fit, both at the slow end."""
    verdicts: list[Verdict] = []
    if recipe.limits.hours is not None:
        verdicts.append(against(recipe, found, "hours", found.hours, recipe.limits.hours, "h"))
    if recipe.limits.dollars is not None:
        verdicts.append(against(recipe, found, "dollars", found.dollars, recipe.limits.dollars, "$"))
    return verdicts


def against(recipe: Recipe, found: Estimate, what: Literal["hours", "dollars"], predicted: Interval, limit: float, unit: str) -> Verdict:
    def figure(value: float) -> str:
        return f"${value:,.0f}" if unit == "$" else f"{value:,.4g} h"

    at = f"/limits/{what}"
    because = f"{figure(predicted.low)} to {figure(predicted.high)} predicted, {figure(predicted.expected)} expected"
    if what == "dollars":
        because += f" (hours · {found.processes} · ${recipe.hardware.dollars_per_accelerator_hour:g})"
    if predicted.high <= limit:
        return Verdict(about=what, level="ok", at=at, because=f"{because}: within {figure(limit)}")
    level = "unsure" if predicted.expected <= limit else "no"
    because += f": {'may pass' if level == 'unsure' else 'passes'} {figure(limit)}"
    nearest = [Change(at=at, value=math.ceil(predicted.high) if predicted.high > 10 else math.ceil(predicted.high * 100) / 100)]
    if share := share_that_fits(found, predicted, limit):
        nearest += [Change(at=pointer("stages", i, "steps"), value=math.floor(s.steps * share)) for i, s in enumerate(found.stages)]
        because += f"; {share:.1%} of the steps would keep it even at the slow end"
    return Verdict(about=what, level=level, at=at, because=because, nearest=nearest)


def share_that_fits(found: Estimate, predicted: Interval, limit: float) -> float | None:
    """Which share of every stage's steps ends within the limit at the slow end; None where not even the start does.

    The start stays as it is; pictures, evaluations and checkpoints shrink with the steps.
    """
    start = sum(o.hours.high for o in found.overheads if o.name == "start") * (predicted.high / found.hours.high)
    share = (limit - start) / (predicted.high - start)
    return share if 0 < share < 1 and all(math.floor(s.steps * share) for s in found.stages) else None


def of_trainer(recipe: Recipe) -> list[Verdict]:
    """What the recipe asks for and this trainer cannot do yet, in the whole and in each stage, each thing once."""
    return [
        Verdict(
            about="trainer",
            level="no",
            at=error.at,
            because=error.because,
            nearest=[Change(at=error.at, value=value) for value in error.nearest],
        )
        for error in broken_rules(recipe, spoiled=set(), for_training=True)
    ]


def in_gigabytes(interval: Interval) -> str:
    return f"{interval.expected / 1e9:.1f} GB [{interval.low / 1e9:.1f}–{interval.high / 1e9:.1f}]"
