"""What the model is measured by: samples that it was never trained on, or a data set of their own."""

from dataclasses import replace

from dayrun.recipe import Recipe, Source
from trainer.data.loader import SUBSTITUTES, Batch, Loader, Sample, batch_of
from trainer.data.shards import BadSample
from trainer.faults import DataFault
from trainer.text import TextEncoder


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

    def some(self, places: list[int]) -> Batch:
        """The samples at `places`, which wrap around at the end. One that cannot be read is replaced by the next."""
        batch = batch_of(places, [self._readable(place) for place in places])
        if self._tower is None:
            return batch
        text, mask = self._tower.states(batch.captions)
        return replace(batch, text=text, text_mask=mask)

    def _readable(self, place: int) -> Sample:
        because = ""
        for further in range(SUBSTITUTES):
            number = self._numbers[(place + further) % len(self._numbers)]
            try:
                return self._loader.decode(number, number)
            except BadSample as error:
                because = because or str(error)
        raise DataFault(f"/evaluation: {SUBSTITUTES} samples of the reference in a row cannot be read; the first: {because}")
