"""From shards to batches: decoding ahead of the step by threads, bad samples replaced, counted and listed.

What a step sees follows from its first position alone (`order.py`): no state to save, and the same stream whatever the number of ranks.
There is no process but this one, and no process group.
"""

import bisect
import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dayrun.recipe import Data, Recipe
from trainer.data.buckets import Size
from trainer.data.errors import BadSample
from trainer.data.order import Order, share_of
from trainer.data.pictures import PictureError, fitted
from trainer.data.sets import Samples, Stretch, check_room
from trainer.faults import DataFault
from trainer.flow import mix, split_mix

AHEAD = 4
"""Micro-batches decoded before they are asked for."""
SUBSTITUTES = 20
"""Tries to replace a bad sample before the data count as unusable."""
FIRST = 10
"""Bad samples that are named in an error."""


@dataclass(frozen=True)
class Batch:
    positions: list[int]  # (n,) places in the run's order; they seed every draw
    pixels: Tensor  # (n, height, width, 3) uint8
    text: Tensor  # (n, tokens, width) float32; no tokens where captions are encoded while training
    text_mask: Tensor  # (n, tokens) bool
    captions: list[str] = field(default_factory=list)

    @property
    def images(self) -> Tensor:
        """(n, 3, height, width) float32 in [−1, 1]."""
        return self.images_on(self.pixels.device)

    def images_on(self, device: torch.device) -> Tensor:
        """`images` on a device: a quarter of the bytes travel, and nothing waits for them when they lie in pinned memory."""
        seen = self.pixels.to(device, non_blocking=True).permute(0, 3, 1, 2)
        return seen.float().div_(127.5).sub_(1.0).contiguous()


@dataclass
class BadSamples:
    """What could not be read, for events and for the limit."""

    seen: int = 0
    count: int = 0
    first: list[dict[str, Any]] | None = None
    untold: deque[dict[str, Any]] = field(default_factory=deque)
    """Position, sample, file, offset, because, and the sample that stood in: of each bad one that no event has told of yet."""


class Sample(NamedTuple):
    """One decoded sample."""

    picture: np.ndarray  # (height, width, 3) uint8
    text: np.ndarray  # (tokens, width)
    mask: np.ndarray  # (tokens,)
    caption: str  # empty where the shards have none


class Planned(NamedTuple):
    """A micro-batch of one rank, of which nothing is decoded yet."""

    positions: list[int]
    numbers: list[int]
    size: Size


class Loader:
    """The batches of one rank in one stage. Raises before the first step: DataFault when the data cannot be used,
    RecipeErrors when their cache is too small, StoreError when their store does not answer.

    batch_size: of the stage, over all ranks. pin: hand batches over in pinned memory.
    """

    def __init__(
        self,
        recipe: Recipe,
        pixels: int,
        on_bad: Callable[[BadSamples], None] | None = None,
        batch_size: int = 1,
        pin: bool = False,
    ) -> None:
        self._recipe, self._data, self._pixels, self._pin = recipe, recipe.data, pixels, pin
        self._columns = columns_read(recipe)
        self.samples = Samples(recipe.data)
        check_room(self.samples, recipe)
        for stretch in self.samples.stretches:
            check_columns(set(stretch.shards.columns), self._data, recipe.text.precomputed, stretch.shards.shelf.url)
        held = self._held_out()
        self.held_out: list[int] = np.flatnonzero(held).tolist() if held is not None else []
        """Numbers of the samples that are not trained on, since the run is measured by them."""
        self._members = self.samples.members(recipe, pixels, None if held is None else ~held)
        self.order = Order(self._members, recipe.seed, batch_size, recipe.data.shuffle_block)
        weights = np.array([caption.weight for caption in self._data.captions])
        self._likely: list[float] = (weights.cumsum()[:-1] / weights.sum()).tolist()
        """Up to each kind of caption but the last, how likely it or one before it is."""
        self._phase = 0
        self.bad = BadSamples(first=[])
        self._on_bad = on_bad or (lambda _: None)
        self._lock = threading.Lock()

    def batches(self, first_position: int, batch_size: int, micro_batch: int, rank: int, world_size: int) -> Iterator[Batch]:
        """Endless micro-batches of `rank` from `first_position` on; a step is batch_size / world_size / micro_batch of them."""
        if batch_size != self.order.batch_size:
            self.order = Order(self._members, self._recipe.seed, batch_size, self._recipe.data.shuffle_block)
        self._phase = first_position % batch_size
        for stretch in self.samples.stretches:
            span = min(1.0, self._data.shuffle_block / self.order.samples)
            stretch.shards.will_need(self._needed(stretch, first_position, rank, world_size), span)
        return self._decoded(self._plan(first_position, micro_batch, rank, world_size))

    def heaviest(self, images: int) -> Batch:
        """So many samples of the shape with the most pixels: what a step can take at most."""
        size = max((group.size for group in self.order.groups), key=lambda size: size.width * size.height)
        group = next(group for group in self.order.groups if group.size == size)
        return self._batch(Planned(list(range(images)), group.at(0, images).tolist(), size))

    def sample_at(self, position: int) -> int:
        """The number of the sample at `position`, in the batches that were asked for last."""
        return self.order.sample_at(position, self._phase)

    def __len__(self) -> int:
        """Samples of all sources, held out or not."""
        return len(self.samples)

    def decode(self, number: int, position: int, size: Size | None = None, into: np.ndarray | None = None) -> Sample:
        """Sample `number` as it is seen at `position`, which chooses caption and flip; cut to a square by default. Raises BadSample.

        into: where the picture is put, (height, width, 3) uint8; None: in memory of its own.
        """
        stretch, local = self.samples.place(number)
        sample = stretch.shards.read(local, self._columns)
        chosen, mirrored = chances(self._recipe.seed, position)
        caption = self._data.captions[bisect.bisect_right(self._likely, chosen)]
        flip = mirrored < self._data.horizontal_flip
        size = size or Size(self._pixels, self._pixels)
        into = np.empty((size.height, size.width, 3), np.uint8) if into is None else into
        try:
            put(fitted(sample[self._data.image_column], size, None if flip else into), into, flip)
        except PictureError as error:
            raise self.samples.bad(number, f"column {self._data.image_column!r} is no picture: it {error}") from error
        words = sample.get(caption.column, "")
        if not isinstance(words, str):
            raise self.samples.bad(number, f"column {caption.column!r} is no caption: {type(words).__name__} {words!r:.60}")
        if not self._recipe.text.precomputed:
            return Sample(into, np.zeros((0, 0)), np.zeros(0), words)
        text = np.asarray(sample[caption.latent_column or ""])
        mask = np.asarray(sample[caption.mask_column or ""])
        wanted = (self._recipe.text.tokens, self._recipe.model.text_width)
        if text.shape != wanted:
            raise DataFault(
                f"/text: column {caption.latent_column!r} of {self._data.sources[stretch.source].url} holds states of shape {text.shape}, "
                f"the recipe says tokens × text_width = {wanted}; set /text/tokens and /model/text_width to {list(text.shape)}"
            )
        return Sample(into, text, mask, words)

    def _held_out(self) -> np.ndarray | None:
        evaluation, samples = self._recipe.evaluation, len(self)
        if evaluation is None or evaluation.reference is not None:
            return None
        held = self.samples.held_out(evaluation.held_out)
        if held.all():
            because = f"it keeps all {samples} samples from training; a smaller share, or an /evaluation/reference, leaves some"
            raise DataFault(f"/evaluation/held_out: {evaluation.held_out}: {because}")
        return held

    def _plan(self, first_position: int, micro_batch: int, rank: int, world_size: int) -> Iterator[Planned]:
        order, start = self.order, first_position
        while True:
            drawn = order.batch(start)
            mine = share_of(drawn.numbers, rank, world_size, order.in_blocks)
            for offset in range(0, len(mine), micro_batch):
                some = mine[offset : offset + micro_batch]
                yield Planned((start + some).tolist(), drawn.numbers[some].tolist(), drawn.size)
            start += order.batch_size

    def _needed(self, stretch: Stretch, position: int, rank: int, world_size: int) -> Iterator[tuple[int, np.ndarray]]:
        """What this rank will read of one set: for each batch the epoch and the samples by the set's own numbers; endless."""
        order, last = self.order, stretch.first + len(stretch.shards)
        whose = next((group for group in order.groups if group.has_some(stretch.first, last)), None)
        while whose is not None:
            group, place = order.place(position)
            if group is whose:
                numbers = order.batch(position).numbers
                mine = numbers[share_of(numbers, rank, world_size, order.in_blocks)]
                yield place // len(group), mine[(mine >= stretch.first) & (mine < last)] - stretch.first
            position += order.batch_size

    def _decoded(self, plans: Iterator[Planned]) -> Iterator[Batch]:
        """What each plan becomes, in order, decoded some ahead by as many threads as the recipe says; their errors are raised here."""
        pool = ThreadPoolExecutor(self._data.threads, "loader")
        ahead: deque[Underway] = deque()
        try:
            while True:
                while len(ahead) < AHEAD:
                    ahead.append(self._begun(next(plans), pool))
                yield ahead.popleft().batch()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)  # a thread inside torch while the interpreter ends would end it by an abort

    def _begun(self, plan: Planned, pool: ThreadPoolExecutor) -> "Underway":
        pixels = room_for(len(plan.positions), plan.size, self._pin)
        slots = pixels.numpy()

        def read(some: range) -> list[Sample]:
            return [self._readable(plan.positions[i], plan.numbers[i], plan.size, slots[i]) for i in some]

        count = len(plan.positions)
        share = math.ceil(count / self._data.threads)  # one task a thread, not a picture: handing over costs a tenth of decoding
        return Underway(plan, pixels, [pool.submit(read, range(i, min(i + share, count))) for i in range(0, count, share)])

    def _batch(self, plan: Planned) -> Batch:
        return batch_of(plan.positions, [self._readable(p, n, plan.size) for p, n in zip(plan.positions, plan.numbers, strict=True)])

    def _readable(self, position: int, number: int, size: Size, into: np.ndarray | None = None) -> Sample:
        """Sample `number` at `position`, or a seeded substitute when it is bad: the same on every rank and in every attempt."""
        with self._lock:
            self.bad.seen += 1
        bad: list[tuple[int, BadSample]] = []
        for attempt in range(SUBSTITUTES):
            try:
                sample = self.decode(number, position, size, into)
            except BadSample as error:
                bad.append((number, error))
                self._count_bad(error)
                number = self.order.instead(position, self._phase, attempt)
            else:
                if bad:
                    self._list_bad(position, bad, number)
                return sample
        raise DataFault(f"{SUBSTITUTES} samples in a row cannot be read; the first bad ones: {self.bad.first}")

    def _count_bad(self, error: BadSample) -> None:
        with self._lock:
            self.bad.count += 1
            assert self.bad.first is not None
            if len(self.bad.first) < FIRST:
                self.bad.first.append(told_of(error))
            # 1 % of nothing is nothing: a single bad sample among the first few must not end a run
            too_many = self.bad.count > max(10, self._data.bad_samples_allowed * self.bad.seen)
        if too_many:
            self._on_bad(self.bad)
            raise DataFault(
                f"{self.bad.count} of {self.bad.seen} samples cannot be read, more than /data/bad_samples_allowed = "
                f"{self._data.bad_samples_allowed}; the first: {self.bad.first}"
            )

    def _list_bad(self, position: int, bad: list[tuple[int, BadSample]], instead: int) -> None:
        with self._lock:
            self.bad.untold += [{"position": position, "number": number, "instead": instead, **told_of(error)} for number, error in bad]
        self._on_bad(self.bad)


class Underway(NamedTuple):
    """A micro-batch that is being decoded."""

    plan: Planned
    pixels: Tensor
    shares: list["Future[list[Sample]]"]

    def batch(self) -> Batch:
        """Waits for it. Raises what the first sample's reader raised."""
        samples = [sample for share in self.shares for sample in share.result()]
        text, mask = states_of(samples)
        return Batch(self.plan.positions, self.pixels, text, mask, [sample.caption for sample in samples])


def chances(seed: int, position: int) -> tuple[float, float]:
    """Two numbers from [0, 1), independent of each other and of the step's draws."""
    bits = split_mix(mix(seed, position))
    return (bits >> 32) / 2**32, (bits & 0xFFFFFFFF) / 2**32


def room_for(images: int, size: Size, pin: bool) -> Tensor:
    """(images, height, width, 3) uint8, of no value yet."""
    shape = (images, size.height, size.width, 3)
    if pin:
        return torch.empty(shape, dtype=torch.uint8, pin_memory=True)
    return torch.from_numpy(np.empty(shape, np.uint8))  # numpy asks for huge pages: writing to torch's costs six times as much


def put(picture: np.ndarray, into: np.ndarray, flip: bool) -> None:
    """`picture` into memory of its size, unless it is there already; `flip`: mirrored."""
    if flip:
        for ink in range(3):  # a seventh of what numpy takes for the three at once
            into[..., ink] = picture[:, ::-1, ink]
    elif not np.shares_memory(picture, into):
        into[...] = picture


def batch_of(positions: list[int], samples: list[Sample]) -> Batch:
    """Samples of one size."""
    pixels = torch.from_numpy(np.stack([sample.picture for sample in samples]))
    return Batch(positions, pixels, *states_of(samples), [sample.caption for sample in samples])


def states_of(samples: list[Sample]) -> tuple[Tensor, Tensor]:
    text = torch.from_numpy(np.stack([sample.text for sample in samples])).float()
    return text, torch.from_numpy(np.stack([sample.mask for sample in samples])).bool()


def columns_read(recipe: Recipe) -> list[str]:
    """What a sample is read for."""
    captions = recipe.data.captions
    kinds = [[c.column for c in captions]]
    if recipe.text.precomputed:
        kinds += [[c.latent_column or "" for c in captions], [c.mask_column or "" for c in captions]]
    return [recipe.data.image_column, *(name for names in kinds for name in names)]


def told_of(error: BadSample) -> dict[str, Any]:
    return {"file": error.file, "offset": error.offset, "sample": error.sample, "because": error.because}


def check_columns(present: set[str], data: Data, precomputed: bool, url: str) -> None:
    """Raises DataFault when a column that the recipe names, and that is needed, is not in the shards."""
    for at, name in [("/data/image_column", data.image_column)] + [
        (f"/data/captions/{i}/{column}", getattr(caption, column))
        for i, caption in enumerate(data.captions)
        for column in (("latent_column", "mask_column") if precomputed else ("column",))
    ]:
        if name not in present:
            raise DataFault(f"{at}: {name!r} is not a column of {url}; it has {sorted(present)}")
