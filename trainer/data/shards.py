"""MDS version 2 shards (MosaicML's format), read and written by us: bytes in are bytes out, every shard has a digest and bad bytes a place.

A shard file is: uint32 n, uint32 offsets[n + 1], a JSON header, then n samples; offsets count from the start of the file. A sample is the
uint32 sizes of its variable-width columns, then the columns' bytes in the order of their names. `index.json` names the shards. Nothing here
knows pictures or training. Source: the format as mosaicml-streaming writes it.
"""

import bisect
import hashlib
import json
import mmap
import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from trainer.data.compression import compress, extension_of
from trainer.data.encodings import decode, encode, width_of
from trainer.data.errors import BadSample, ShardError
from trainer.data.shelves import INDEX, FolderShelf, Shelf

__all__ = ["BadSample", "ShardError", "ShardSet", "ShardWriter"]

HASH = "sha1"  # the strongest that mosaicml-streaming also verifies by default
OPEN = 64
"""Shards of a set that are kept mapped: each holds a file descriptor and, on a shelf with a cache, a file that cannot be evicted."""


class ShardWriter:
    """Writes samples into `folder`: the same samples give the same bytes. Files appear whole, `index.json` last, on a clean exit only.

    compression: `gz`, `bz2` or `zstd`, with `:LEVEL` or without. hashes: names of hashlib. stem: what the names of the shards begin with.
    Raises ValueError for a column, a compression or a hash that is not known.
    """

    def __init__(
        self,
        folder: Path | str,
        columns: dict[str, str],
        size_limit: int = 1 << 26,
        compression: str | None = None,
        hashes: Sequence[str] = (HASH,),
        stem: str = "shard",
    ) -> None:
        self.folder, self._size_limit, self._compression, self._stem = Path(folder), size_limit, compression, stem
        self._columns = dict(sorted(columns.items()))
        self._widths = {name: width_of(encoding) for name, encoding in self._columns.items()}
        self._extension = f".{extension_of(compression)}" if compression else ""
        self._hashes = sorted(hashes)
        for name in self._hashes:
            hashlib.new(name)
        header = {
            "column_encodings": list(self._columns.values()),
            "column_names": list(self._columns),
            "column_sizes": list(self._widths.values()),
            "compression": compression,
            "format": "mds",
            "hashes": self._hashes,
            "size_limit": size_limit,
            "version": 2,
        }
        self._info, self._header = header, json.dumps(header, sort_keys=True).encode()
        self._samples: list[bytes] = []
        self._bytes = 8 + len(self._header)
        self._shards: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._close_shard()
            self._put(INDEX, json.dumps({"shards": self._shards, "version": 2}, sort_keys=True).encode())

    def write(self, sample: dict[str, Any]) -> None:
        """Raises ValueError when the sample's columns are not the set's, or a value is not what its column holds."""
        if sample.keys() != self._columns.keys():
            raise ValueError(f"a sample has columns {sorted(sample)}, the set has {list(self._columns)}")
        parts = [encode(encoding, sample[name]) for name, encoding in self._columns.items()]
        sizes = [len(part) for part, width in zip(parts, self._widths.values(), strict=True) if width is None]
        data = struct.pack(f"<{len(sizes)}I", *sizes) + b"".join(parts)
        if self._samples and self._bytes + len(data) + 4 > self._size_limit:
            self._close_shard()
        self._samples.append(data)
        self._bytes += len(data) + 4

    def _close_shard(self) -> None:
        if not self._samples:
            return
        n = len(self._samples)
        first = 4 + 4 * (n + 1) + len(self._header)
        offsets = np.cumsum([first, *map(len, self._samples)]).astype("<u4")
        data = b"".join([struct.pack("<I", n), offsets.tobytes(), self._header, *self._samples])
        name = f"{self._stem}.{len(self._shards):05d}.mds"
        raw, packed = self._told(name, data), None
        if self._compression:
            name, data = name + self._extension, compress(self._compression, data)
            packed = self._told(name, data)
        self._put(name, data)
        self._shards.append({**self._info, "raw_data": raw, "samples": n, "zip_data": packed})
        self._samples, self._bytes = [], 8 + len(self._header)

    def _told(self, name: str, data: bytes) -> dict[str, Any]:
        hashes = {hash: hashlib.new(hash, data).hexdigest() for hash in self._hashes}
        return {"basename": name, "bytes": len(data), "hashes": hashes}

    def _put(self, name: str, data: bytes) -> None:
        temporary = self.folder / f".{name}.writing"
        temporary.write_bytes(data)
        os.replace(temporary, self.folder / name)


@dataclass
class Opened:
    """A shard that is mapped, or is about to be."""

    shard: "Shard | None" = None
    users: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class ShardSet:
    """All samples of one index, by number. The index is checked at once, a shard when it is first used. Safe to use from threads.

    keep: shards that stay open. Raises ShardError when the set as a whole cannot be used.
    """

    def __init__(self, shelf: Shelf | Path | str, keep: int = OPEN) -> None:
        self.shelf: Shelf = FolderShelf(shelf) if isinstance(shelf, Path | str) else shelf
        self._keep = keep
        index = self.shelf.index()
        self.digest = hashlib.sha256(index).hexdigest()
        """Of the index, which has the digests of the shards."""
        self.entries = entries_of(index, f"{self.shelf.url.rstrip('/')}/{INDEX}")
        """What the index tells of each shard."""
        columns = [dict(zip(entry["column_names"], entry["column_encodings"], strict=True)) for entry in self.entries]
        for entry, found in zip(self.entries, columns, strict=True):
            if found != columns[0]:
                raise ShardError(
                    self._file(entry), None, f"has columns {found}, the first shard has {columns[0]}", "convert both to one folder each"
                )
        self.columns: dict[str, str] = columns[0]
        """Column names with their encodings."""
        try:
            for encoding in self.columns.values():
                width_of(encoding)
        except ValueError as error:
            raise ShardError(self._file(self.entries[0]), None, str(error), "convert the column") from None
        self.shelf.check(self.entries)
        self.ends = np.cumsum([entry["samples"] for entry in self.entries])
        """For each shard the number of samples in it and in those before it, (shards,) int64."""
        self._ends: list[int] = self.ends.tolist()  # for one number a tenth of what numpy's search takes
        self._open: OrderedDict[int, Opened] = OrderedDict()
        self._broken: dict[int, ShardError] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Sample `number`. Raises BadSample when its bytes, or its shard, are not what was promised, IndexError past the end."""
        return self.read(number, None)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))

    def read(self, number: int, names: Sequence[str] | None) -> dict[str, Any]:
        """The columns `names` of sample `number`, or all; no others are decoded. Raises as indexing does."""
        which, local = self.place(number)
        with self._opened(which, local) as shard:
            return shard.sample(local, names)

    def bad_sample(self, number: int, because: str) -> BadSample:
        """The error that says where sample `number` lies, for whoever finds its contents unusable."""
        which, local = self.place(number)
        with self._opened(which, local) as shard:
            return BadSample(shard.name, shard.offset_of(local), local, because)

    def place(self, number: int) -> tuple[int, int]:
        """(shard, sample in it) of sample `number`. Raises IndexError."""
        if not 0 <= number < len(self):
            raise IndexError(f"sample {number} of {len(self)}")
        which = bisect.bisect_right(self._ends, number)
        return which, number - (self._ends[which - 1] if which else 0)

    def will_need(self, coming: Iterable[tuple[int, np.ndarray]], span: float = 0.0) -> None:
        """Tell the shelf what will be read: numbers of samples as they come, each some with their epoch. May be endless.

        span: part of an epoch in which a shard's samples come.
        """
        self.shelf.will_need(self._first_uses(coming), span)

    def _first_uses(self, coming: Iterable[tuple[int, np.ndarray]]) -> Iterator[dict[str, Any]]:
        """The shards in the order of their first use in each epoch; ends when nothing was read for a whole epoch."""
        seen, now, idle = set[int](), -1, 0
        for epoch, numbers in coming:
            if epoch != now:
                idle = 0 if seen else idle + 1
                if idle > 2:  # before the first epoch there is nothing, and the first may have begun long ago
                    return
                seen, now = set[int](), epoch
            for which in dict.fromkeys(np.searchsorted(self.ends, numbers, side="right").tolist()):
                if which not in seen:
                    seen.add(which)
                    yield self.entries[which]

    def verify(self) -> Iterator[str]:
        """One sentence for each shard that is not what the index says; reads every byte."""
        for entry in self.entries:
            yield from self.verify_shard(entry)

    def verify_shard(self, entry: dict[str, Any]) -> list[str]:
        """What is wrong with the shard of an entry of the index, in one sentence; empty when nothing is. Reads every byte."""
        try:
            with self.shelf.hold(entry) as file:
                Shard(file, self._file(entry), entry).close()
                because = wrong_hash(file, entry["raw_data"].get("hashes") or {})
                return [f"{self._file(entry)}: {because}"] if because else []
        except ShardError as error:
            return [str(error)]

    @contextmanager
    def _opened(self, which: int, local: int) -> Iterator["Shard"]:
        with self._lock:
            opened = self._open.setdefault(which, Opened())
            self._open.move_to_end(which)
            opened.users += 1
        try:
            with opened.lock:
                if which in self._broken:
                    raise self._broken[which]
                if opened.shard is None:
                    opened.shard = self._shard(self.entries[which])
            yield opened.shard
        except ShardError as error:
            self._broken[which] = error  # or each of its samples would fetch it again
            raise BadSample(error.file, error.offset or 0, local, f"its shard cannot be used: {error.because}") from error
        finally:
            with self._lock:
                opened.users -= 1
                stale = self._too_many() if len(self._open) > self._keep else []
            for other in stale:
                if other.shard is not None:
                    other.shard.close()

    def _too_many(self) -> list[Opened]:
        """Takes shards that nobody reads out of those that are open, the longest unread first, until there are as few as may be."""
        idle = [number for number, other in self._open.items() if not other.users]
        return [self._open.pop(number) for number in idle[: len(self._open) - self._keep]]

    def _shard(self, entry: dict[str, Any]) -> "Shard":
        with ExitStack() as held:
            file = held.enter_context(self.shelf.hold(entry))
            shard = Shard(file, self._file(entry), entry)
            shard.held = held.pop_all()
        return shard

    def _file(self, entry: dict[str, Any]) -> str:
        return f"{self.shelf.url.rstrip('/')}/{entry['raw_data']['basename']}"


def entries_of(data: bytes, file: str) -> list[dict[str, Any]]:
    """What an index says of each shard. Raises ShardError when it is no index of MDS shards. `file`: what errors call it."""
    try:
        entries = json.loads(data)["shards"]
        for entry in entries:
            entry["raw_data"]["basename"], entry["raw_data"]["bytes"], entry["samples"], entry["column_names"], entry["column_encodings"]
            if entry.get("compression"):
                entry["zip_data"]["basename"], entry["zip_data"]["bytes"]
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        place, because = (error.pos, error.msg) if isinstance(error, json.JSONDecodeError) else (error.start, error.reason)
        raise ShardError(file, place, f"not JSON ({because})", "write the index anew by converting again") from None
    except (KeyError, TypeError) as error:
        raise ShardError(file, None, f"not an MDS index ({error} is missing)", "expected {'shards': [...], 'version': 2}") from None
    if not entries:
        raise ShardError(file, None, "the index names no shards", "convert at least one picture")
    for entry in entries:
        if entry.get("compression"):
            try:
                extension_of(entry["compression"])
            except ValueError as error:
                raise ShardError(file, None, str(error), "convert the set again") from None
    return entries


def wrong_hash(file: Path, hashes: dict[str, str]) -> str | None:
    """What is wrong with the bytes of `file` by the first hash that can be taken; None when nothing is, or none can."""
    for name, wanted in hashes.items():
        if name in hashlib.algorithms_available and not name.startswith("shake"):
            with file.open("rb") as opened:
                found = hashlib.file_digest(opened, name).hexdigest()
            return None if found == wanted else f"{name} is {found}, the index says {wanted}"
    return None


class Shard:
    """One file of samples, mapped. `name`: what errors call it. Raises ShardError when the file does not fit what the index says of it."""

    def __init__(self, file: Path, name: str, entry: dict[str, Any]) -> None:
        self.name, self.samples = name, int(entry["samples"])
        self._columns = [(n, e, width_of(e)) for n, e in zip(entry["column_names"], entry["column_encodings"], strict=True)]
        self.held: ExitStack | None = None
        with file.open("rb") as opened:
            try:
                self._map = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError:  # an empty file cannot be mapped
                raise ShardError(name, 0, "is empty", "copy it again") from None
        try:
            self._offsets = self._check(int(entry["raw_data"]["bytes"]))
        except ShardError:
            self._map.close()
            raise

    def close(self) -> None:
        self._map.close()
        if self.held is not None:
            self.held.close()

    def _check(self, size: int) -> np.ndarray:
        """The table of offsets, after everything that can be told without reading samples was told."""
        if len(self._map) != size:
            found = len(self._map)
            raise ShardError(self.name, min(size, found), f"has {found} bytes, the index says {size}", "copy it again")
        head = self._map[: 4 + 4 * (self.samples + 1)]
        count = struct.unpack_from("<I", head)[0] if len(head) >= 4 else -1
        if count != self.samples:
            raise ShardError(self.name, 0, f"holds {count} samples, the index says {self.samples}", "copy it again")
        offsets = np.frombuffer(head, "<u4", offset=4, count=(len(head) - 4) // 4).astype(np.int64)
        if len(offsets) != self.samples + 1 or (np.diff(offsets) < 0).any() or offsets[0] < len(head) or offsets[-1] != size:
            raise ShardError(self.name, 4, "its table of offsets does not fit the file", "copy it again")
        return offsets

    def offset_of(self, local: int) -> int:
        return int(self._offsets[local])

    def sample(self, local: int, names: Sequence[str] | None = None) -> dict[str, Any]:
        """The columns `names` of a sample, or all. Raises BadSample."""
        start, end = self.offset_of(local), int(self._offsets[local + 1])
        variable = sum(width is None for _, _, width in self._columns)
        if end - start < 4 * variable:
            raise BadSample(self.name, start, local, f"{end - start} bytes are too few for the sizes of {variable} columns")
        sizes = iter(struct.unpack_from(f"<{variable}I", self._map, start))
        place, found = start + 4 * variable, {}
        for name, encoding, width in self._columns:
            size = next(sizes) if width is None else width
            if place + size > end:
                raise BadSample(self.name, place, local, f"column {name!r} needs {size} bytes, {end - place} are left")
            if names is None or name in names:
                try:
                    found[name] = decode(encoding, self._map[place : place + size])
                except ValueError as error:
                    raise BadSample(self.name, place, local, f"column {name!r} is no {encoding}: {error}") from None
            place += size
        if place != end:
            raise BadSample(self.name, start, local, f"{end - place} bytes more than its columns need")
        return found
