"""Whether one recipe's weights fit another: what a fork may change, told from the two recipes before anything is loaded.

The table says which fields shape which weights; the trainer uses it to name the field behind two shapes that differ. No torch here.
"""

from typing import Any

from dayrun.layers import sprint_of
from dayrun.recipe import Recipe
from dayrun.recipe_errors import RecipeError
from dayrun.run_records import Weights

SHAPED_BY: list[tuple[str, tuple[str, ...]]] = [
    ("img_in.", ("patch_size", "in_channels", "bottleneck_size", "hidden_size")),
    ("txt_in.", ("text_width", "hidden_size")),
    ("resolution_embedder.", ("resolution_conditioning", "hidden_size")),
    ("blocks.", ("depth", "hidden_size", "heads", "mlp_ratio")),
    ("final_layer.", ("patch_size", "in_channels", "hidden_size")),
    ("", ("hidden_size",)),
]
"""Beginnings of the weights' names, and the fields of /model that decide whether they exist and what shape they have."""

SHAPING = tuple(dict.fromkeys(name for _, names in SHAPED_BY for name in names))
MEANT_BY: list[tuple[str, str]] = [
    ("model", "rotary_axes"),
    ("model", "rotary_theta"),
    ("objective", "prediction"),
    ("objective", "noise_scale"),
    ("optimizer", "kind"),
]
"""What a run that goes on exactly where its parent was must not change either: the state would fit and mean something else."""


def fork_conflicts(parent: Recipe, child: Recipe, weights: Weights, step: int = 0) -> list[RecipeError]:
    """Why a run of `child` cannot start from `weights` of a run of `parent` at `step`; places are in the child's recipe. Pure.

    `ema` and `model` only need weights of the same shapes: whatever else differs, they are a better start than chance. `all` goes on.
    """
    errors = [differs(parent, child, "model", name, "the weights of the parent have another shape") for name in SHAPING]
    errors.append(fusion_differs(parent, child))
    if weights == "ema" and parent.ema is None:
        errors.append(RecipeError("", None, "the parent keeps no averages (its /ema is null): fork its weights 'model' instead"))
    if weights == "all":
        errors += [differs(parent, child, section, name, "the run would not go on but do something else") for section, name in MEANT_BY]
        if (parent.ema is None) != (child.ema is None):
            nearest = parent.ema.model_dump(mode="json") if parent.ema else None
            errors.append(RecipeError("/ema", value_of(child, "ema"), "the averages go along: kept by both runs, or by neither", [nearest]))
        errors.append(projector_differs(parent, child))
        if step > child.total_steps:
            because = f"the fork begins at step {step}, after the end: {child.total_steps} steps over all stages"
            errors.append(RecipeError("/stages", None, because))
    return [error for error in errors if error is not None]


def differs(parent: Recipe, child: Recipe, section: str, name: str, because: str) -> RecipeError | None:
    """The error for a field that must be the same in both recipes and is not."""
    theirs, ours = value_of(parent, section, name), value_of(child, section, name)
    if theirs == ours:
        return None
    return RecipeError(f"/{section}/{name}", ours, f"{because}: it says {theirs} there; weights do not change their form", [theirs])


def projector_differs(parent: Recipe, child: Recipe) -> RecipeError | None:
    """The error where the two learn another projector beside the model (REPA, iREPA), or only one of them does."""
    theirs, ours = (
        [stage for i in range(len(recipe.stages)) if (stage := recipe.at_stage(i).representation)] for recipe in (parent, child)
    )
    alike = [(stages[0].kind, stages[0].teacher) if stages else None for stages in (theirs, ours)]
    if alike[0] == alike[1]:
        return None
    because = f"the parent learns {alike[0] or 'no projector'} beside the model, this run {alike[1] or 'none'}: the state would not fit"
    nearest = theirs[0].model_dump(mode="json") if theirs else None
    return RecipeError("/representation", value_of(child, "representation"), because, [nearest])


def fields_behind(weight: str, parent: Recipe, child: Recipe) -> list[RecipeError]:
    """Which fields made the weight `weight` differ between the two recipes; empty when none of them explains it."""
    if weight.startswith("projector."):
        return [error for error in [projector_differs(parent, child)] if error is not None]
    if weight.startswith("sprint."):
        return [error for error in [fusion_differs(parent, child)] if error is not None]
    shaping = next(names for beginning, names in SHAPED_BY if weight.startswith(beginning))
    errors = [differs(parent, child, "model", name, f"it shapes {weight}") for name in shaping]
    return [error for error in errors if error is not None]


def fusion_differs(parent: Recipe, child: Recipe) -> RecipeError | None:
    """The error where one of the two has SPRINT's fusion and the other has not, or around other blocks."""
    theirs, ours = sprint_of(parent), sprint_of(child)
    around = [None if routing is None else [routing.start, routing.end] for routing in (theirs, ours)]
    if around[0] == around[1]:
        return None
    nearest = theirs.model_dump(mode="json") if theirs else None
    because = f"SPRINT's fusion is a part of the model: the parent has {told(around[0])}, this run {told(around[1])}"
    return RecipeError("/routing", value_of(child, "routing"), because, [nearest])


def told(blocks: list[int] | None) -> str:
    return "none" if blocks is None else f"one around blocks {blocks[0]} to {blocks[1]}"


def value_of(recipe: Recipe, *path: str) -> Any:
    value: Any = recipe.model_dump(mode="json")
    for name in path:
        value = value[name]
    return value
