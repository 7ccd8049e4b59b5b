"""The exponential moving average of the weights: a second set of tensors, stepped beside the optimizer, saved with every checkpoint.

Where weights are sharded so are their averages: each rank steps its slices and nothing is sent.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dayrun.recipe import Ema
from trainer.parallel import local, sharded_modules


class AveragedWeights:
    """w ← decay·w + (1 − decay)·new, every `every` steps from step `start` on; until then a copy. Float32."""

    def __init__(self, model: nn.Module, fields: Ema) -> None:
        self._fields, self._modules = fields, sharded_modules(model)
        live = dict(model.named_parameters())
        self.tensors: dict[str, Tensor] = {name: weight.detach().clone().float() for name, weight in live.items()}
        self._live = [local(weight.detach()) for weight in live.values()]
        self._averages = [local(tensor) for tensor in self.tensors.values()]

    @torch.no_grad()
    def update(self, steps_done: int) -> None:
        if steps_done % self._fields.every:
            return
        weight = 1.0 if steps_done <= self._fields.start else 1 - self._fields.decay
        torch._foreach_lerp_(self._averages, [live.float() for live in self._live], weight)

    @torch.no_grad()
    def restart(self) -> None:
        """Begin anew from the weights as they are now."""
        torch._foreach_copy_(self._averages, self._live)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model carries the averaged weights inside this block, and its own again after it."""
        own = [live.clone() for live in self._live]
        self._put(self._averages)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        for module in self._modules:
            module.reshard()  # what was gathered before is not what the slices say now
        torch._foreach_copy_(self._live, values)
