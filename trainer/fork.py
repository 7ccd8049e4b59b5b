"""The first state of a forked run: a checkpoint of another run, taken over after its shapes were found to fit.

Which recipes fit is told beforehand by `dayrun.forks`; here the checkpoint itself is asked, before a single tensor is loaded.
"""

from typing import Any

from torch import nn

from dayrun.forks import fields_behind, fork_conflicts
from dayrun.objects import Prefix
from dayrun.recipe import Recipe
from dayrun.recipe_errors import RecipeError, RecipeErrors
from dayrun.rules import load
from dayrun.run_folder import Fork, RunFolder
from trainer import checkpoint, imported
from trainer.faults import StorageFault
from trainer.objective.representation import PROJECTOR
from trainer.world import World


def take_over(fork: Fork, recipe: Recipe, world: World, model: nn.Module, state: checkpoint.State) -> tuple[dict[str, Any], str]:
    """Fill `model`, or the whole `state`, from the parent's checkpoint; returns its manifest and digest. Every rank calls it.

    Raises RecipeErrors (cause `spec`) when it cannot fit: with the tensor, both shapes, and the field of the recipe behind it.
    """
    if config := imported.configuration(fork["from"], world):
        return imported.take_over(fork, config, recipe, world, model)
    parent, step = RunFolder(Prefix(fork["from"])), fork["step"]
    document, steps, digest = world.together(
        lambda: (parent.recipe(), parent.checkpoints(), parent.checkpoint_digest(step)) if world.leads else ({}, [], None)
    )[0]
    if step not in steps or digest is None:
        raise RecipeErrors([RecipeError("", None, f"fork.json: {fork['from']} has no complete checkpoint of step {step}", steps[-4:])])
    source = load(document, for_training=False)
    wanted = state if fork["weights"] == "all" else {fork["weights"]: dict(model.state_dict())}
    try:
        with checkpoint.at_hand(parent, world, step) as (files, manifest):
            there = checkpoint.shapes(files)
            if fork["weights"] != "all":
                there, wanted = without_other_projectors(there, wanted)
            refuse_what_does_not_fit(there, wanted, source, recipe)
            if conflicts := fork_conflicts(source, recipe, fork["weights"], step):
                raise RecipeErrors(conflicts)
            checkpoint.load(files, wanted)
    except checkpoint.BadCheckpoint as error:
        raise StorageFault(f"fork.json: the checkpoint of step {step} in {fork['from']} does not hold: {error}") from error
    return manifest, digest


def without_other_projectors(
    there: dict[str, tuple[int, ...]], wanted: checkpoint.State
) -> tuple[dict[str, tuple[int, ...]], checkpoint.State]:
    """Both without the projectors of representation alignment, unless they are alike: no picture needs one, and ours can learn anew."""
    ours = {f"{part}.{name}": tuple(tensor.shape) for part, tensors in wanted.items() for name, tensor in tensors.items()}
    beside = {name for name in [*there, *ours] if name.startswith(tuple(f"{part}.{PROJECTOR}" for part in wanted))}
    if all(there.get(name) == ours.get(name) for name in beside):
        return there, wanted
    kept = {part: {name: tensor for name, tensor in tensors.items() if f"{part}.{name}" not in beside} for part, tensors in wanted.items()}
    return {name: shape for name, shape in there.items() if name not in beside}, kept


def refuse_what_does_not_fit(there: dict[str, tuple[int, ...]], wanted: checkpoint.State, parent: Recipe, child: Recipe) -> None:
    """Raises RecipeErrors with the first weight that has another shape in the parent, or that one of the two does not have.

    The optimizer's tensors follow from the weights and its kind; averages that a whole run lacks are told from the recipes.
    """
    for part in ("model", "ema"):
        ours = {f"{part}.{name}": tuple(tensor.shape) for name, tensor in wanted.get(part, {}).items()}
        theirs = {name: shape for name, shape in there.items() if name.startswith(f"{part}.")}
        for name in [*ours, *theirs] if ours and theirs else []:
            if ours.get(name) == theirs.get(name):
                continue
            weight = name.removeprefix(f"{part}.")
            seen = f"{name} is {told(theirs.get(name))} in the parent's checkpoint and {told(ours.get(name))} in this run"
            because = fields_behind(weight, parent, child) or [RecipeError("", None, "no field of the two recipes explains it")]
            raise RecipeErrors([RecipeError(e.at, e.value, f"{seen}; {e.because}", e.nearest) for e in because])


def told(shape: tuple[int, ...] | None) -> str:
    return "not there" if shape is None else f"of shape {list(shape)}"
