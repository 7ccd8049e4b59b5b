"""How much of the time pictures may take: a periodic set that would pass its share is drawn later, when there is time for it again."""

from dayrun.recipe import Recipe, SampleSet
from trainer.samples import due, due_at_an_end
from trainer.telemetry import LOG_EVERY
from trainer.world import World


def affordable(cost: float, spent: float, elapsed: float, share: float) -> bool:
    """Whether `cost` more seconds keep what was `spent` within `share` of the `elapsed` ones."""
    return spent + cost <= share * elapsed


class SampleBudget:
    """Which sets are drawn now. Those of the start and of the end always are: each comes once."""

    def __init__(self, share: float | None) -> None:
        self._share = share
        self._spent = 0.0
        self._cost: dict[str, float] = {}  # seconds that a set took the last time
        self._waiting: dict[str, SampleSet] = {}

    def sets(self, recipe: Recipe, step: int, elapsed: float, world: World) -> tuple[list[SampleSet], list[tuple[str, str]]]:
        """(sets to be drawn now, (set, why) of those that are put off), the same on every rank: rank 0's clock decides."""
        asked = [one for one in recipe.samples.sets if due(one, step, recipe.total_steps)]
        if self._share is None:
            return asked, []
        once = [one for one in asked if due_at_an_end(one, step, recipe.total_steps)]
        periodic = {s.name: s for s in asked if s not in once}
        for one in once:
            self._waiting.pop(one.name, None)
        if not periodic and (not self._waiting or step % LOG_EVERY):
            return once, []
        wanted = {**self._waiting, **periodic}
        fits: list[str] = world.agree(self._fitting(list(wanted), elapsed))
        late = [name for name in periodic if name not in fits]
        self._waiting = {name: one for name, one in wanted.items() if name not in fits}
        because = f"{self._spent:.1f} s of {elapsed:.0f} s went into pictures, /samples/budget allows {self._share:.0%}"
        return [*once, *(wanted[name] for name in fits)], [(name, because) for name in late]

    def _fitting(self, names: list[str], elapsed: float) -> list[str]:
        assert self._share is not None
        fits, spent = list[str](), self._spent
        for name in names:
            cost = self._cost.get(name, 0.0)
            if affordable(cost, spent, elapsed, self._share):
                fits.append(name)
                spent += cost
        return fits

    def spent_on(self, name: str, seconds: float) -> None:
        self._spent += seconds
        self._cost[name] = seconds
