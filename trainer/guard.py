"""What becomes of a step whose loss or gradients are no numbers, and of a loss that jumps: told, skipped, gone back from, or the end.

Every rank judges by the same reduced values, so all judge alike without asking each other. The guard knows neither model nor files: it
says what is to be done. Its memory travels in the checkpoint's manifest, so that a resumed run judges as an undisturbed one would.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import Tensor

from dayrun.recipe import Guard as GuardFields
from trainer.faults import DivergedError
from trainer.world import World

Verdict = Literal["step", "skip", "roll_back"]
FEWEST = 20
"""Losses without which nothing counts as a spike: the first steps of a run or a stage fall too steeply to be a measure."""
USUAL = 0.95
"""Share of the recent losses that are usual: losses of small batches have long tails, since errors at low noise count for much."""


def spike(recent: Sequence[float], loss: float, factor: float) -> float | None:
    """What `USUAL` of the `recent` losses do not exceed, when `loss` is more than `factor` times it; else, or while they are few, None."""
    if len(recent) < FEWEST:
        return None
    usual = sorted(recent)[math.ceil(USUAL * len(recent)) - 1]
    return usual if usual > 0 and loss > factor * usual else None


class Guard:
    """The judge of each step, and what it remembers. `tell` writes an event; every rank calls it with the same words."""

    def __init__(self, fields: GuardFields, tell: Callable[..., None]) -> None:
        self._fields, self._tell = fields, tell
        self.recent: list[float] = []  # the losses of steps that were taken, oldest first
        self.skipped = 0  # in a row
        self.spiking = 0  # in a row
        self.roll_backs = 0
        self.good_until = 0
        """Steps done before the trouble that lasts now, if one does: no checkpoint after it is a good one."""
        self._parts: list[tuple[list[int], Tensor]] = []

    def begin_stage(self) -> None:
        """Losses of another resolution, batch or objective are no measure."""
        self.recent, self.spiking = [], 0

    def begin_step(self) -> None:
        self._parts = []

    def saw(self, positions: list[int], loss: Tensor) -> None:
        """A micro-batch of this rank and its loss, in case somebody has to be named: kept until the next step, not looked at."""
        self._parts.append((positions, loss.detach()))

    def judge(self, step: int, loss: float, norm: float, where: Callable[[], list[dict[str, Any]]]) -> Verdict:
        """What to do with step `step` (1 is the first), from the loss and the gradients' norm over all ranks.

        `where` names whose loss it was; it is called by every rank or by none. Raises DivergedError at the limit of skipped steps.
        """
        if not self.skipped and not self.spiking:
            self.good_until = step - 1
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return self._no_number(step, loss, norm, where())
        self.skipped = 0
        usual = spike(self.recent, loss, self._fields.spike_factor)
        if usual is not None and not self.spiking:
            self._tell("loss_spike", step, loss=loss, usual=usual, factor=self._fields.spike_factor)
        self.spiking = self.spiking + 1 if usual is not None else 0
        if self._fields.spike_limit and self.spiking >= self._fields.spike_limit and self.may_roll_back:
            return "roll_back"
        if self.spiking > max(self._fields.spike_window // 2, self._fields.spike_limit or 0):
            self.recent, self.spiking = [], 0  # what lasts so long is a new level
        if not self.spiking:  # a spike is no measure
            self.recent = [*self.recent, loss][-self._fields.spike_window :]
        return "step"

    def _no_number(self, step: int, loss: float, norm: float, where: list[dict[str, Any]]) -> Verdict:
        self.skipped += 1
        self._tell("step_skipped", step, loss=str(loss), gradient_norm=str(norm), in_a_row=self.skipped, where=where)
        if self.skipped < self._fields.skip_limit:
            return "skip"
        if self.may_roll_back:
            return "roll_back"
        raise DivergedError(self.because(step) + "; a lower learning rate may hold, or /guard/roll_back to go on with other data")

    @property
    def may_roll_back(self) -> bool:
        return self.roll_backs < self._fields.roll_back

    def because(self, step: int) -> str:
        if self.skipped:
            return f"step {step}: loss or gradients of {self.skipped} steps in a row were no numbers"
        return f"step {step}: the loss was above {self._fields.spike_factor} × what is usual for {self.spiking} steps in a row"

    def rolled_back(self, remembered: dict[str, Any]) -> None:
        """Go on with what the checkpoint remembers; only the number of roll-backs is not undone by one."""
        count = self.roll_backs + 1
        self.remember(remembered)
        self.roll_backs, self.skipped, self.spiking = count, 0, 0

    # what a checkpoint keeps
    def memory(self) -> dict[str, Any]:
        return {
            "recent": self.recent,
            "skipped": self.skipped,
            "spiking": self.spiking,
            "roll_backs": self.roll_backs,
            "good_until": self.good_until,
        }

    def remember(self, memory: dict[str, Any]) -> None:
        """What `memory` returned, or {} of a checkpoint that knows no guard."""
        self.recent = [float(loss) for loss in memory.get("recent", [])]
        self.skipped, self.spiking = int(memory.get("skipped", 0)), int(memory.get("spiking", 0))
        self.roll_backs, self.good_until = int(memory.get("roll_backs", 0)), int(memory.get("good_until", 0))

    def whose(self, world: World, sample_at: Callable[[int], int]) -> list[dict[str, Any]]:
        """The micro-batches whose loss was no number, by rank: their positions in the run's order and the numbers of the samples there.

        Empty when every loss was one and only the gradients were not. Every rank must call it.
        """
        bad = [positions for positions, loss in self._parts if not math.isfinite(float(loss))]
        mine = [{"rank": world.rank, "positions": some, "samples": [sample_at(position) for position in some]} for some in bad]
        return [entry for entries in world.gather(mine) for entry in entries]
