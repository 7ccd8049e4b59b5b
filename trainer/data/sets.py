"""The data of a recipe as one row of numbered samples: its sources, each one folder of shards or a folder for each bucket.

Numbers follow the recipe's order of sources and the names of the buckets. They are what an order, a record and an event speak of.
"""

import bisect
import hashlib
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np

from dayrun.recipe import Data, Recipe
from dayrun.recipe_errors import RecipeError, RecipeErrors
from trainer.data.buckets import Size, at
from trainer.data.cache import FETCHING
from trainer.data.errors import BadSample, ShardError
from trainer.data.folders import HERE, folder_in, folders_of
from trainer.data.order import Members, hashes, held_out
from trainer.data.shards import OPEN, ShardSet
from trainer.data.shelves import CachedShelf, cache_at, place_of, shelf
from trainer.faults import DataFault

KEPT = 16
"""Shards that a process keeps open of what goes through a cache, of all sets together: they cannot be evicted."""


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
        folder = Path(data.cache.folder) if data.cache.folder else None
        settings = folder, data.cache.bytes, data.cache.patience_seconds
        self.cache = partial(cache_at, *settings)
        """Opens what shards of object stores go through."""
        try:
            folders = [(i, name) for i, source in enumerate(data.sources) for name in folders_of(source.url)]
            away = any("://" in place_of(source.url) for source in data.sources)
            self.keep = max(1, KEPT // len(folders)) if away else max(2, OPEN // len(folders))
            count = 0
            for i, name in folders:
                shards = ShardSet(shelf(folder_in(data.sources[i].url, name), *settings), keep=self.keep)
                self.stretches.append(Stretch(i, None if name == HERE else Size.of(name), shards, count))
                count += len(shards)
        except ShardError as error:
            raise DataFault(str(error)) from error
        self._firsts = [stretch.first for stretch in self.stretches]
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
        stretch = self.stretches[bisect.bisect_right(self._firsts, number) - 1]
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


def needed_bytes(sets: list[list[int]], samples: int, keep: int, recipe: Recipe) -> int:
    """What a cache must have room for: two blocks of samples, since the next one's shards are fetched while the last one's are read.

    sets: bytes of the shards of each set that goes through the cache; samples: in all of them. Every process of a node holds `keep` shards
    of each set, an evaluation as many again; ranks share the shards of a block among them.
    """
    hardware, block = recipe.hardware, recipe.data.shuffle_block
    total, largest = sum(map(sum, sets)), max(map(max, sets))
    users = hardware.processes_per_node * (1 if recipe.evaluation is None else 2)
    held = users * sum(sum(sorted(shards)[-keep:]) for shards in sets)
    node = hardware.processes_per_node / hardware.world_size if samples > block else 1.0
    shared = 2 * (int(node * min(1.0, block / samples) * total) + 2 * len(sets) * largest)  # a block begins and ends within a shard
    return min(total, held + shared) + FETCHING * hardware.processes_per_node * largest


def check_room(samples: Samples, recipe: Recipe) -> None:
    """Raises RecipeErrors when the cache cannot hold what training on `samples` needs at a time."""
    cached = [s.shards for s in samples.stretches if isinstance(s.shards.shelf, CachedShelf) or s.shards.entries[0].get("compression")]
    if not cached:
        return
    sets = [[int(entry["raw_data"]["bytes"]) for entry in shards.entries] for shards in cached]
    needed = needed_bytes(sets, sum(map(len, cached)), samples.keep, recipe)
    asked, cache = recipe.data.cache, samples.cache()
    if cache.limit < needed:
        processes = recipe.hardware.processes_per_node
        what = f"two blocks of {recipe.data.shuffle_block:,} samples and what {processes} processes hold take {needed:,} bytes"
        because = what if asked.bytes else f"{what}, and the disk of {cache.folder} has room for {cache.limit:,}"
        raise RecipeErrors([RecipeError("/data/cache/bytes", asked.bytes, because, [needed])])


def salt_of(bucket: Size | None) -> int:
    """0 where there are no buckets: those sets keep what they have always held out."""
    return 0 if bucket is None else bucket.width << 32 | bucket.height
