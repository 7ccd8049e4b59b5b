"""Where shard files come from: a folder, or an object store through a cache on this machine's disk.

A shelf knows names, bytes and hashes; what is in a shard it does not know, and neither who reads it.
"""

import hashlib
import itertools
import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from trainer.data.cache import PATIENCE_SECONDS, Cache, Item, free_for
from trainer.data.errors import ShardError
from trainer.data.fetching import Origin, Pace

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

    def will_need(self, entries: Iterable[dict[str, Any]], span: float = 0.0) -> None:
        """The order in which shards will be held first from now on; may be endless. Replaces what was said before.

        span: for how long each is then held now and then, as a part of an epoch.
        """
        ...


class FolderShelf:
    """A local folder: its files are used where they are; those that are compressed are unpacked into what `cache` opens."""

    def __init__(self, folder: Path | str, cache: Callable[[], Cache] | None = None) -> None:
        self.folder = Path(folder)
        self.url = str(folder)
        self._cache = cache
        self._lock = threading.Lock()
        self._unpacked: CachedShelf | None = None

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
            told = stored(entry)
            check_size(self.folder / told["basename"], int(told["bytes"]))

    @contextmanager
    def hold(self, entry: dict[str, Any]) -> Iterator[Path]:
        if entry.get("compression"):
            with self._unpacking(entry).hold(entry) as file:
                yield file
            return
        file = self.folder / entry["raw_data"]["basename"]
        check_size(file, int(entry["raw_data"]["bytes"]))
        yield file

    def will_need(self, entries: Iterable[dict[str, Any]], span: float = 0.0) -> None:
        coming = iter(entries)
        first = next(coming, None)
        if first is not None and first.get("compression") and self._cache:  # a writer compresses all shards of a set, or none
            self._unpacking(first).will_need(itertools.chain([first], coming), span)

    def _unpacking(self, entry: dict[str, Any]) -> "CachedShelf":
        """The shelf of unpacked files, opened when the first is needed. Raises ShardError when there is no room for any."""
        with self._lock:
            if self._cache is None:
                file = self.folder / stored(entry)["basename"]
                raise ShardError(file, None, f"is compressed ({entry['compression']})", "give a cache folder, where it can be unpacked")
            self._unpacked = self._unpacked or CachedShelf(self.url, self._cache())
            return self._unpacked


class CachedShelf:
    """A prefix of an object store whose shards are fetched into `cache`, ahead of their use where that is known."""

    def __init__(self, url: str, cache: Cache) -> None:
        self._origin = Origin(url, cache.patience_seconds)
        self.url, self._cache, self._index = self._origin.url, cache, b""
        PACES.append(self._origin.pace)

    def index(self) -> bytes:
        try:
            self._index = self._origin.get(INDEX)
            return self._index
        except FileNotFoundError:
            nearest = "a prefix of MDS shards holds one; is a conversion still running?"
            raise ShardError(f"{self.url}/{INDEX}", None, "there is no index", nearest) from None

    def check(self, entries: list[dict[str, Any]]) -> None:
        present = self._origin.sizes()
        for entry in entries:
            told = stored(entry)
            place, size = f"{self.url}/{told['basename']}", present.get(told["basename"])
            if size is None:
                raise ShardError(place, None, "the index names it and it is not there", "upload it again, or convert again")
            if size != told["bytes"]:
                raise ShardError(place, min(size, told["bytes"]), f"has {size} bytes, the index says {told['bytes']}", "upload it again")

    @contextmanager
    def hold(self, entry: dict[str, Any]) -> Iterator[Path]:
        item = self._item(entry)
        with self._cache.hold(item) as file:
            self._cache.passed(self, item)
            yield file

    def will_need(self, entries: Iterable[dict[str, Any]], span: float = 0.0) -> None:
        self._cache.will_need(self, self._needed(entries), span)

    def _needed(self, entries: Iterable[dict[str, Any]]) -> Iterator[tuple[float, Item]]:
        """When: in epochs of the set, so that sets of any size can be compared; a rare bucket's next shard is far away."""
        samples, place = sum(int(entry["samples"]) for entry in json.loads(self._index or self.index())["shards"]), 0
        for entry in entries:
            yield place / samples, self._item(entry)
            place += int(entry["samples"])

    def _item(self, entry: dict[str, Any]) -> Item:
        raw = entry["raw_data"]
        return Item(name_of(self.url, entry), int(raw["bytes"]), partial(self._origin.fetch, entry))


def stored(entry: dict[str, Any]) -> dict[str, Any]:
    """What an entry says of the file as it is stored: compressed or not."""
    return entry["zip_data"] if entry.get("compression") else entry["raw_data"]


def name_of(url: str, entry: dict[str, Any]) -> str:
    """What a shard is called in a cache: by its content where the index has a hash of it, else by its place and size."""
    raw = entry["raw_data"]
    named = [f"{kind}-{digest}" for kind, digest in (raw.get("hashes") or {}).items()]
    usable = [name for name in named if re.fullmatch(r"[a-z0-9_]{1,16}-[0-9a-f]{16,128}", name)]
    place = hashlib.sha256(f"{url}\n{raw['basename']}\n{raw['bytes']}".encode()).hexdigest()
    return f"{max(usable, key=len, default=f'place-{place}')}.mds"


CACHES: dict[Path, Cache] = {}
"""Those that this process has opened: all sets of a run share one."""
OPENING = threading.Lock()
PACES: list[Pace] = []
"""Of every store that this process has taken shards from."""


def counts() -> dict[str, float]:
    """What holding shards took in this process, all caches and stores together; the names are metrics of the run."""
    each = [cache.counts for cache in list(CACHES.values())]
    return {
        "cache_hits": sum(one.held - one.waited for one in each),
        "cache_waits": sum(one.waited for one in each),
        "cache_wait_seconds": sum(one.waited_seconds for one in each),
        "cache_fetched_bytes": sum(one.filled_bytes for one in each),
        "cache_fetched_shards": sum(one.filled for one in each),
        "store_retries": sum(pace.asked_again for pace in list(PACES)),
    }


def cache_at(folder: Path | None, limit: int | None, patience_seconds: float = PATIENCE_SECONDS) -> Cache:
    """The cache of this process in `folder`, opened once; null: where this machine keeps caches, as large as its disk permits."""
    folder = (folder or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dayrun" / "shards").absolute()
    with OPENING:
        if folder not in CACHES:
            CACHES[folder] = Cache(folder, limit or free_for(folder), patience_seconds)
        return CACHES[folder]


def close_cache(folder: Path) -> None:
    """Before `folder` is removed: the threads that fetch ahead into it end."""
    with OPENING:
        cache = CACHES.pop(folder.absolute(), None)
    if cache is not None:
        cache.close()


def shelf(url: str, cache: Path | None = None, limit: int | None = None, patience_seconds: float = PATIENCE_SECONDS) -> Shelf:
    """The shelf at `url`. cache: folder for what has to be fetched or unpacked, of at most `limit` bytes.

    patience_seconds: how long a store may be away before that is an error.
    """
    place, opened = place_of(url), partial(cache_at, cache, limit, patience_seconds)
    return CachedShelf(place, opened()) if "://" in place else FolderShelf(place, opened)


def place_of(url: str) -> str:
    """A folder or a store's URL: relative ones start at DAYRUN_DATA, which may be either, or at the current folder."""
    if url.startswith(FILE):
        return unquote(urlsplit(url).path)
    base = os.environ.get("DAYRUN_DATA", ".")
    if "://" in url or Path(url).is_absolute():
        return url
    return f"{base.rstrip('/')}/{url}" if "://" in base else str(Path(base) / url)


def folder_of(url: str) -> Path:
    """Where a file or folder of this machine lies: relative URLs start at DAYRUN_DATA, or at the current folder."""
    return Path(place_of(url))


def document(url: str, name: str) -> bytes | None:
    """A small file below `url` that is no shard, such as dataset.json; None when there is none."""
    try:
        place = place_of(url)
        return Origin(place).get(name) if "://" in place else (Path(place) / name).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def check_size(file: Path, expected: int) -> None:
    """Raises ShardError when `file` has not the bytes that the index says."""
    try:
        size = file.stat().st_size
    except FileNotFoundError:
        raise ShardError(file, None, "the index names it and it is not there", "copy it again, or convert again") from None
    if size != expected:
        raise ShardError(file, min(size, expected), f"has {size} bytes, the index says {expected}", "copy it again")
