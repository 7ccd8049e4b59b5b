"""Where pictures come from: the parts of a source, each the work of one task, and the samples in a part. Knows neither sizes nor shards.

A source is a folder or an object-store prefix (or one file in it) of WebDataset tars, of pictures, or of parquet tables. Its listing is in
the order of names, so that the same files give the same parts, and the first of two equal pictures is the same one every time.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dayrun.objects import Prefix

Kind = Literal["tar", "folder", "parquet"]
PICTURES = ("jpg", "jpeg", "png", "webp")
METADATA = ("metadata.jsonl", "metadata.csv")
SLICE = 1000
"""Pictures of a folder, or least rows of a table, that make one part."""


class SourceError(Exception):
    """A source that cannot be converted: says which, why, and what would work."""


@dataclass(frozen=True)
class File:
    key: str  # relative to the source, with forward slashes
    bytes: int


@dataclass(frozen=True)
class Found:
    """A sample as it lies in its source."""

    id: str
    image: bytes
    fields: dict[str, Any]  # what is known of it, by name; the .txt file beside it is "txt"


@dataclass(frozen=True)
class Reject:
    """A sample that is left out."""

    id: str
    reason: str  # one of a few words, to count by
    because: str


@dataclass(frozen=True)
class Part:
    """What one task converts: the unit of commit and of retry."""

    name: str  # unique in its source; the beginning of its shards' names
    kind: Kind
    source: str
    files: tuple[File, ...]
    groups: tuple[int, int] = (0, 0)  # of a table: its row groups from … up to
    first_row: int = 0  # of a table: the number of its first row
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)  # of a folder: what its metadata file says, by the picture's key
    rejects: tuple[Reject, ...] = ()  # known from the listing already

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def title(self) -> str:
        """What the ids of its samples begin with."""
        return stem(self.files[0].key) if self.kind != "folder" else Path(local(self.source) or self.source).name


@dataclass(frozen=True)
class Reading:
    """How tables are read, and how much of a folder is one part."""

    image_column: str = "image"
    id_column: str | None = None
    slice: int = SLICE


def local(url: str) -> Path | None:
    """The folder that `url` names, or None when it is in an object store."""
    if "://" in url and not url.startswith("file://"):
        return None
    return Path(url.removeprefix("file://")).absolute()


def stem(key: str) -> str:
    return key.rsplit(".", 1)[0]


def slug(name: str) -> str:
    """`name` as the beginning of a file's name. What has to be replaced is told apart by a hash."""
    clean = re.sub(r"[^A-Za-z0-9._-]", "-", name)
    return clean if clean == name else f"{clean}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def listed(url: str) -> tuple[str, list[File]]:
    """The folder of a source and its files in the order of their names. Raises SourceError when there is none."""
    folder = local(url)
    if folder is None:
        if url.endswith((".tar", ".parquet")):
            parent, _, name = url.rpartition("/")
            return parent, [File(info.key, info.bytes) for info in Prefix(parent).objects() if info.key == name]
        return url, [File(info.key, info.bytes) for info in Prefix(url).objects()]
    if folder.is_file():
        return str(folder.parent), [File(folder.name, folder.stat().st_size)]
    if not folder.is_dir():
        raise SourceError(f"SOURCE {url}: there is no such folder; a folder, one tar or parquet file, or s3://bucket/prefix would do")
    found = [Path(place, name) for place, _, names in os.walk(folder) for name in names if not name.startswith(".")]
    return str(folder), sorted((File(file.relative_to(folder).as_posix(), file.stat().st_size) for file in found), key=lambda f: f.key)


def parts_of(url: str, reading: Reading) -> list[Part]:
    """Every part of the source at `url`, in order. Raises SourceError when there is nothing to convert, or more than one kind of it."""
    from trainer.data.convert.grouped import folder_parts
    from trainer.data.convert.tables import table_parts

    source, files = listed(url)
    by_kind = {
        "tar": [file for file in files if file.key.endswith(".tar")],
        "parquet": [file for file in files if file.key.endswith(".parquet")],
        "folder": [file for file in files if file.key.lower().endswith(tuple(f".{suffix}" for suffix in PICTURES))],
    }
    present = [kind for kind, some in by_kind.items() if some]
    if not present:
        raise SourceError(f"SOURCE {url}: none of its {len(files)} files is a .tar, a .parquet or a picture (.{', .'.join(PICTURES)})")
    if len(present) > 1:
        counts = " and ".join(f"{len(by_kind[kind])} of kind {kind} (such as {by_kind[kind][0].key})" for kind in present)
        raise SourceError(f"SOURCE {url}: holds {counts}: convert one kind at a time, from a folder each")
    match present[0]:
        case "tar":
            parts = [Part(slug(stem(file.key)), "tar", source, (file,)) for file in by_kind["tar"]]
        case "parquet":
            parts = [part for file in by_kind["parquet"] for part in table_parts(source, file, reading)]
        case _:
            parts = folder_parts(source, files, reading.slice)
    names = [part.name for part in parts]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SourceError(f"SOURCE {url}: {len(twice)} names are there twice, such as {twice[0]}: give the files names of their own")
    return parts


def samples_of(part: Part, reading: Reading) -> Iterator[Found | Reject]:
    """What lies in `part`, in its order. What cannot be read of it is a Reject; a store that is away raises OSError."""
    from trainer.data.convert.grouped import folder_samples, tar_samples
    from trainer.data.convert.tables import table_samples

    yield from part.rejects
    match part.kind:
        case "tar":
            with on_disk(part.source, part.files[0]) as path:
                yield from tar_samples(path, part.title)
        case "folder":
            yield from folder_samples(part)
        case "parquet":
            if part.groups[1] > part.groups[0]:
                with on_disk(part.source, part.files[0]) as path:
                    yield from table_samples(path, part, reading)


@contextmanager
def on_disk(source: str, file: File) -> Iterator[Path]:
    """The file on this machine: where it lies, or a copy for as long as the block runs."""
    folder = local(source)
    if folder is not None:
        yield folder / file.key
        return
    with tempfile.TemporaryDirectory(prefix="dayrun-source-") as name:
        path = Path(name) / "file"
        Prefix(source).get_file(file.key, path)
        yield path
