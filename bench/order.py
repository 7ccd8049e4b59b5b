"""The order of samples on a cluster, simulated: 32 ranks on 4 nodes over 12 epochs of the reference's 8.7 million images.

How well an epoch is shuffled in blocks, what each node downloads with a cache of some size (least recently used goes first), and what ranks
gain by keeping to neighbouring shards. There are a twentieth of the samples, a twentieth in a shard and in a block: as many of both as in
truth. No picture is read. How many images a bucket has is assumed: half are square, and fewer the further a ratio is from 1.
"""

import argparse
import sys
import time
from collections import OrderedDict
from fractions import Fraction
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dayrun.recipe import Data, Source
from trainer.data.buckets import Size, buckets
from trainer.data.order import Members, Order, share_of

IMAGES, BYTES_AN_IMAGE, SCALE = 8_700_000, 200_000, 20
SHARD = 2**26 // BYTES_AN_IMAGE
RANKS, NODES, BATCH, EPOCHS = 32, 4, 1024, 12
BLOCK = Data(sources=[Source(url="x")]).shuffle_block
CACHES = (0.05, 0.1, 0.3, 1.0)
"""Parts of the data set that a node's cache holds."""


def sets(images: int, shard: int) -> list[Members]:
    """A bucketed data set."""
    sizes = buckets(1024, 32)
    falling = np.array([0.75 ** abs(i - len(sizes) // 2) for i in range(len(sizes))])
    falling[len(sizes) // 2] = 0
    parts = 0.5 * falling / falling.sum()
    parts[len(sizes) // 2] = 0.5
    found, first = [], 0
    for size, part in zip(sizes, parts, strict=True):
        numbers = np.arange(first, first + round(images * part))
        found.append(Members(size, Fraction(1), numbers, numbers[::shard]))
        first += len(numbers)
    return found


class Recent:
    """A cache of shards that forgets what was not used for longest."""

    def __init__(self, shards: int) -> None:
        self._shards, self._held = shards, OrderedDict[int, None]()
        self.asked = self.missed = 0

    def use(self, shards: list[int]) -> None:
        for shard in shards:
            self.asked += 1
            if shard in self._held:
                self._held.move_to_end(shard)
                continue
            self.missed += 1
            self._held[shard] = None
            if len(self._held) > self._shards:
                self._held.popitem(last=False)


def simulated(
    order: Order, shard_of: np.ndarray, shards: int, epochs: int, by_shard: bool
) -> tuple[dict[float, list[Recent]], list[float]]:
    """Every node's caches by size after `epochs`, and the number of different shards in each batch."""
    caches = {part: [Recent(max(1, round(part * shards))) for _ in range(NODES)] for part in CACHES}
    distinct: list[float] = []
    for k in range(epochs * order.samples // BATCH):
        numbers = order.batch(k * BATCH).numbers
        distinct.append(len(np.unique(shard_of[numbers])))
        for node in range(NODES):
            needed = np.unique(shard_of[numbers[share_of(numbers, node, NODES, by_shard)]]).tolist()
            for each in caches.values():
                each[node].use(needed)
    return caches, distinct


def shuffle_quality(order: Order, size: Size) -> tuple[float, float]:
    """Of the largest shape: how far two samples that follow each other lie apart, over what chance would give; and the correlation of a
    sample's place in one epoch with that in the next (0: none)."""
    group = next(group for group in order.groups if group.size == size)
    n = len(group)
    first, second = group.at(0, n), group.at(n, n)
    apart = float(np.abs(np.diff(first)).mean() / (n / 3))
    places = [np.argsort(epoch) for epoch in (first, second)]
    return apart, float(np.corrcoef(*places)[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=int, default=SCALE, help="samples are a so-manieth of the reference's (default %(default)s)")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    options = parser.parse_args()
    shard, images, block = max(1, SHARD // options.scale), IMAGES // options.scale, BLOCK // options.scale
    members = sets(images, shard)
    starts = np.concatenate([member.shards for member in members])
    shard_of = np.searchsorted(starts, np.arange(sum(len(member.numbers) for member in members)), side="right") - 1
    square = max(members, key=lambda member: len(member.numbers)).size
    gigabytes = IMAGES * BYTES_AN_IMAGE / 1e9
    print(f"{images:,} samples for {IMAGES:,}, {len(starts):,} shards, {len(members)} buckets, batch {BATCH}, {options.epochs} epochs")

    for name, size in (("as one", images), ("in blocks", block)):
        begun = time.perf_counter()
        order = Order(members, 0, BATCH, size)
        order.batch(0)
        first = time.perf_counter() - begun
        begun = time.perf_counter()
        for k in range(1, 201):
            order.batch(k * BATCH)
        each = (time.perf_counter() - begun) / 200
        apart, same = shuffle_quality(order, square)
        print(f"\nshuffled {name} ({min(size, images):,} samples): first batch {first * 1e3:.0f} ms, then {each * 1e3:.2f} ms each")
        print(f"  neighbours lie {apart:.3f} of what chance gives apart; places in two epochs correlate by {same:+.4f}")
        counts = [order.batch_counts(epoch) for epoch in range(options.epochs)]
        spread = max(max(c[s] for c in counts) - min(c[s] for c in counts) for s in counts[0])
        few, many = min(counts[0].values()), max(counts[0].values())
        print(f"  batches of a bucket an epoch: {few} to {many}; from epoch to epoch they differ by {spread} at most")
        for by_shard in (False, True):
            caches, distinct = simulated(order, shard_of, len(starts), options.epochs, by_shard)
            print(f"  ranks {'keep to neighbouring shards' if by_shard else 'take what comes'}; {np.mean(distinct):.0f} shards a batch")
            for part, nodes in caches.items():
                down = np.mean([node.missed for node in nodes]) / len(starts) / options.epochs
                hits = 1 - sum(node.missed for node in nodes) / sum(node.asked for node in nodes)
                size = f"{part:4.0%} ({part * gigabytes:5.0f} GB)"
                print(f"    cache {size}: a node downloads {down:5.2f} × the data an epoch ({down * gigabytes:7.0f} GB), {hits:.1%} hits")


if __name__ == "__main__":
    main()
