"""Text that grows, on stores that cannot append: numbered parts, of which the last is put again, whole, while it grows.

A part that has grown past a limit is closed and never written again, so that a reader needs no more than (part, offset) to go on, and
one flush rewrites a bounded number of bytes. Whoever writes never waits for the store. Names of objects are the caller's.
"""

import json
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dayrun.objects import Prefix

PART_BYTES = 256 * 1024
"""A part that has grown past this is closed and the next one begun: bounds what one flush rewrites."""


class GrowingText:
    """Appends bytes under `key_of(part)`; `flush` makes them visible. Safe to call from several threads.

    `fence` is called before each flush writes anything, and may raise. While the store is away, closed parts wait in memory; with
    `most_waiting`, the oldest beyond that many are given up, and a line says how much that was.
    """

    def __init__(
        self,
        prefix: Prefix,
        key_of: Callable[[int], str],
        first_part: int = 0,
        fence: Callable[[], None] = lambda: None,
        most_waiting: int | None = None,
    ) -> None:
        self._prefix, self._key_of, self._fence, self._most_waiting = prefix, key_of, fence, most_waiting
        self._part, self._open, self._dirty = first_part, bytearray(), False
        self._closed = deque[tuple[int, bytes]]()
        self._lock = threading.Lock()  # for the text: held for moments only
        self._flushing = threading.Lock()  # for the store: held while it is slow

    def append(self, data: bytes) -> None:
        with self._lock:
            self._open += data
            self._dirty = True
            if len(self._open) > PART_BYTES:
                self._closed.append((self._part, bytes(self._open)))
                self._part, self._open, self._dirty = self._part + 1, bytearray(), False
                self._give_up_what_waits_too_long()

    def flush(self) -> None:
        """Raises OSError when the store cannot take the text; it is kept and goes with the next flush."""
        with self._flushing:
            while True:
                with self._lock:
                    closed = self._closed[0] if self._closed else None
                    if closed is None and not self._dirty:
                        return
                    part, data = closed or (self._part, bytes(self._open))
                    self._dirty = self._dirty and closed is not None
                try:
                    self._fence()
                    self._prefix.put(self._key_of(part), data)
                except BaseException:
                    with self._lock:
                        self._dirty = self._dirty or bool(self._open)
                    raise
                with self._lock:
                    if self._closed and self._closed[0] is closed:
                        self._closed.popleft()

    def _give_up_what_waits_too_long(self) -> None:
        lost = 0
        while self._most_waiting is not None and len(self._closed) > self._most_waiting:
            lost += len(self._closed.popleft()[1])
        if lost:
            self._open += f"\n[{lost:,} bytes are missing here: the store took nothing for too long]\n".encode()
            self._dirty = True


class JsonLines(GrowingText):
    """Growing text of one JSON value a line; no reader sees half of one, since a part ends where a line does."""

    def write(self, line: Any) -> None:
        """Raises ValueError for what JSON cannot say (NaN, infinity)."""
        self.append(json.dumps(line, separators=(",", ":"), allow_nan=False).encode() + b"\n")


@dataclass
class Cursor:
    """How far a reader has come: bytes read of each part. Serialise with `to_json`; a new cursor starts at the beginning."""

    offsets: dict[str, int] = field(default_factory=dict[str, int])

    def to_json(self) -> str:
        return json.dumps(self.offsets, separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Cursor":
        return cls(json.loads(text or "{}"))
