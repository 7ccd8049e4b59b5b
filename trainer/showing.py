"""What people see of a model while it trains: pictures of prompts, and measurements, with averaged weights where there are any."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from torch import nn

from dayrun.recipe import Recipe, SampleSet
from dayrun.run_folder import RunFolder
from trainer.autoencoder import Autoencoder
from trainer.budget import SampleBudget
from trainer.ema import AveragedWeights
from trainer.evaluation.evaluate import Evaluator
from trainer.faults import StopSignal
from trainer.parallel import gathered
from trainer.precision import autocast
from trainer.samples import Prompts, draw_sets
from trainer.text import TextEncoder
from trainer.timing import Timing
from trainer.world import World


class Showing:
    """Draws and measures what is due. `saved` waits for the checkpoint of this step, which what is shown names."""

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        attempt: int,
        world: World,
        model: nn.Module,
        ema: AveragedWeights | None,
        autoencoder: Autoencoder | None,
        stop: StopSignal,
        timing: Timing,
        saved: Callable[[], None],
        tell: Callable[..., None],
        metric: Callable[..., None],
    ) -> None:
        self._folder, self._attempt, self._world, self._timing = folder, attempt, world, timing
        self._model, self._ema, self._saved, self._tell, self._metric = model, ema, saved, tell, metric
        self._autoencoder = autoencoder
        self._budget = SampleBudget(recipe.samples.budget)
        self._evaluator = Evaluator(recipe, folder, attempt, world, autoencoder, stop, timing) if recipe.evaluation else None

    def prove(self) -> None:
        """Raises on every rank when what an evaluation needs cannot be used."""
        if self._evaluator:
            self._evaluator.prove()

    def show(self, recipe: Recipe, step: int, elapsed: float, prompts: Prompts, tower: TextEncoder | None, roll_backs: int) -> None:
        """What is due once `step` steps of `recipe` are done, `elapsed` seconds into the attempt. Every rank must call it."""
        sets, postponed = self._budget.sets(recipe, step, elapsed, self._world)
        for name, because in postponed:
            self._tell("samples_postponed", set=name, because=because)
        if sets:
            with self._timing.part("preview"), self._shown(recipe, recipe.samples.ema):
                self._draw(recipe, sets, prompts, step)
        if self._evaluator and self._evaluator.due(step, recipe.total_steps):
            self._saved()
            with self._timing.part("evaluation"), self._shown(recipe, averaged=True):
                self._evaluator.evaluate(self._model, recipe, prompts, tower, step, roll_backs, self._tell, self._metric)

    @contextmanager
    def _shown(self, recipe: Recipe, averaged: bool) -> Iterator[None]:
        """The model as it is drawn with."""
        average = self._ema.in_place() if self._ema and averaged else nullcontext()
        with average, gathered(self._model), autocast(recipe.hardware, self._world):
            self._model.eval()
            try:
                yield
            finally:
                self._model.train()

    def _draw(self, recipe: Recipe, sets: list[SampleSet], prompts: Prompts, step: int) -> None:
        try:
            drawn = draw_sets(self._model, self._autoencoder, recipe, prompts, sets, self._folder, self._world, step, self._attempt)
            for name, images, seconds in drawn:
                self._timing.get_on()
                self._budget.spent_on(name, seconds)
                self._tell("samples_drawn", set=name, images=images, seconds=round(seconds, 3))
                self._saved()  # the index names the checkpoint of its step, so it must be there before the index is complete
        except OSError as error:  # on every rank: pictures are no reason to stop
            self._tell("samples_failed", because=str(error))
