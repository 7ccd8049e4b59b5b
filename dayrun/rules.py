"""`load`: the one door through which a document becomes a Recipe, or a list of everything that keeps it from being one.

It puts together what `reading.py` says of the shape, `arithmetic.py` of the fields among each other and `supported.py` of what the trainer
cannot do yet, for the whole recipe and for every stage with its overrides.
"""

from typing import Any, cast

from pydantic import ValidationError

from dayrun import supported
from dayrun.arithmetic import RULES, STAGE_RULES
from dayrun.reading import MAX_ERRORS, in_our_words, parse
from dayrun.recipe import Recipe, Stage, merge_patch
from dayrun.recipe_errors import RecipeError, RecipeErrors, pointer, shown, steps_of

__all__ = ["RecipeError", "RecipeErrors", "load"]

STAGE_MAY_CHANGE = ("data", "objective", "perceptual", "representation", "routing")
"""What a stage may override: what the trainer reads anew for each stage. The rest is built once and lives through all of them."""
STAGE_MAY_NOT_CHANGE = {"objective": ("prediction", "noise_scale")}
"""...but not these: the weights learnt so far would mean something else."""


def load(document: object, *, for_training: bool = True) -> Recipe:
    """The recipe that `document` (a dict, or JSON as str or bytes) says, or RecipeErrors with everything that is wrong with it at once.

    `for_training` also refuses what the trainer cannot do yet; without it a recipe only has to make sense.
    """
    parsed = parse(document)
    errors = list(parsed.errors)
    if parsed.recipe is not None:
        errors += broken_rules(parsed.recipe, parsed.spoiled, for_training)
    if len(errors) > MAX_ERRORS:
        errors[MAX_ERRORS:] = [RecipeError("", None, f"and {len(errors) - MAX_ERRORS:,} more errors like these")]
    if errors or parsed.recipe is None:
        raise RecipeErrors(errors)
    return parsed.recipe


def broken_rules(recipe: Recipe, spoiled: set[str], for_training: bool) -> list[RecipeError]:
    """What the rules (and, for training, the refusals) say about a recipe of which the `spoiled` fields could not be read."""
    whole = [rule.check for rule in RULES if spoiled.isdisjoint(rule.reads)]
    staged = [rule.check for rule in STAGE_RULES if spoiled.isdisjoint(rule.reads)]

    def of_whole(recipe: Recipe) -> list[RecipeError]:
        refused = supported.refusals(recipe) if for_training else []
        return [error for check in whole for error in check(recipe)] + [e for e in refused if steps_of(e.at)[0] not in spoiled]

    def of_stage(recipe: Recipe, i: int) -> list[RecipeError]:
        return [error for check in staged for error in check(recipe, recipe.stages[i], pointer("stages", i))]

    errors = of_whole(recipe)
    if "stages" in spoiled:
        return errors
    base = list(errors)
    for i, stage in enumerate(recipe.stages):
        without = of_stage(recipe, i)
        if not stage.overrides:
            errors += without
            continue
        effective, faults = overridden(recipe, stage, i)
        errors += faults
        if effective is None:
            errors += without
            continue
        for error in [*of_whole(effective), *of_stage(effective, i)]:
            if error not in base:
                errors.append(error if error in without else under_overrides(error, stage, i))
    return list({(error.at, error.because): error for error in errors}.values())


def overridden(recipe: Recipe, stage: Stage, index: int) -> tuple[Recipe | None, list[RecipeError]]:
    """The recipe as a stage with overrides sees it, or None and what is wrong with the overrides."""
    errors: list[RecipeError] = []
    patch = dict(stage.overrides)
    allowed = ", ".join(STAGE_MAY_CHANGE)
    for name, value in stage.overrides.items():
        at = pointer("stages", index, "overrides", name)
        if name not in STAGE_MAY_CHANGE:
            errors.append(RecipeError(at, shown(value), f"the same for the whole run; a stage may change {allowed}"))
            del patch[name]
        for fixed in STAGE_MAY_NOT_CHANGE.get(name, ()) if isinstance(value, dict) else ():
            own = getattr(getattr(recipe, name), fixed)
            given = cast("dict[str, Any]", value).get(fixed, own)
            if given != own:
                because = f"a stage cannot change it from {own}: what was learnt before would mean something else"
                errors.append(RecipeError(f"{at}/{fixed}", shown(given), because, [own]))
    merged = merge_patch(recipe.model_dump(mode="json"), patch)
    try:
        return Recipe.model_validate(merged), errors
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=True)[: MAX_ERRORS + 1]
        return None, errors + [in_our_words(fault, merged, ("stages", index, "overrides")) for fault in faults]


def under_overrides(error: RecipeError, stage: Stage, index: int) -> RecipeError:
    """The error with its place moved to the part of the stage's overrides that brought it about."""
    steps = steps_of(error.at)
    if steps[:1] == ["stages"]:
        return error
    at, inside = ["stages", str(index), "overrides"], cast("Any", stage.overrides)
    for step in steps:
        if not isinstance(inside, dict) or step not in inside:
            break
        at.append(step)
        inside = cast("dict[str, Any]", inside)[step]
    place = "" if len(at) == len(steps) + 3 else f"{error.at}: "
    return RecipeError(pointer(*at), error.value, place + error.because, error.nearest)
