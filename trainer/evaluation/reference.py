"""What the model is measured by: samples that it was never trained on, or a data set of their own."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dayrun.recipe import Recipe, Source
from trainer.data.loader import SUBSTITUTES, Loader, Sample
from trainer.data.shards import BadSample
from trainer.faults import DataFault
from trainer.text import TextEncoder


@dataclass(frozen=True)
class Some:
    """A few samples of the reference."""

    images: Tensor  # (n, 3, height, width) float32 in [−1, 1]
    text: Tensor  # (n, tokens, width) float32
    text_mask: Tensor  # (n, tokens) bool
    captions: list[str]


class Reference:
    """The reference's samples in a fixed order, whatever the seed of the run and the number of ranks. Raises DataFault.

    `tower`: encodes the captions where their states are not in the shards.
    """

    def __init__(self, recipe: Recipe, pixels: int, tower: TextEncoder | None) -> None:
        evaluation = recipe.evaluation
        assert evaluation is not None
        changed: dict[str, object] = {"horizontal_flip": 0.0}
        if evaluation.reference is not None:
            changed["sources"] = [Source(url=evaluation.reference)]
        self._tower = tower
        self._loader = Loader(recipe.model_copy(update={"data": recipe.data.model_copy(update=changed)}), pixels)
        self._numbers = self._loader.held_out if evaluation.reference is None else list(range(len(self._loader)))

    def __len__(self) -> int:
        return len(self._numbers)

    def some(self, places: list[int]) -> Some:
        """The samples at `places`, which wrap around at the end. One that cannot be read is replaced by the next."""
        pictures, texts, masks, captions = zip(*(self._readable(place) for place in places), strict=True)
        images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
        text, mask = torch.from_numpy(np.stack(texts)).float(), torch.from_numpy(np.stack(masks)).bool()
        if self._tower is not None:
            text, mask = self._tower.states(list(captions))
        return Some(images.contiguous(), text, mask, list(captions))

    def _readable(self, place: int) -> Sample:
        because = ""
        for further in range(SUBSTITUTES):
            number = self._numbers[(place + further) % len(self._numbers)]
            try:
                return self._loader.decode(number, number)
            except BadSample as error:
                because = because or str(error)
        raise DataFault(f"/evaluation: {SUBSTITUTES} samples of the reference in a row cannot be read; the first: {because}")
