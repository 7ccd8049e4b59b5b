"""MDS version 2 shards (MosaicML's format), read and written by us: bytes in are bytes out, every shard has a digest and bad bytes a place.

A shard file is: uint32 n, uint32 offsets[n + 1], a JSON header, then n samples; offsets count from the start of the file. A sample is the
uint32 sizes of its variable-width columns, then the columns' bytes in the order of their names. `index.json` names the shards. Nothing here
knows pictures or training. Source: the format as mosaicml-streaming writes it.
"""

import hashlib
import json
import mmap
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

INDEX = "index.json"
HASH = "sha1"  # the strongest that mosaicml-streaming also verifies by default


class ShardError(Exception):
    """A set of shards that cannot be used: says where, why, and what would work."""

    def __init__(self, file: Path, offset: int | None, because: str, nearest: str) -> None:
        self.file, self.offset, self.because, self.nearest = file, offset, because, nearest
        super().__init__(f"{file}{'' if offset is None else f' at byte {offset}'}: {because}; {nearest}")


class BadSample(Exception):
    """One sample inside a good shard that cannot be decoded."""

    def __init__(self, file: Path, offset: int, sample: int, because: str) -> None:
        self.file, self.offset, self.sample, self.because = file, offset, sample, because
        super().__init__(f"{file} at byte {offset}: sample {sample}: {because}")


def width_of(encoding: str) -> int | None:
    """Bytes of a column with this encoding, or None where each sample has its own. Raises ValueError for an unknown encoding."""
    if encoding in ("bytes", "str", "json"):
        return None
    if encoding == "int":
        return 8
    kind, *form = encoding.split(":")
    if kind == "ndarray" and len(form) == 2:
        return np.dtype(form[0]).itemsize * int(np.prod([int(side) for side in form[1].split(",")]))
    raise ValueError(f"unknown encoding {encoding!r}; known: bytes, str, json, int, ndarray:DTYPE:ROWS,COLUMNS")


def encode(encoding: str, value: Any) -> bytes:
    if encoding == "bytes":
        return bytes(value)
    if encoding == "str":
        return str(value).encode()
    if encoding == "json":
        return json.dumps(value).encode()
    if encoding == "int":
        return struct.pack("<q", value)
    _, dtype, shape = encoding.split(":")
    array = np.asarray(value, dtype=dtype)
    if array.shape != tuple(int(side) for side in shape.split(",")):
        raise ValueError(f"an array of shape {array.shape} does not fit the column's encoding {encoding!r}")
    return array.tobytes()


def decode(encoding: str, data: bytes) -> Any:
    if encoding == "bytes":
        return data
    if encoding == "str":
        return data.decode()
    if encoding == "json":
        return json.loads(data)
    if encoding == "int":
        return struct.unpack("<q", data)[0]
    _, dtype, shape = encoding.split(":")
    return np.frombuffer(data, dtype=dtype).reshape([int(side) for side in shape.split(",")])


class ShardWriter:
    """Writes samples into `folder`: the same samples give the same bytes. Files appear whole, `index.json` last, on a clean exit only."""

    def __init__(self, folder: Path | str, columns: dict[str, str], size_limit: int = 1 << 26) -> None:
        self.folder, self._size_limit = Path(folder), size_limit
        self._columns = dict(sorted(columns.items()))
        self._widths = {name: width_of(encoding) for name, encoding in self._columns.items()}
        header = {
            "column_encodings": list(self._columns.values()),
            "column_names": list(self._columns),
            "column_sizes": list(self._widths.values()),
            "compression": None,
            "format": "mds",
            "hashes": [HASH],
            "size_limit": size_limit,
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
        """Raises ValueError when the sample's columns are not the set's."""
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
        name = f"shard.{len(self._shards):05d}.mds"
        self._put(name, data)
        raw = {"basename": name, "bytes": len(data), "hashes": {HASH: hashlib.new(HASH, data).hexdigest()}}
        self._shards.append({**self._info, "raw_data": raw, "samples": n, "version": 2, "zip_data": None})
        self._samples, self._bytes = [], 8 + len(self._header)

    def _put(self, name: str, data: bytes) -> None:
        temporary = self.folder / f".{name}.writing"
        temporary.write_bytes(data)
        os.replace(temporary, self.folder / name)


class ShardSet:
    """All samples of a folder of shards, by number. Checked as a whole when opened, mapped when used; safe to use from threads."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ShardError(self.folder, None, "there is no such folder", "relative data URLs start at DAYRUN_DATA, or the current folder")
        self._shards = [Shard(self.folder, entry) for entry in read_index(self.folder)]
        columns = self._shards[0].columns
        for shard in self._shards:
            if shard.columns != columns:
                raise ShardError(
                    shard.file, None, f"has columns {shard.columns}, the first shard has {columns}", "convert both to one folder each"
                )
        self.columns = columns
        """Column names with their encodings."""
        self._ends = np.cumsum([shard.samples for shard in self._shards])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Sample `number`. Raises BadSample when its bytes are not what the columns promise, IndexError past the end."""
        shard, local = self._place(number)
        return shard.sample(local)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))

    def bad_sample(self, number: int, because: str) -> BadSample:
        """The error that says where sample `number` lies, for whoever finds its contents unusable."""
        shard, local = self._place(number)
        return BadSample(shard.file, shard.offset_of(local), local, because)

    def verify(self) -> list[str]:
        """One sentence for each shard whose digest is not the one that the index names; empty when all is well."""
        return [trouble for shard in self._shards if (trouble := shard.verify())]

    def _place(self, number: int) -> tuple["Shard", int]:
        if not 0 <= number < len(self):
            raise IndexError(f"sample {number} of {len(self)}")
        which = int(np.searchsorted(self._ends, number, side="right"))
        return self._shards[which], number - (int(self._ends[which - 1]) if which else 0)


def read_index(folder: Path) -> list[dict[str, Any]]:
    file = folder / INDEX
    try:
        entries = json.loads(file.read_bytes())["shards"]
        for entry in entries:
            entry["raw_data"]["basename"], entry["raw_data"]["bytes"], entry["samples"], entry["column_names"], entry["column_encodings"]
    except FileNotFoundError:
        raise ShardError(file, None, "there is no index", "a folder of MDS shards holds one; is a conversion still running?") from None
    except json.JSONDecodeError as error:
        raise ShardError(file, error.pos, f"not JSON ({error.msg})", "write the index anew by converting again") from None
    except (KeyError, TypeError) as error:
        raise ShardError(file, None, f"not an MDS index ({error} is missing)", "expected {'shards': [...], 'version': 2}") from None
    if not entries:
        raise ShardError(file, None, "the index names no shards", "convert at least one picture")
    return entries


class Shard:
    """One file of samples."""

    def __init__(self, folder: Path, entry: dict[str, Any]) -> None:
        self.file = folder / entry["raw_data"]["basename"]
        self._bytes, self.samples = int(entry["raw_data"]["bytes"]), int(entry["samples"])
        self._hashes: dict[str, str] = entry["raw_data"].get("hashes") or {}
        self.columns: dict[str, str] = dict(zip(entry["column_names"], entry["column_encodings"], strict=True))
        self._map: mmap.mmap | None = None
        self._lock = threading.Lock()
        if entry.get("compression"):
            raise ShardError(self.file, None, f"is compressed ({entry['compression']})", "only uncompressed shards can be read for now")
        try:
            self._widths = {name: width_of(encoding) for name, encoding in self.columns.items()}
        except ValueError as error:
            raise ShardError(self.file, None, str(error), "convert the column") from None
        self._offsets = self._check()

    def _check(self) -> np.ndarray:
        """The table of offsets, after everything that can be told without reading samples was told."""
        try:
            size = self.file.stat().st_size
        except FileNotFoundError:
            raise ShardError(self.file, None, "the index names it and it is not there", "copy it again, or convert again") from None
        if size != self._bytes:
            raise ShardError(self.file, min(size, self._bytes), f"has {size} bytes, the index says {self._bytes}", "copy it again")
        with self.file.open("rb") as file:
            head = file.read(4 + 4 * (self.samples + 1))
        count = struct.unpack_from("<I", head)[0] if len(head) >= 4 else -1
        if count != self.samples:
            raise ShardError(self.file, 0, f"holds {count} samples, the index says {self.samples}", "copy it again")
        offsets = np.frombuffer(head, "<u4", offset=4).astype(np.int64)
        if len(offsets) != self.samples + 1 or (np.diff(offsets) < 0).any() or offsets[-1] != size:
            raise ShardError(self.file, 4, "its table of offsets does not fit the file", "copy it again")
        return offsets

    def offset_of(self, local: int) -> int:
        return int(self._offsets[local])

    def sample(self, local: int) -> dict[str, Any]:
        if self._map is None:
            with self._lock, self.file.open("rb") as file:
                self._map = self._map or mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        start, end = self.offset_of(local), int(self._offsets[local + 1])
        data = self._map[start:end]
        variable = sum(width is None for width in self._widths.values())
        if len(data) < 4 * variable:
            raise BadSample(self.file, start, local, f"{len(data)} bytes are too few for the sizes of {variable} columns")
        sizes = iter(struct.unpack_from(f"<{variable}I", data))
        place, found = 4 * variable, {}
        for name, encoding in self.columns.items():
            width = self._widths[name]
            size = next(sizes) if width is None else width
            part = data[place : place + size]
            if len(part) != size:
                raise BadSample(self.file, start + place, local, f"column {name!r} needs {size} bytes, {len(part)} are left")
            try:
                found[name] = decode(encoding, part)
            except ValueError as error:
                raise BadSample(self.file, start + place, local, f"column {name!r} is no {encoding}: {error}") from None
            place += size
        if place != len(data):
            raise BadSample(self.file, start, local, f"{len(data) - place} bytes more than its columns need")
        return found

    def verify(self) -> str | None:
        for name, wanted in self._hashes.items():
            if name in hashlib.algorithms_available:
                with self.file.open("rb") as file:
                    found = hashlib.file_digest(file, name).hexdigest()
                if found != wanted:
                    return f"{self.file}: {name} is {found}, the index says {wanted}"
        return None
