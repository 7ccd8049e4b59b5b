"""From shards to batches: which sample comes when, decoding ahead of the step, bad samples replaced and counted.

The order is one endless stream of positions. Position p holds sample `permutation(seed, epoch)[p mod n]`, so what a step sees follows
from its first position alone: no state to save, and the same stream whatever the number of ranks. It knows no process group.
"""

import io
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dayrun.recipe import Data, Recipe
from trainer.data.shards import BadSample, ShardError, ShardSet
from trainer.data.shelves import folder_of
from trainer.faults import DataFault
from trainer.flow import mix, split_mix

AHEAD = 4
"""Micro-batches decoded before they are asked for."""
SUBSTITUTES = 20
"""Tries to replace a bad sample before the data count as unusable."""


@dataclass(frozen=True)
class Batch:
    positions: list[int]  # (n,) places in the run's order; they seed every draw
    images: Tensor  # (n, 3, height, width) float32 in [−1, 1]
    text: Tensor  # (n, tokens, width) float32; no tokens where captions are encoded while training
    text_mask: Tensor  # (n, tokens) bool
    captions: list[str] = field(default_factory=list)  # only then


@dataclass
class BadSamples:
    """What could not be read, for events and for the limit."""

    seen: int = 0
    count: int = 0
    first: list[dict[str, Any]] | None = None


class Sample(NamedTuple):
    """One decoded sample."""

    picture: np.ndarray  # (height, width, 3) uint8
    text: np.ndarray  # (tokens, width)
    mask: np.ndarray  # (tokens,)
    caption: str  # empty where the shards have none


def held_out(samples: int, share: float) -> np.ndarray:
    """Which of `samples` samples are kept from training, (samples,) bool: about `share` of them, at least one, by a hash of their number.

    The hash knows neither seed nor size of the set: runs with other seeds, and sets that have grown, hold the same ones out.
    """
    numbers = np.arange(1, samples + 1, dtype=np.uint64)
    hashed = split_mix(numbers * np.uint64(0x9E3779B97F4A7C15))
    held = hashed < np.uint64(int(share * 2**64) & (2**64 - 1))
    if not held.any():
        held[np.argmin(hashed)] = True
    return held


class Order:
    """The endless stream of positions over the samples that are trained on: all of `samples`, or those that `kept` names."""

    def __init__(self, samples: int, seed: int, kept: np.ndarray | None = None) -> None:
        self._kept = kept
        self.samples = samples if kept is None else len(kept)
        samples = self.samples
        # two epochs meet in one batch, and threads look ahead: keep a few permutations, not all
        self._permutation: Callable[[int], np.ndarray] = lru_cache(maxsize=4)(
            lambda epoch: np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(samples)
        )

    def sample_at(self, position: int) -> int:
        return self.trained(int(self._permutation(position // self.samples)[position % self.samples]))

    def trained(self, which: int) -> int:
        """The number in the data set of the `which`-th sample that is trained on."""
        return which if self._kept is None else int(self._kept[which])


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
            check_columns(set(shards.columns), self._data, recipe.text.precomputed, source.url)
        held = self._held_out()
        self.held_out: list[int] = np.flatnonzero(held).tolist() if held is not None else []
        """Numbers of the samples that are not trained on, since the run is measured by them."""
        self.order = Order(int(self._ends[-1]), recipe.seed, None if held is None else np.flatnonzero(~held))
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

    def _held_out(self) -> np.ndarray | None:
        evaluation, samples = self._recipe.evaluation, len(self)
        if evaluation is None or evaluation.reference is not None:
            return None
        held = held_out(samples, evaluation.held_out)
        if held.all():
            because = f"it keeps all {samples} samples from training; a smaller share, or an /evaluation/reference, leaves some"
            raise DataFault(f"/evaluation/held_out: {evaluation.held_out}: {because}")
        return held

    def __len__(self) -> int:
        """Samples of all sources, held out or not."""
        return int(self._ends[-1])

    def load(self, positions: list[int]) -> Batch:
        """Decode the samples at `positions`. Raises DataFault when too many cannot be read."""
        return batch_of(positions, [self._readable(position) for position in positions])

    def _readable(self, position: int) -> Sample:
        """The sample at `position`, or a seeded substitute when it is bad: the same on every rank and in every attempt."""
        index = self.order.sample_at(position)
        with self._lock:
            self.bad.seen += 1
        for attempt in range(SUBSTITUTES):
            try:
                return self.decode(index, position)
            except BadSample as error:
                self._count_bad(error)
                index = self.order.trained(mix(self._recipe.seed + attempt + 1, position) % self.order.samples)
        raise DataFault(f"{SUBSTITUTES} samples in a row cannot be read; the first bad ones: {self.bad.first}")

    def decode(self, index: int, position: int) -> Sample:
        """Sample `index` of the data as it is seen at `position`, which chooses caption and flip. Raises BadSample."""
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
        if flip:
            picture = picture[:, ::-1]
        if not self._recipe.text.precomputed:
            return Sample(picture, np.zeros((0, 0)), np.zeros(0), str(sample[caption.column]))
        text = np.asarray(sample[caption.latent_column or ""])
        mask = np.asarray(sample[caption.mask_column or ""])
        wanted = (self._recipe.text.tokens, self._recipe.model.text_width)
        if text.shape != wanted:
            raise DataFault(
                f"/text: column {caption.latent_column!r} of {self._data.sources[which].url} holds states of shape {text.shape}, "
                f"the recipe says tokens × text_width = {wanted}; set /text/tokens and /model/text_width to {list(text.shape)}"
            )
        return Sample(picture, text, mask, str(sample.get(caption.column, "")))

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


def batch_of(positions: list[int], samples: list[Sample]) -> Batch:
    pictures, texts, masks, captions = zip(*samples, strict=True)
    images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
    text, mask = torch.from_numpy(np.stack(texts)).float(), torch.from_numpy(np.stack(masks)).bool()
    return Batch(positions, images.contiguous(), text, mask, list(captions))


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


def check_columns(present: set[str], data: Data, precomputed: bool, url: str) -> None:
    """Raises DataFault when a column that the recipe names, and that is needed, is not in the shards."""
    for at, name in [("/data/image_column", data.image_column)] + [
        (f"/data/captions/{i}/{column}", getattr(caption, column))
        for i, caption in enumerate(data.captions)
        for column in (("latent_column", "mask_column") if precomputed else ("column",))
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
