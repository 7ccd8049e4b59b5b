"""Where shard files come from. A shelf knows names, bytes and hashes; what is in a shard it does not know."""

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from trainer.data.errors import ShardError

INDEX = "index.json"
FILE = "file://"


class Shelf(Protocol):
    """Where the shard files of one folder (one index.json) come from. Safe to use from threads."""

    url: str

    def index(self) -> bytes:
        """The bytes of index.json. Raises ShardError when there is none."""
        ...

    def check(self, entries: list[dict[str, Any]]) -> None:
        """Raises ShardError for the first entry of the index whose file is not there or of another size, as far as no file is read."""
        ...

    def hold(self, entry: dict[str, Any]) -> AbstractContextManager[Path]:
        """The uncompressed shard file of an entry of the index, which stays while it is held. Raises ShardError when it cannot be had."""
        ...

    def will_need(self, entries: Iterable[dict[str, Any]]) -> None:
        """The order in which shards will be held from now on."""
        ...


class FolderShelf:
    """A local folder: its files are used where they are."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.url = str(folder)

    def index(self) -> bytes:
        if not self.folder.is_dir():
            raise ShardError(self.folder, None, "there is no such folder", "relative data URLs start at DAYRUN_DATA, or the current folder")
        try:
            return (self.folder / INDEX).read_bytes()
        except FileNotFoundError:
            nearest = "a folder of MDS shards holds one; is a conversion still running?"
            raise ShardError(self.folder / INDEX, None, "there is no index", nearest) from None

    def check(self, entries: list[dict[str, Any]]) -> None:
        for entry in entries:
            told = entry["zip_data"] if entry.get("compression") else entry["raw_data"]
            check_size(self.folder / told["basename"], int(told["bytes"]))

    @contextmanager
    def hold(self, entry: dict[str, Any]) -> Iterator[Path]:
        if entry.get("compression"):
            file = self.folder / entry["zip_data"]["basename"]
            raise ShardError(file, None, f"is compressed ({entry['compression']})", "give a cache folder, where it can be unpacked")
        file = self.folder / entry["raw_data"]["basename"]
        check_size(file, int(entry["raw_data"]["bytes"]))
        yield file

    def will_need(self, entries: Iterable[dict[str, Any]]) -> None:
        """Nothing to fetch."""


def check_size(file: Path, expected: int) -> None:
    """Raises ShardError when `file` has not the bytes that the index says."""
    try:
        size = file.stat().st_size
    except FileNotFoundError:
        raise ShardError(file, None, "the index names it and it is not there", "copy it again, or convert again") from None
    if size != expected:
        raise ShardError(file, min(size, expected), f"has {size} bytes, the index says {expected}", "copy it again")


def folder_of(url: str) -> Path:
    """Where a source lies: relative URLs start at DAYRUN_DATA, or at the current folder."""
    return Path(os.environ.get("DAYRUN_DATA", ".")) / url.removeprefix(FILE)


def shelf(url: str, cache: Path | None = None, limit: int | None = None) -> Shelf:
    """The shelf at `url`. cache: folder for what has to be fetched or unpacked, of at most `limit` bytes."""
    return FolderShelf(folder_of(url))


def document(url: str, name: str) -> bytes | None:
    """A small file below `url` that is no shard, such as dataset.json; None when there is none."""
    try:
        return (folder_of(url) / name).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
