"""A trained denoiser out of a run's checkpoint, for whoever draws with it or exports it. It writes nothing into the run folder."""

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from dayrun.layers import sprint_of
from dayrun.recipe import Hardware, Recipe
from dayrun.recipe_errors import RecipeError, RecipeErrors
from dayrun.rules import load
from dayrun.run_folder import EXIT_FAILED, Failure, RunFolder
from trainer import checkpoint
from trainer.faults import StorageFault, cause_of, evidence_of
from trainer.model import Denoiser
from trainer.schedule import after_stages, with_stage_steps
from trainer.world import World, join, leave


def recipe_of(folder: RunFolder) -> Recipe:
    """The recipe that the run was trained with; one that this trainer would refuse to train may still be drawn with."""
    return load(folder.recipe(), for_training=False)


@dataclass(frozen=True)
class Trained:
    """A model with the weights of one checkpoint, on this process's device."""

    model: Denoiser
    recipe: Recipe
    """Its stages as long as they were until then."""
    manifest: dict[str, Any]
    digest: str
    ema: bool
    """Whether the weights are the averaged ones."""


@contextmanager
def alone(hardware: Hardware) -> Iterator[World]:
    """A world of this process only, on an accelerator when the recipe knows one and there is one."""
    world = join(hardware)
    try:
        yield world
    finally:
        leave()


def load_trained(folder: RunFolder, world: World, recipe: Recipe, step: int | None, ema: bool | None) -> Trained:
    """The model of the checkpoint of `step`, or of the newest that proves whole; averaged where there are averages and `ema` is not false.

    Raises RecipeErrors when there is no such checkpoint, StorageFault when it does not hold.
    """
    steps = folder.checkpoints()
    if step is not None and step not in steps:
        raise RecipeErrors([RecipeError("/step", step, "the run has no complete checkpoint of this step", steps[-4:])])
    if not steps:
        raise RecipeErrors([RecipeError("/step", step, f"{folder.prefix.url} holds no complete checkpoint yet")])
    averaged = recipe.ema is not None if ema is None else ema
    if averaged and recipe.ema is None:
        raise RecipeErrors([RecipeError("/ema", True, "the run keeps no averaged weights (its /ema is null)", [False])])
    model = Denoiser(recipe.model, sprint_of(recipe)).to(world.device).eval()
    because = ""
    for candidate in [step] if step is not None else reversed(steps):
        digest = folder.checkpoint_digest(candidate)
        try:
            with checkpoint.at_hand(folder, world, candidate) as (files, manifest):
                checkpoint.load(files, {"ema" if averaged else "model": dict(model.state_dict())})
            course = with_stage_steps(recipe, after_stages(recipe, manifest.get("stages_ended", [])))
            return Trained(model, course, manifest, digest or "", averaged)
        except checkpoint.BadCheckpoint as error:
            because = f"the checkpoint of step {candidate} in {folder.prefix.url} does not hold: {error}"
    raise StorageFault(because)


def told_when_it_fails(folder: RunFolder, kind: Literal["draws", "exports"], id: str, work: Callable[[], None]) -> int:
    """Do `work`; the exit code. A failure is told as `error.json` in the folder of the draw or export, with a typed cause."""
    folder.prefix.delete(f"{kind}/{id}/error.json")  # of an earlier try
    try:
        work()
        return 0
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        failure = Failure(cause=cause_of(error) or "unknown", because=str(error), evidence=evidence_of(error))
        with suppress(OSError):
            folder.put_failure(kind, id, failure)
        return EXIT_FAILED
