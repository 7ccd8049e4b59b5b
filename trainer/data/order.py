"""Which sample comes when: one endless stream of positions, a function of (seed, data) and of the stage's batch alone.

It knows no files. A step's batch starts at a position and is of one shape; which samples it holds follows from that position by arithmetic
and a few permutations that are made again when they are needed: there is no state to save and nothing to replay on a resume.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from trainer.data.buckets import Size, nearest
from trainer.flow import mix, split_mix

BATCHES, SAMPLES = 1, 2
"""Salts: what is drawn, beside the seed."""
MIXED = 2**16
"""Samples over which sources of unequal weights are mixed exactly; more would only cost memory."""
AT_HAND = 4
"""Permutations that are kept: two epochs or blocks meet in a batch, and threads look ahead."""


def permuted(seed: int, epoch: int, count: int) -> np.ndarray:
    """A permutation of `count` numbers, (count,) int64."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)


class Mixture:
    """An endless sequence of choices among some kinds, kind i `rates[i]` times an epoch: exactly that many on the whole, at random places.

    By the end of epoch e, counted from 1, kind i has come ⌊e·rate⌋ times: rates need not be whole, and nothing is rounded away.
    """

    def __init__(self, rates: Sequence[Fraction], seed: int) -> None:
        scale = max(1, -(-1 // sum(rates)))  # an epoch has a choice at least
        self._rates = [rate * scale for rate in rates]
        self._seed = seed
        self._recent = (0, 0, 0)  # first choice, last + 1, epoch: one tuple, so that threads see it whole
        self._epoch: Callable[[int], tuple[np.ndarray, np.ndarray]] = lru_cache(maxsize=AT_HAND)(self._drawn)

    def before(self, epoch: int) -> list[int]:
        """How often each kind comes before `epoch`."""
        return [epoch * rate.numerator // rate.denominator for rate in self._rates]

    def at(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The kinds of the choices first, …, first + count − 1, and how often each of them came before: (count,) int64 twice."""
        if len(self._rates) == 1:
            return np.zeros(count, np.int64), np.arange(first, first + count)
        kinds, turns, epoch = [], [], self._epoch_of(first)
        while count:
            begins = self.before(epoch)
            offset = first - sum(begins)
            kind, turn = (part[offset : offset + count] for part in self._epoch(epoch))
            kinds.append(kind)
            turns.append(turn + np.array(begins)[kind])
            first, count, epoch = first + len(kind), count - len(kind), epoch + 1
        return np.concatenate(kinds), np.concatenate(turns)

    def _epoch_of(self, index: int) -> int:
        """The epoch of choice `index`: the last one that begins at or before it."""
        if self._recent[0] <= index < self._recent[1]:
            return self._recent[2]
        low, high = 0, int((index + len(self._rates)) / sum(self._rates)) + 1  # an epoch's beginning is late by one for each kind at most
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if sum(self.before(middle)) <= index else (low, middle - 1)
        self._recent = sum(self.before(low)), sum(self.before(low + 1)), low
        return low

    def _drawn(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        counts = np.array(self.before(epoch + 1)) - np.array(self.before(epoch))
        drawn = permuted(self._seed, epoch, int(counts.sum()))
        starts = np.cumsum(counts) - counts
        kinds = np.repeat(np.arange(len(counts)), counts)[drawn]
        turns = np.empty(len(drawn), np.int64)
        turns[np.argsort(kinds, kind="stable")] = np.arange(len(drawn))
        return kinds, turns - starts[kinds]


class Pool:
    """Samples that come equally often: each once an epoch, in an order of its own in each.

    numbers: of the samples, ascending. shards: the first number of every shard, ascending. With more than `block` samples the shards are
    shuffled, and samples within blocks of that many: a block's shards are all that is needed at a time. With no more, all are permuted.
    """

    def __init__(self, numbers: np.ndarray, shards: np.ndarray, seed: int, block: int) -> None:
        self.numbers, self._seed, self._block = numbers, seed, min(block, len(numbers))
        self.in_blocks = block < len(numbers)
        bounds = np.append(np.unique(np.searchsorted(numbers, shards)), len(numbers)) if len(numbers) else np.zeros(1, np.int64)
        self._starts = np.unique(np.append(0, bounds))[:-1]
        self._lengths = np.diff(np.append(self._starts, len(numbers)))
        self._layout: Callable[[int], tuple[np.ndarray, np.ndarray]] = lru_cache(maxsize=AT_HAND)(self._laid_out)
        self._within: Callable[[int, int], np.ndarray] = lru_cache(maxsize=AT_HAND)(self._permuted_within)

    def __len__(self) -> int:
        return len(self.numbers)

    def at(self, places: np.ndarray) -> np.ndarray:
        """The samples' numbers at `places` of the pool's endless order."""
        found = np.empty(len(places), np.int64)
        blocks = -(-len(self) // self._block)
        epochs, insides = np.divmod(places, len(self))
        which = epochs * blocks + insides // self._block
        for key in np.unique(which):
            epoch, block = divmod(int(key), blocks)
            here = which == key
            found[here] = self._laid(epoch, block * self._block + self._within(epoch, block)[insides[here] - block * self._block])
        return found

    def instead(self, place: int, chance: int) -> int:
        """A sample for that at `place`, out of the same block and so out of shards that are needed anyway; `chance`: any number."""
        epoch, inside = divmod(place, len(self))
        first = inside // self._block * self._block
        return int(self._laid(epoch, np.array([first + chance % min(self._block, len(self) - first)]))[0])

    def _laid(self, epoch: int, insides: np.ndarray) -> np.ndarray:
        """The numbers at places of the epoch before samples are permuted within blocks."""
        if not self.in_blocks:
            return self.numbers[insides]
        shards, ends = self._layout(epoch)
        which = np.searchsorted(ends, insides, side="right")
        shard = shards[which]
        return self.numbers[self._starts[shard] + insides - (ends[which] - self._lengths[shard])]

    def _laid_out(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        shards = permuted(mix(self._seed, SAMPLES), epoch, len(self._starts))
        return shards, np.cumsum(self._lengths[shards])

    def _permuted_within(self, epoch: int, block: int) -> np.ndarray:
        if not self.in_blocks:
            return permuted(self._seed, epoch, len(self))
        return permuted(mix(self._seed, block), epoch, min(self._block, len(self) - block * self._block))


class Members(NamedTuple):
    """The samples of one set of shards that are trained on."""

    size: Size
    """What they are trained at."""
    weight: Fraction
    """How often one of them is drawn, relative to one of another set."""
    numbers: np.ndarray
    """Of the samples, (n,) int64 ascending; no two sets share one."""
    shards: np.ndarray
    """The first number of each shard, (shards,) int64 ascending."""


class Group:
    """All samples of one shape, in one endless order."""

    def __init__(self, size: Size, members: list[Members], seed: int, share: Fraction) -> None:
        """share: of each weight's samples in a block, as a part of them all: blocks of all groups together have the recipe's size."""
        self.size = size
        self.weights = sorted({member.weight for member in members}, reverse=True)
        self.pools: list[Pool] = []
        for i, weight in enumerate(self.weights):
            same = [member for member in members if member.weight == weight]
            numbers = np.concatenate([member.numbers for member in same])
            block = max(1, int(share * len(numbers)))
            shards = np.concatenate([member.shards for member in same])
            self.pools.append(Pool(numbers, shards, seed if i == 0 else mix(seed, i), block))
        self.rates = [weight * len(pool) for weight, pool in zip(self.weights, self.pools, strict=True)]
        some = min(len(self), MIXED)
        self._mixture = Mixture([some * rate / sum(self.rates) for rate in self.rates], mix(seed, SAMPLES))

    def __len__(self) -> int:
        return sum(map(len, self.pools))

    def has_some(self, first: int, last: int) -> bool:
        """Whether a sample is among the numbers first, …, last − 1."""
        return any(np.searchsorted(pool.numbers, first) < np.searchsorted(pool.numbers, last) for pool in self.pools)

    def at(self, first: int, count: int) -> np.ndarray:
        """The numbers of the samples at `count` places of the group's order from `first` on."""
        kinds, turns = self._mixture.at(first, count)
        found = np.empty(count, np.int64)
        for kind, pool in enumerate(self.pools):
            if (here := kinds == kind).any():
                found[here] = pool.at(turns[here])
        return found

    def instead(self, place: int, chance: int) -> int:
        kinds, turns = self._mixture.at(place, 1)
        return self.pools[int(kinds[0])].instead(int(turns[0]), chance)


class Drawn(NamedTuple):
    """One step's batch."""

    size: Size
    numbers: np.ndarray
    """Of the samples at its positions, in their order, (batch,) int64."""


class Order:
    """The batches of one stage. Every batch is of one shape; a shape comes as often as its samples and their weights ask for.

    A shape with fewer samples than a batch joins the one nearest to its ratio. block: samples among which an epoch is shuffled at a time,
    over all shapes. Raises ValueError when there are no samples.
    """

    def __init__(self, members: Sequence[Members], seed: int, batch_size: int, block: int) -> None:
        members = [member for member in members if len(member.numbers)]
        self.samples = sum(len(member.numbers) for member in members)
        if not self.samples:
            raise ValueError("there is no sample to train on")
        self._seed, self.batch_size = seed, batch_size
        shapes, self.joined = together(members, batch_size)
        share = Fraction(block, self.samples)
        # one shape alone has the run's own seed: what there was before there were shapes comes in the order that it had
        seeds = [seed] if len(shapes) == 1 else [mix(mix(seed, size.width), size.height) for size in shapes]
        self.groups = [Group(size, some, own, share) for (size, some), own in zip(shapes.items(), seeds, strict=True)]
        weighted = [sum(group.rates) for group in self.groups]
        self.rates = [self.samples * rate / sum(weighted) for rate in weighted]
        """Samples of each group in an epoch: as many in all as there are."""
        self._mixture = Mixture([rate / batch_size for rate in self.rates], mix(seed, BATCHES))
        self.batch: Callable[[int], Drawn] = lru_cache(maxsize=2 * AT_HAND)(self._batch_at)
        """The batch at the positions first, …, first + batch_size − 1."""
        self.in_blocks = any(pool.in_blocks for group in self.groups for pool in group.pools)

    def _batch_at(self, first: int) -> Drawn:
        group, place = self.place(first)
        return Drawn(group.size, group.at(place, self.batch_size))

    def sample_at(self, position: int, phase: int = 0) -> int:
        """The number of the sample at `position`. phase: what positions at which batches start leave when divided by the batch size."""
        group, place = self.place((position - phase) // self.batch_size * self.batch_size + phase)
        return int(group.at(place + (position - phase) % self.batch_size, 1)[0])

    def instead(self, position: int, phase: int, attempt: int) -> int:
        """A sample for one at `position` that cannot be read: of the same shape, the same on every rank and in every attempt of the run.

        attempt: how many substitutes could not be read either.
        """
        group, place = self.place((position - phase) // self.batch_size * self.batch_size + phase)
        return group.instead(place + (position - phase) % self.batch_size, mix(self._seed + attempt + 1, position))

    def batch_counts(self, epoch: int) -> dict[Size, int]:
        """How many batches of each shape an epoch has."""
        before, after = self._mixture.before(epoch), self._mixture.before(epoch + 1)
        return {group.size: b - a for group, a, b in zip(self.groups, before, after, strict=True)}

    def place(self, first: int) -> tuple[Group, int]:
        """Whose batch starts at position `first`, and where in that group's order."""
        index, phase = divmod(first, self.batch_size)
        kinds, turns = self._mixture.at(index, 1)
        return self.groups[int(kinds[0])], int(turns[0]) * self.batch_size + phase


def together(members: Sequence[Members], batch_size: int) -> tuple[dict[Size, list[Members]], dict[Size, Size]]:
    """The sets by shape, in order of the shapes, those with fewer samples than a batch put to the shape nearest to theirs; and where to."""
    shapes: dict[Size, list[Members]] = {}
    for member in members:
        shapes.setdefault(member.size, []).append(member)
    joined: dict[Size, Size] = {}

    def count(size: Size) -> int:
        return sum(len(member.numbers) for member in shapes[size])

    while len(shapes) > 1:
        least = min(shapes, key=lambda size: (count(size), size))
        if count(least) >= batch_size:
            break
        to = nearest(*least, tuple(size for size in shapes if size != least))
        shapes[to] = shapes[to] + shapes.pop(least)
        joined = {size: to if there == least else there for size, there in joined.items()} | {least: to}
    return {size: sorted(shapes[size], key=first_number) for size in sorted(shapes)}, joined


def first_number(member: Members) -> int:
    return int(member.numbers[0])


def share_of(numbers: np.ndarray, rank: int, world_size: int, by_shard: bool) -> np.ndarray:
    """Which places of a batch are those of `rank`, ascending: (batch / world_size,) int64.

    by_shard: ranks, and so nodes, keep to samples with neighbouring numbers, so that each fetches a part of the shards and not all of them.
    The batch is the same; only who decodes what is not.
    """
    share = len(numbers) // world_size
    mine = slice(rank * share, (rank + 1) * share)
    if not by_shard:
        return np.arange(mine.start, mine.stop)
    return np.sort(np.argsort(numbers, kind="stable")[mine])


def held_out(samples: int, share: float, hashed: np.ndarray | None = None) -> np.ndarray:
    """Which of `samples` samples are kept from training, (samples,) bool: about `share` of them, at least one, by a hash of their number.

    The hash knows neither seed nor size of the set: runs with other seeds, and sets that have grown, hold the same ones out.
    """
    hashed = hashes(samples) if hashed is None else hashed
    held = hashed < np.uint64(int(share * 2**64) & (2**64 - 1))
    if not held.any():
        held[np.argmin(hashed)] = True
    return held


def hashes(samples: int, salt: int = 0) -> np.ndarray:
    """One hash for each number below `samples`, (samples,) uint64. salt: which set of shards it is, by its name."""
    numbers = np.arange(1, samples + 1, dtype=np.uint64)
    mixed: Any = split_mix(numbers * np.uint64(0x9E3779B97F4A7C15))
    return mixed if not salt else split_mix(mixed ^ np.uint64(salt))
