"""A prefix in a folder or in an object store, behind one type (obstore does the work).

Keys are relative, with forward slashes. A put is atomic: a reader sees the old bytes or the new, never a part. Nothing here knows
what the bytes mean.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.store import LocalStore, from_url


@dataclass(frozen=True)
class ObjectInfo:
    key: str
    bytes: int


class Prefix:
    """Everything under one URL: a folder (`runs/1`, `/data`, `file:///data`) or an object-store prefix (`s3://bucket/runs/1`).

    A folder is created when it is missing. Credentials of object stores come from the environment, as their own tools read them.
    """

    def __init__(self, url: str | Path) -> None:
        parts = urlsplit(str(url))
        self.path: Path | None = None
        """The folder, or None for an object store."""
        if parts.scheme in ("", "file"):
            self.path = Path(unquote(parts.path) if parts.scheme else str(url)).absolute()
            self.url = str(self.path)
            self._store: Any = LocalStore(self.path, mkdir=True)
        else:
            self.url = str(url).rstrip("/")
            self._store = from_url(self.url)

    def __repr__(self) -> str:
        return f"Prefix({self.url!r})"

    def child(self, name: str) -> "Prefix":
        """The prefix `name` under this one."""
        return Prefix(f"{self.url}/{name}")

    def get(self, key: str) -> bytes:
        """All bytes of `key`. Raises FileNotFoundError."""
        try:
            return bytes(obstore.get(self._store, key).bytes())
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self.url}/{key}") from error

    def get_from(self, key: str, start: int) -> bytes:
        """The bytes of `key` from offset `start` on; empty when there are none. Raises FileNotFoundError."""
        size = self.size(key)
        return bytes(obstore.get_range(self._store, key, start=start, end=size)) if start < size else b""

    def size(self, key: str) -> int:
        """Bytes of `key`. Raises FileNotFoundError."""
        try:
            return obstore.head(self._store, key)["size"]
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self.url}/{key}") from error

    def exists(self, key: str) -> bool:
        try:
            self.size(key)
        except FileNotFoundError:
            return False
        return True

    def put(self, key: str, data: bytes) -> None:
        """Write `key`, replacing what was there, at once or not at all. Raises OSError when the store cannot take it."""
        obstore.put(self._store, key, data, use_multipart=False)

    def delete(self, key: str) -> None:
        """Remove `key`; it is fine if it is gone already."""
        try:
            obstore.delete(self._store, key)
        except FileNotFoundError:
            return

    def objects(self, under: str = "") -> list[ObjectInfo]:
        """Every object whose key lies under the folder `under`, in key order."""
        found: list[ObjectInfo] = []
        batches: Any = obstore.list(self._store, under or None)  # pyright: ignore[reportUnknownMemberType]
        for batch in batches:
            found += [ObjectInfo(meta["path"], meta["size"]) for meta in batch]
        return sorted(found, key=lambda info: info.key)

    def folders(self, under: str) -> list[str]:
        """Names of the folders right under `under`, in order."""
        result: Any = obstore.list_with_delimiter(self._store, under or None)  # pyright: ignore[reportUnknownMemberType]
        return sorted(prefix.rstrip("/").rsplit("/", 1)[-1] for prefix in result["common_prefixes"])
