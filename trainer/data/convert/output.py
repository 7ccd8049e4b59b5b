"""The data set that a conversion writes, into a folder or an object store: shards, a commit marker for each part, `dataset.json` last.

    OUT/conversion.json             the options, written first
    OUT/1024x1024/00000.000.mds     bucket / part . number (without folders of buckets where there is one square bucket)
    OUT/parts/00000.json            written when the part's shards are there: its index entries and its rejects
    OUT/1024x1024/index.json        all parts' entries in the source's order
    OUT/rejects.jsonl               all parts' rejects
    OUT/dataset.json                written last: without it, this is no data set

A shard that no index names is nothing: a task that dies leaves files that the next try replaces by the same bytes. Nothing in here says
when it was made, or by how many workers.
"""

import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dayrun.objects import Prefix
from trainer.data.convert.filters import CODECS, VERSION, Options
from trainer.data.convert.sources import Reject
from trainer.data.folders import DATASET, HERE
from trainer.data.shelves import INDEX

CONVERSION, REJECTS = "conversion.json", "rejects.jsonl"
PARTS, HASHES, SCRATCH = "parts", "hashes", ".writing"


class ConversionError(Exception):
    """A conversion that cannot begin or end: says which place, why, and what would work."""


@dataclass(frozen=True)
class Committed:
    """What became of a part."""

    part: str
    digest: str  # of the options and of what the part was made from
    shards: dict[str, list[dict[str, Any]]]  # bucket's folder → entries of its index
    rejects: list[Reject]
    kept: int = 0  # pictures whose bytes are the source's
    enlarged: int = 0  # pictures that are smaller than their bucket

    @property
    def samples(self) -> int:
        return sum(entry["samples"] for entries in self.shards.values() for entry in entries)

    @property
    def bytes(self) -> int:
        return sum(entry["raw_data"]["bytes"] for entries in self.shards.values() for entry in entries)

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def of(cls, data: bytes) -> "Committed":
        value = json.loads(data)
        return cls(**{**value, "rejects": [Reject(**reject) for reject in value["rejects"]]})


@dataclass(frozen=True)
class DataSet:
    """What `dataset.json` says."""

    reference_pixels: int
    patch: int
    columns: dict[str, str]
    buckets: dict[str, dict[str, Any]]  # folder → samples, shards, bytes, sha256 of its index.json; "." is the data set's own folder
    samples: int
    rejects: dict[str, int]  # reason → how many
    kept: int = 0
    enlarged: int = 0
    version: int = VERSION
    hashes: dict[str, str] = field(default_factory=dict)  # of conversion.json and rejects.jsonl

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()


class Output:
    """The place of a data set as it is written."""

    def __init__(self, url: str) -> None:
        self.prefix = Prefix(url)
        self.url = url

    def begin(self, options: dict[str, Any]) -> None:
        """Claim the place for a conversion with these options. Raises ConversionError when something else lies there."""
        wanted = json.dumps({"version": VERSION, **options}, indent=1, sort_keys=True).encode()
        try:
            found = json.loads(self.prefix.get(CONVERSION))
        except FileNotFoundError:
            if self.prefix.exists(INDEX) or self.prefix.exists(DATASET):
                raise ConversionError(f"OUT {self.url}: holds shards of another origin; name an empty place") from None
            self.prefix.put(CONVERSION, wanted)
            return
        new = json.loads(wanted)
        if other := sorted(name for name in found.keys() | new.keys() if found.get(name) != new.get(name)):
            told = ", ".join(f"{name} was {found.get(name)!r} and is {new.get(name)!r}" for name in other)
            raise ConversionError(f"OUT {self.url}: was begun with other options: {told}; give the same, name another place, or delete it")

    def present(self) -> dict[str, int]:
        """Everything that lies there, with its bytes."""
        return {info.key: info.bytes for info in self.prefix.objects()}

    def committed(self, part: str, digest: str, present: dict[str, int]) -> Committed | None:
        """What was committed of a part before: None when nothing was, when it was made from something else, or when a shard is gone."""
        if marker(part) not in present:
            return None
        try:
            found = Committed.of(self.prefix.get(marker(part)))
        except (ValueError, KeyError, TypeError, FileNotFoundError):
            return None
        whole = all(
            present.get(key_in(bucket, entry["raw_data"]["basename"])) == entry["raw_data"]["bytes"]
            for bucket, entries in found.shards.items()
            for entry in entries
        )
        return found if whole and found.digest == digest else None

    def reopen(self) -> None:
        """Shards are about to be written: until `finish`, this is no data set."""
        self.prefix.delete(DATASET)

    @contextmanager
    def scratch(self, part: str) -> Iterator[Path]:
        """A folder of its own for files that `place` will put in their places; on the same disk where that is one.

        Of its own, since a worker whose parent was killed may still be at the same part: it will put the same bytes in the same places.
        """
        parent = None if self.prefix.path is None else self.prefix.path / SCRATCH
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{part}-", dir=parent, ignore_cleanup_errors=True) as name:
            yield Path(name)

    def place(self, file: Path, key: str) -> None:
        """Put a file of the scratch folder where it belongs, at once or not at all."""
        if self.prefix.path is None:
            self.prefix.put_file(key, file)
            return
        target = self.prefix.path / key
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, target)

    def commit(self, committed: Committed) -> None:
        self.prefix.put(marker(committed.part), committed.to_json())

    def finish(self, parts: list[Committed], columns: dict[str, str], pixels: int, patch: int) -> DataSet:
        """Merge what all parts committed, in their order: indexes, rejects, `dataset.json`; remove what belongs to none of them.

        Raises ConversionError when there is not a single sample.
        """
        rejects = [reject for part in parts for reject in part.rejects]
        counts = dict(sorted(Counter(reject.reason for reject in rejects).items()))
        entries: dict[str, list[dict[str, Any]]] = {}
        for part in parts:
            for bucket, some in part.shards.items():
                entries.setdefault(bucket, []).extend(some)
        if not entries:
            first = f"; the first: {rejects[0].id}: {rejects[0].because}" if rejects else ""
            raise ConversionError(f"OUT {self.url}: not one sample can be used: {counts or 'the source has none'}{first}")
        buckets: dict[str, dict[str, Any]] = {}
        for bucket, some in sorted(entries.items()):
            index = json.dumps({"shards": some, "version": 2}, sort_keys=True).encode()
            self.prefix.put(key_in(bucket, INDEX), index)
            buckets[bucket] = {
                "samples": sum(entry["samples"] for entry in some),
                "shards": len(some),
                "bytes": sum(entry["raw_data"]["bytes"] for entry in some),
                "sha256": hashlib.sha256(index).hexdigest(),
            }
        lines = b"".join(json.dumps(asdict(reject), sort_keys=True, ensure_ascii=False).encode() + b"\n" for reject in rejects)
        self.prefix.put(REJECTS, lines)
        made = DataSet(
            reference_pixels=pixels,
            patch=patch,
            columns=dict(sorted(columns.items())),
            buckets=buckets,
            samples=sum(bucket["samples"] for bucket in buckets.values()),
            rejects=counts,
            kept=sum(part.kept for part in parts),
            enlarged=sum(part.enlarged for part in parts),
            hashes={REJECTS: hashlib.sha256(lines).hexdigest(), CONVERSION: hashlib.sha256(self.prefix.get(CONVERSION)).hexdigest()},
        )
        self.prefix.put(DATASET, made.to_json())
        self._remove_strays(parts, entries)
        return made

    def _remove_strays(self, parts: list[Committed], entries: dict[str, list[dict[str, Any]]]) -> None:
        names = {part.part for part in parts}
        ours = {key_in(bucket, entry["raw_data"]["basename"]) for bucket, some in entries.items() for entry in some}
        ours |= {key_in(bucket, INDEX) for bucket in entries}
        ours |= {f"{folder}/{name}.json" for folder in (PARTS, HASHES) for name in names} | {DATASET, CONVERSION, REJECTS}
        self.prefix.delete_all(SCRATCH)
        for key in self.present():
            if key not in ours and (key.endswith((".mds", f"/{INDEX}")) or key.startswith((f"{PARTS}/", f"{HASHES}/"))):
                self.prefix.delete(key)


def marker(part: str) -> str:
    return f"{PARTS}/{part}.json"


def key_in(bucket: str, name: str) -> str:
    """The key of a file of a bucket, whose folder is `.` where there is one bucket alone."""
    return name if bucket == HERE else f"{bucket}/{name}"


def described(options: Options) -> dict[str, Any]:
    """Options as `conversion.json` has them."""
    return json.loads(json.dumps({**asdict(options), "max_ratio": repr(options.max_ratio), **CODECS}))
