"""The exponential moving average of the weights: a second set of tensors, stepped beside the optimizer, saved with every checkpoint."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dayrun.recipe import Ema


class AveragedWeights:
    """w ← decay·w + (1 − decay)·new, every `every` steps from step `start` on; until then a copy. Float32."""

    def __init__(self, model: nn.Module, fields: Ema) -> None:
        self._fields = fields
        self._live = dict(model.named_parameters())
        self.tensors: dict[str, Tensor] = {name: weight.detach().clone().float() for name, weight in self._live.items()}

    @torch.no_grad()
    def update(self, steps_done: int) -> None:
        if steps_done % self._fields.every:
            return
        weight = 1.0 if steps_done <= self._fields.start else 1 - self._fields.decay
        torch._foreach_lerp_(list(self.tensors.values()), [self._live[name].detach() for name in self.tensors], weight)

    @torch.no_grad()
    def restart(self) -> None:
        """Begin anew from the weights as they are now."""
        torch._foreach_copy_(list(self.tensors.values()), [self._live[name].detach() for name in self.tensors])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model carries the averaged weights inside this block, and its own again after it."""
        own = {name: weight.detach().clone() for name, weight in self._live.items()}
        with torch.no_grad():
            for name, weight in self._live.items():
                weight.copy_(self.tensors[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in self._live.items():
                    weight.copy_(own[name])
