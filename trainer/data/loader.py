"""From shards to batches: which sample comes when, decoding ahead of the step, bad samples replaced and counted.

The order is one endless stream of positions. Position p holds sample `permutation(seed, epoch)[p mod n]`, so what a step sees follows
from its first position alone: no state to save, and the same stream whatever the number of ranks. It knows no process group.
"""

import io
import os
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dayrun.recipe import Data, Recipe
from trainer.data.shards import BadSample, ShardError, ShardSet
from trainer.faults import DataFault
from trainer.flow import mix

AHEAD = 4
"""Micro-batches decoded before they are asked for."""
SUBSTITUTES = 20
"""Tries to replace a bad sample before the data count as unusable."""


@dataclass(frozen=True)
class Batch:
    positions: list[int]  # (n,) places in the run's order; they seed every draw
    images: Tensor  # (n, 3, height, width) float32 in [−1, 1]
    text: Tensor  # (n, tokens, width) float32
    text_mask: Tensor  # (n, tokens) bool


@dataclass
class BadSamples:
    """What could not be read, for events and for the limit."""

    seen: int = 0
    count: int = 0
    first: list[dict[str, Any]] | None = None


def folder_of(url: str) -> Path:
    """Where a source lies: relative URLs start at DAYRUN_DATA, or at the current folder."""
    return Path(os.environ.get("DAYRUN_DATA", ".")) / url.removeprefix("file://")


class Order:
    """The endless stream of positions over `samples` samples."""

    def __init__(self, samples: int, seed: int) -> None:
        self.samples = samples
        # two epochs meet in one batch, and threads look ahead: keep a few permutations, not all
        self._permutation: Callable[[int], np.ndarray] = lru_cache(maxsize=4)(
            lambda epoch: np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(samples)
        )

    def sample_at(self, position: int) -> int:
        return int(self._permutation(position // self.samples)[position % self.samples])


class Loader:
    """The batches of one rank in one stage. Raises DataFault before the first step when the data cannot be used."""

    def __init__(self, recipe: Recipe, pixels: int, on_bad: Callable[[BadSamples], None] | None = None) -> None:
        self._recipe, self._data, self._pixels = recipe, recipe.data, pixels
        try:
            self._sets = [ShardSet(folder_of(source.url)) for source in self._data.sources]
        except ShardError as error:
            raise DataFault(str(error)) from error
        self._ends = np.cumsum([len(shards) for shards in self._sets])
        if self._ends[-1] == 0:
            raise DataFault(f"/data/sources: no samples in {[s.url for s in self._data.sources]}; convert some pictures first")
        for shards, source in zip(self._sets, self._data.sources, strict=True):
            check_columns(set(shards.columns), self._data, source.url)
        self.order = Order(int(self._ends[-1]), recipe.seed)
        self.bad = BadSamples(first=[])
        self._on_bad = on_bad or (lambda _: None)
        self._lock = threading.Lock()

    def batches(self, first_position: int, batch_size: int, micro_batch: int, rank: int, world_size: int) -> Iterator[Batch]:
        """Endless micro-batches of `rank` from `first_position` on; a step is batch_size / world_size / micro_batch of them."""
        share = batch_size // world_size

        def plan() -> Iterator[list[int]]:
            start = first_position
            while True:
                mine = start + rank * share
                for offset in range(0, share, micro_batch):
                    yield list(range(mine + offset, mine + min(offset + micro_batch, share)))
                start += batch_size

        return decoded_ahead(plan(), self.load)

    def load(self, positions: list[int]) -> Batch:
        """Decode the samples at `positions`. Raises DataFault when too many cannot be read."""
        pictures, texts, masks = zip(*(self._readable(position) for position in positions), strict=True)
        images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
        return Batch(positions, images.contiguous(), torch.from_numpy(np.stack(texts)).float(), torch.from_numpy(np.stack(masks)).bool())

    def _readable(self, position: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The sample at `position`, or a seeded substitute when it is bad: the same on every rank and in every attempt."""
        index = self.order.sample_at(position)
        with self._lock:
            self.bad.seen += 1
        for attempt in range(SUBSTITUTES):
            try:
                return self._decode(index, position)
            except BadSample as error:
                self._count_bad(error)
                index = mix(self._recipe.seed + attempt + 1, position) % self.order.samples
        raise DataFault(f"{SUBSTITUTES} samples in a row cannot be read; the first bad ones: {self.bad.first}")

    def _decode(self, index: int, position: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        which = int(np.searchsorted(self._ends, index, side="right"))
        shards = self._sets[which]
        local = index - (int(self._ends[which - 1]) if which else 0)
        sample = shards[local]
        chance = np.random.Generator(np.random.Philox(key=[self._recipe.seed, mix(self._recipe.seed, position)]))
        weights = np.array([caption.weight for caption in self._data.captions])
        caption = self._data.captions[int(chance.choice(len(weights), p=weights / weights.sum()))]
        flip = chance.random() < self._data.horizontal_flip
        try:
            picture = fitted(sample[self._data.image_column], self._pixels)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise shards.bad_sample(local, f"column {self._data.image_column!r} is no picture: {error}") from error
        text = np.asarray(sample[caption.latent_column or ""])
        mask = np.asarray(sample[caption.mask_column or ""])
        wanted = (self._recipe.text.tokens, self._recipe.model.text_width)
        if text.shape != wanted:
            raise DataFault(
                f"/text: column {caption.latent_column!r} of {self._data.sources[which].url} holds states of shape {text.shape}, "
                f"the recipe says tokens × text_width = {wanted}; set /text/tokens and /model/text_width to {list(text.shape)}"
            )
        return (picture[:, ::-1] if flip else picture), text, mask

    def _count_bad(self, error: BadSample) -> None:
        with self._lock:
            self.bad.count += 1
            assert self.bad.first is not None
            if len(self.bad.first) < 10:
                self.bad.first.append({"file": str(error.file), "offset": error.offset, "sample": error.sample, "because": error.because})
        self._on_bad(self.bad)
        # 1 % of nothing is nothing: a single bad sample among the first few must not end a run
        if self.bad.count > max(10, self._data.bad_samples_allowed * self.bad.seen):
            raise DataFault(
                f"{self.bad.count} of {self.bad.seen} samples cannot be read, more than /data/bad_samples_allowed = "
                f"{self._data.bad_samples_allowed}; the first: {self.bad.first}"
            )


def fitted(encoded: bytes, pixels: int) -> np.ndarray:
    """A picture's bytes → (pixels, pixels, 3) uint8: the centre square, resized with antialiasing where it is not that size already."""
    with Image.open(io.BytesIO(encoded)) as opened:
        picture = opened.convert("RGB")
    if picture.size != (pixels, pixels):
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        box = (left, top, left + side, top + side)
        picture = picture.resize((pixels, pixels), Image.Resampling.LANCZOS, box=box)
    return np.asarray(picture)


def check_columns(present: set[str], data: Data, url: str) -> None:
    """Raises DataFault when a column that the recipe names is not in the shards."""
    for at, name in [("/data/image_column", data.image_column)] + [
        (f"/data/captions/{i}/{field}", getattr(caption, field))
        for i, caption in enumerate(data.captions)
        for field in ("latent_column", "mask_column")
    ]:
        if name not in present:
            raise DataFault(f"{at}: {name!r} is not a column of {url}; it has {sorted(present)}")


def decoded_ahead(plans: Iterator[list[int]], load: Callable[[list[int]], Batch]) -> Iterator[Batch]:
    """What `load` makes of each plan, in order, made by a thread a few plans ahead; its errors are raised here."""
    ready: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=AHEAD)
    abandoned = threading.Event()

    def put(item: Batch | BaseException) -> bool:
        while not abandoned.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for positions in plans:
                if not put(load(positions)):
                    return
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="loader", daemon=True)
    thread.start()
    try:
        while True:
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        abandoned.set()
        thread.join(1.0)  # a thread inside torch while the interpreter ends would end it by an abort
