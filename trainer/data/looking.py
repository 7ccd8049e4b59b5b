"""What a data set holds, as values: from its indexes alone, from some of its samples, or from every byte. It prints nothing."""

import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainer.data.errors import BadSample
from trainer.data.folders import DATASET, folder_in, folders_of, told_by
from trainer.data.shards import ShardSet
from trainer.data.shelves import shelf, stored

IDENTIFIER = "id"
SHARDS = 16
"""Shards that samples are taken from: those of a store have to be fetched whole."""
SMALL = 128
"""Side of a picture on a contact sheet."""


@dataclass(frozen=True)
class Bucket:
    """One folder of shards, by its index."""

    name: str
    samples: int
    shards: int
    bytes: int
    stored_bytes: int  # less where they are compressed


@dataclass(frozen=True)
class Overview:
    """A data set by its indexes."""

    url: str
    columns: dict[str, str]
    compressions: list[str]
    hashes: list[str]
    buckets: list[Bucket]
    rejects: dict[str, int]  # of the conversion, by reason

    @property
    def samples(self) -> int:
        return sum(bucket.samples for bucket in self.buckets)

    @property
    def bytes(self) -> int:
        return sum(bucket.bytes for bucket in self.buckets)

    @property
    def stored_bytes(self) -> int:
        return sum(bucket.stored_bytes for bucket in self.buckets)


@dataclass(frozen=True)
class Numbers:
    """How a quantity is spread."""

    least: float
    median: float
    most_of_them: float  # 95 % are no more
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Numbers | None":
        if not values:
            return None
        return cls(*(float(value) for value in np.percentile(values, [0, 50, 95, 100])))


@dataclass
class Statistics:
    """What some samples of a data set are like."""

    url: str
    samples: int  # of all
    seen: int = 0
    captions: dict[str, Numbers | None] = field(default_factory=dict)  # column → words
    empty_captions: dict[str, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    widths: Numbers | None = None
    heights: Numbers | None = None
    picture_bytes: Numbers | None = None
    unusable: list[str] = field(default_factory=list)
    same_picture: list[list[str]] = field(default_factory=list)  # names of samples that share one, byte for byte
    same_id: list[str] = field(default_factory=list)


class Sets:
    """The folders of shards of the data set at `url`, by name of their bucket. Raises ShardError."""

    def __init__(self, url: str, cache: Path | None = None, limit: int | None = None) -> None:
        self.url, self._cache, self._limit = url.rstrip("/"), cache, limit
        self.told: dict[str, Any] = told_by(self.url) or {}
        self.by_bucket = {name: self._opened(name) for name in folders_of(self.url)}

    def _opened(self, name: str) -> ShardSet:
        return ShardSet(shelf(folder_in(self.url, name), self._cache, self._limit), keep=2)

    def __len__(self) -> int:
        return sum(len(shards) for shards in self.by_bucket.values())


def inspect(url: str) -> Overview:
    """Raises ShardError."""
    sets = Sets(url)
    entries = [entry for shards in sets.by_bucket.values() for entry in shards.entries]
    buckets = [
        Bucket(
            name,
            len(shards),
            len(shards.entries),
            sum(entry["raw_data"]["bytes"] for entry in shards.entries),
            sum(stored(entry)["bytes"] for entry in shards.entries),
        )
        for name, shards in sets.by_bucket.items()
    ]
    compressions = sorted({entry.get("compression") or "none" for entry in entries})
    hashes = sorted({name for entry in entries for name in entry["raw_data"].get("hashes") or {}})
    columns = next(iter(sets.by_bucket.values())).columns
    return Overview(sets.url, columns, compressions, hashes, buckets, sets.told.get("rejects", {}))


def verify(url: str, cache: Path, limit: int | None = None) -> Iterator[tuple[int, list[str]]]:
    """For each shard, as it is read: its bytes, and what is wrong with it. The indexes come first, with no bytes.

    cache: an empty folder, so that what is proven comes from where the data set lies. Raises ShardError when there is no data set.
    """
    sets = Sets(url, cache, limit)
    for name, shards in sets.by_bucket.items():
        wanted = sets.told.get("buckets", {}).get(name, {})
        place = shards.shelf.url
        if wanted.get("sha256", shards.digest) != shards.digest:
            yield 0, [f"{place}/index.json: sha256 is {shards.digest}, {DATASET} says {wanted['sha256']}"]
        if wanted.get("samples", len(shards)) != len(shards):
            yield 0, [f"{place}/index.json: names {len(shards)} samples, {DATASET} says {wanted['samples']}"]
        shards.shelf.will_need(shards.entries)
        first = 0
        for entry in shards.entries:
            trouble = shards.verify_shard(entry) or unreadable(shards, range(first, first + entry["samples"]))
            yield entry["raw_data"]["bytes"], trouble
            first += entry["samples"]


def unreadable(shards: ShardSet, numbers: Iterable[int]) -> list[str]:
    found: list[str] = []
    for number in numbers:
        try:
            shards[number]
        except BadSample as error:
            found.append(str(error))
    return found


def chosen(sets: Sets, most: int | None) -> Iterator[tuple[str, int]]:
    """(bucket, number in it) of at most `most` samples, from few shards and yet from everywhere; None: of all."""
    entries = [
        (name, int(shards.ends[i]) - entry["samples"], entry["samples"])
        for name, shards in sets.by_bucket.items()
        for i, entry in enumerate(shards.entries)
    ]
    if most is not None and most < len(sets):
        entries = [entries[i] for i in sorted({round(i) for i in np.linspace(0, len(entries) - 1, min(SHARDS, len(entries)))})]
        each = -(-most // len(entries))
        entries = [(name, first, min(each, count)) for name, first, count in entries]
    for name, first, count in entries:
        for number in range(first, first + count):
            yield name, number


def statistics(
    url: str, most: int | None, image_column: str = "image", pictures: list[tuple[str, Image.Image]] | None = None
) -> Statistics:
    """Looks at `most` samples, or at all. `pictures`: a list that gets all of them, small, each with its caption. Raises ShardError."""
    sets = Sets(url)
    found = Statistics(sets.url, len(sets))
    columns = next(iter(sets.by_bucket.values())).columns
    captions = [name for name, encoding in columns.items() if encoding == "str" and name != IDENTIFIER]
    words: dict[str, list[float]] = {name: [] for name in captions}
    formats: Counter[str] = Counter()
    ids: Counter[str] = Counter()
    sizes: list[tuple[int, int, int]] = []
    same: defaultdict[bytes, list[str]] = defaultdict(list)
    for bucket, number in chosen(sets, most):
        shards = sets.by_bucket[bucket]
        found.seen += 1
        try:
            sample = shards.read(number, [name for name in (*captions, IDENTIFIER, image_column) if name in columns])
        except BadSample as error:
            found.unusable.append(str(error))
            continue
        for name in captions:
            words[name].append(len(sample[name].split()))
        ids.update([sample[IDENTIFIER]] if IDENTIFIER in sample else [])
        if image_column not in sample:
            continue
        data = bytes(sample[image_column])
        called = str(sample.get(IDENTIFIER, f"{bucket}/{number}"))
        same[hashlib.sha256(data).digest()].append(called)
        try:
            with Image.open(io.BytesIO(data)) as opened:
                sizes.append((*opened.size, len(data)))
                formats[opened.format or "unknown"] += 1
                if pictures is not None:
                    opened.draft("RGB", (2 * SMALL, 2 * SMALL))
                    small = opened.convert("RGB")
                    small.thumbnail((SMALL, SMALL))
                    pictures.append((str(sample[captions[0]]) if captions else called, small))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            found.unusable.append(str(shards.bad_sample(number, f"column {image_column!r} is no picture: {error}")))
    found.captions = {name: Numbers.of(counts) for name, counts in words.items()}
    found.empty_captions = {name: counts.count(0) for name, counts in words.items()}
    found.formats = dict(formats.most_common())
    found.widths, found.heights, found.picture_bytes = (Numbers.of([size[i] for size in sizes]) for i in range(3))
    found.same_picture = [names for names in same.values() if len(names) > 1]
    found.same_id = sorted(name for name, count in ids.items() if count > 1)
    return found
