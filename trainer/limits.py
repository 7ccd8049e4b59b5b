"""The clock of a run: what share of the recipe's limits is used, over all attempts, the same number on every rank."""

from collections.abc import Callable

from dayrun.recipe import Recipe
from dayrun.run_folder import RunFolder
from trainer.schedule import Used, share_used, used_before
from trainer.world import World


class Timer:
    """Rank 0's clock. What it shows travels with each step's collective, so that no rank ends a stage before another."""

    def __init__(self, recipe: Recipe, world: World, clock: Callable[[], float]) -> None:
        self._limits, self._counts = recipe.limits, recipe.schedule.by == "limits"
        self._price, self._world, self._clock = recipe.hardware.dollars_per_accelerator_hour, world, clock
        self._began, self._before = clock(), Used()
        self.used = 0.0
        """Share of the limits, as of the last step."""

    def start(self, folder: RunFolder, attempt: int) -> None:
        """Add what earlier attempts have used, from what they wrote. Every rank calls it."""
        if self._counts:
            read = lambda: used_before(attempt, folder.events(), folder.metrics(), self._price) if self._world.leads else Used()  # noqa: E731
            self._before = self._world.together(read)[0]
            self.used = share_used(self._limits, self._before)

    def seconds(self) -> float:
        """Of this attempt: what rank 0 has to say; 0 on the others."""
        return self._clock() - self._began if self._counts and self._world.leads else 0.0

    def share(self, seconds: float) -> float:
        """Take over the `seconds` that all ranks have agreed on; the used share of the limits."""
        if self._counts:
            self.used = share_used(self._limits, self._before.and_then(seconds, self._world.size * self._price))
        return self.used
