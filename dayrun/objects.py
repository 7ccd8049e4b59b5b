"""A prefix in a folder or in an object store, behind one type (obstore does the work).

Keys are relative, with forward slashes. A put is atomic: a reader sees the old bytes or the new, never a part. What a store answers
with "not now" is tried again, with growing pauses, for as long as the prefix has patience. Nothing here knows what the bytes mean.
"""

import hashlib
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import LocalStore, from_url

PATIENCE_SECONDS = 10.0
"""How long a store may be away before a request to it fails."""
PIECE_BYTES = 16 * 2**20
"""Large files travel in pieces of this size, a few at a time: bounds memory, and no piece comes near a request's time limit."""
PIECES_AT_ONCE = 4


class StoreError(OSError):
    """The store is away, or refuses. Says nothing about what is in it: absence is FileNotFoundError."""


class StoreRefused(StoreError):
    """The store does not let us: trying again will not help."""


@dataclass(frozen=True)
class ObjectInfo:
    key: str
    bytes: int


class Prefix:
    """Everything under one URL: a folder (`runs/1`, `/data`, `file:///data`) or an object-store prefix (`s3://bucket/runs/1`).

    A folder is created when it is missing. Endpoint and credentials of object stores come from the environment, as their own tools
    read them (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION; AWS_ALLOW_HTTP=true for one without TLS).
    """

    def __init__(self, url: str | Path, patience_seconds: float = PATIENCE_SECONDS) -> None:
        parts = urlsplit(str(url))
        self.path: Path | None = None
        """The folder, or None for an object store."""
        self.patience_seconds = patience_seconds
        if parts.scheme in ("", "file"):
            self.path = Path(unquote(parts.path) if parts.scheme else str(url)).absolute()
            self.url = str(self.path)
            self._store: Any = LocalStore(self.path, mkdir=True)
        else:
            self.url = str(url).rstrip("/")
            self._store = from_url(
                self.url,
                retry_config={
                    "retry_timeout": timedelta(seconds=patience_seconds),
                    "max_retries": 1000,  # time is the limit, not their number
                    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
                },
            )

    def __repr__(self) -> str:
        return f"Prefix({self.url!r})"

    def child(self, name: str) -> "Prefix":
        """The prefix `name` under this one."""
        return Prefix(f"{self.url}/{name}", self.patience_seconds)

    # reading
    def get(self, key: str) -> bytes:
        """All bytes of `key`. Raises FileNotFoundError."""
        with self._speaking_of(key):
            return bytes(obstore.get(self._store, key).bytes())

    def get_from(self, key: str, start: int, most: int | None = None) -> bytes:
        """The bytes of `key` from offset `start` on, at most `most`; empty when there are none. Raises FileNotFoundError."""
        size = self.size(key)
        end = size if most is None else min(size, start + most)
        if start >= end:
            return b""
        with self._speaking_of(key):
            return bytes(obstore.get_range(self._store, key, start=start, end=end))

    async def get_piece(self, key: str, start: int, end: int) -> bytes:
        """The bytes of `key` from offset `start` to before `end`; cancelling it ends the request. Raises FileNotFoundError."""
        with self._speaking_of(key):
            return bytes(await obstore.get_range_async(self._store, key, start=start, end=end))

    async def get_size(self, key: str) -> int:
        """Bytes of `key`, without holding a thread. Raises FileNotFoundError."""
        with self._speaking_of(key):
            return (await obstore.head_async(self._store, key))["size"]

    def get_file(self, key: str, path: Path) -> str:
        """Copy `key` to the file `path`; returns the SHA-256 of what was written. Raises FileNotFoundError."""
        size, digest = self.size(key), hashlib.sha256()
        starts = range(0, size, PIECE_BYTES)
        with path.open("wb") as file:
            for first in range(0, len(starts), PIECES_AT_ONCE):
                some = starts[first : first + PIECES_AT_ONCE]
                with self._speaking_of(key):
                    pieces = obstore.get_ranges(self._store, key, starts=some, ends=[min(start + PIECE_BYTES, size) for start in some])
                for piece in pieces:
                    file.write(piece)
                    digest.update(piece)
        return digest.hexdigest()

    def size(self, key: str) -> int:
        """Bytes of `key`. Raises FileNotFoundError."""
        with self._speaking_of(key):
            return obstore.head(self._store, key)["size"]

    def exists(self, key: str) -> bool:
        try:
            self.size(key)
        except FileNotFoundError:
            return False
        return True

    def objects(self, under: str = "") -> list[ObjectInfo]:
        """Every object whose key lies under the folder `under`, in key order."""
        found: list[ObjectInfo] = []
        with self._speaking_of(under):
            batches: Any = obstore.list(self._store, under or None)  # pyright: ignore[reportUnknownMemberType]
            for batch in batches:
                found += [ObjectInfo(meta["path"], meta["size"]) for meta in batch]
        return sorted(found, key=lambda info: info.key)

    def folders(self, under: str) -> list[str]:
        """Names of the folders right under `under`, in order."""
        with self._speaking_of(under):
            result: Any = obstore.list_with_delimiter(self._store, under or None)  # pyright: ignore[reportUnknownMemberType]
        return sorted(prefix.rstrip("/").rsplit("/", 1)[-1] for prefix in result["common_prefixes"])

    # writing
    def put(self, key: str, data: bytes) -> None:
        """Write `key`, replacing what was there, at once or not at all. Raises OSError when the store cannot take it."""
        with self._speaking_of(key, writing=True):
            obstore.put(self._store, key, data, use_multipart=False)

    def create(self, key: str, data: bytes) -> None:
        """Write `key` if there is nothing yet. Raises FileExistsError when there is something else than `data`."""
        try:
            with self._speaking_of(key, writing=True):
                obstore.put(self._store, key, data, mode="create")
        except FileExistsError:
            if self.get(key) != data:  # it is ours when the first answer was lost and the request came twice
                raise

    def put_file(self, key: str, path: Path) -> None:
        """Write the content of the file `path` to `key`, at once or not at all; in parallel parts when it is large."""
        path.stat()  # a file that is not there is no missing bucket
        with self._speaking_of(key, writing=True):
            obstore.put(self._store, key, path, chunk_size=PIECE_BYTES, max_concurrency=PIECES_AT_ONCE)

    def delete(self, key: str) -> None:
        """Remove `key`; it is fine if it is gone already."""
        try:
            with self._speaking_of(key):
                obstore.delete(self._store, key)
        except FileNotFoundError:
            return

    def delete_all(self, under: str) -> None:
        """Remove every object under the folder `under`, and the folder."""
        if self.path is not None:
            shutil.rmtree(self.path / under, ignore_errors=True)
        elif keys := [info.key for info in self.objects(under)]:
            with self._speaking_of(under):
                obstore.delete(self._store, keys)

    @contextmanager
    def _speaking_of(self, key: str, writing: bool = False) -> Generator[None]:
        """Everything that can go wrong with a store as an OSError that names the object."""
        place = f"{self.url}/{key}"
        try:
            yield
        except FileNotFoundError as error:
            raise (StoreError(f"{place}: the store has no such bucket") if writing else FileNotFoundError(place)) from error
        except AlreadyExistsError as error:
            raise FileExistsError(place) from error
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise StoreRefused(f"{place}: {str(error).splitlines()[0]}") from error
        except BaseError as error:
            raise StoreError(f"{place}: {str(error).splitlines()[0]}") from error


def read_url(url: str) -> bytes:
    """The one object or file at `url`. Raises FileNotFoundError."""
    if "://" not in url:
        return Path(url).read_bytes()
    parent, _, name = url.rpartition("/")
    return Prefix(parent).get(name)
