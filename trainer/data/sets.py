"""The data of a recipe as one row of numbered samples: its sources, each one folder of shards or a folder for each bucket.

Numbers follow the recipe's order of sources and the names of the buckets. They are what an order, a record and an event speak of.
"""

import hashlib
import json
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from dayrun.recipe import Data, Recipe
from trainer.data.buckets import Size, at
from trainer.data.errors import BadSample, ShardError
from trainer.data.order import Members, hashes, held_out
from trainer.data.shards import OPEN, ShardSet
from trainer.data.shelves import document, shelf
from trainer.faults import DataFault

DATASET = "dataset.json"
"""What a conversion writes last, beside the folders of its buckets."""
HERE = "."
"""The bucket that lies in the data set's own folder: the only one, and square."""


@dataclass(frozen=True)
class Stretch:
    """One set of shards and the numbers of its samples."""

    source: int
    bucket: Size | None
    """What its pictures are stored at; None where they are taken as squares."""
    shards: ShardSet
    first: int


class Samples:
    """All samples of `data`, by number. Raises DataFault when a source cannot be used, or there is no sample."""

    def __init__(self, data: Data) -> None:
        self._data = data
        self.stretches: list[Stretch] = []
        try:
            folders = [(i, name) for i, source in enumerate(data.sources) for name in folders_of(source.url)]
            keep = max(2, OPEN // len(folders))
            count = 0
            for i, name in folders:
                url = data.sources[i].url if name == HERE else f"{data.sources[i].url.rstrip('/')}/{name}"
                shards = ShardSet(shelf(url), keep=keep)
                self.stretches.append(Stretch(i, None if name == HERE else Size.of(name), shards, count))
                count += len(shards)
        except ShardError as error:
            raise DataFault(str(error)) from error
        self._firsts = np.array([stretch.first for stretch in self.stretches])
        self._count = count
        if not count:
            raise DataFault(f"/data/sources: no samples in {[source.url for source in data.sources]}; convert some pictures first")

    def __len__(self) -> int:
        return self._count

    @property
    def digest(self) -> str:
        """SHA-256 of all indexes: other samples under the same numbers have another."""
        return hashlib.sha256("".join(stretch.shards.digest for stretch in self.stretches).encode()).hexdigest()

    def place(self, number: int) -> tuple[Stretch, int]:
        """The set that sample `number` is in, and its number there."""
        stretch = self.stretches[int(np.searchsorted(self._firsts, number, side="right")) - 1]
        return stretch, number - stretch.first

    def bad(self, number: int, because: str) -> BadSample:
        """The error that says where sample `number` lies."""
        stretch, local = self.place(number)
        return stretch.shards.bad_sample(local, because)

    def held_out(self, share: float) -> np.ndarray:
        """Which samples are kept from training, (samples,) bool: of each bucket by itself, so that none is moved by another that grows."""
        parts = [hashes(len(stretch.shards), salt_of(stretch.bucket)) for stretch in self.stretches]
        return held_out(len(self), share, np.concatenate(parts))

    def members(self, recipe: Recipe, pixels: int, kept: np.ndarray | None) -> list[Members]:
        """What is trained on at a stage of `pixels`: the samples that are True in `kept` (samples,), or all."""
        patch = recipe.model.patch_size * (recipe.latents.downscale if recipe.latents else 1)
        found: list[Members] = []
        weights = self._weights(kept)
        for stretch in self.stretches:
            square = stretch.bucket is None or recipe.data.buckets == "square"
            size = Size(pixels, pixels) if square or stretch.bucket is None else at(stretch.bucket, pixels, patch)
            last = stretch.first + len(stretch.shards)
            numbers = np.arange(stretch.first, last) if kept is None else stretch.first + np.flatnonzero(kept[stretch.first : last])
            shards = stretch.first + np.append(0, stretch.shards.ends[:-1])
            found.append(Members(size, weights[stretch.source], numbers, shards))
        return found

    def _weights(self, kept: np.ndarray | None) -> list[Fraction]:
        """How often a sample of each source is drawn: its source's share, over the samples that share it."""
        counts = [0] * len(self._data.sources)
        for stretch in self.stretches:
            last = stretch.first + len(stretch.shards)
            counts[stretch.source] += last - stretch.first if kept is None else int(kept[stretch.first : last].sum())
        # 1.7 is 17/10, as it was written, so that weights that are the numbers of samples are equal weights
        shares = [None if source.weight is None else Fraction(str(source.weight)) for source in self._data.sources]
        return [Fraction(1) if share is None else share / max(1, count) for share, count in zip(shares, counts, strict=True)]


def folders_of(url: str) -> list[str]:
    """The folders of a data set's buckets below `url`, in order of their names; `.` is its own. Raises ShardError."""
    data = document(url, DATASET)
    if data is None:
        return [HERE]
    file = f"{url.rstrip('/')}/{DATASET}"
    try:
        buckets = json.loads(data)["buckets"]
        names = sorted(name for name, about in buckets.items() if about["samples"])
        for name in names:
            if name != HERE:
                Size.of(name)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        nearest = 'expected {"buckets": {"WIDTHxHEIGHT": {"samples": …}}}; convert again'
        raise ShardError(file, None, f"does not say which buckets there are ({type(error).__name__}: {error})", nearest) from None
    if not names:
        raise ShardError(file, None, "names no bucket with samples", "convert at least one picture")
    return names


def salt_of(bucket: Size | None) -> int:
    """0 where there are no buckets: those sets keep what they have always held out."""
    return 0 if bucket is None else bucket.width << 32 | bucket.height
