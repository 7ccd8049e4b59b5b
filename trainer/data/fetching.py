"""One shard of an object store into one open file: in pieces, in time, and proven by the index's sizes and hashes.

A request that takes longer than nearly all did before is asked again beside, and the first answer counts. A store that is away is waited
for; bytes that are not what the index says are fetched again. Nothing here knows where the file will lie.
"""

import asyncio
import hashlib
import os
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, BinaryIO, TypeVar

from dayrun.objects import Prefix, StoreError, StoreRefused
from trainer.data.cache import PATIENCE_SECONDS
from trainer.data.compression import decompress
from trainer.data.errors import ShardError

T = TypeVar("T")

PIECE_BYTES = 8 * 2**20
PIECES_AT_ONCE = 4
DOWNLOADS = 3
"""How often a shard is fetched whose bytes are not what the index says, before the one in the store counts as damaged."""
SLOW_SHARE = 0.95
"""A request that takes longer than this share of the last ones did is asked again beside."""
SLOW_SECONDS = 0.5
"""...but none that takes less than this."""
UNKNOWN_SECONDS = 5.0
"""...and none that takes less than this while little is known."""
KNOWN = 16
"""Requests after which something is known."""
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0


class Pace:
    """How long requests for pieces took lately, in seconds; from that follows when one is slow. Shared by all fetches from one store."""

    def __init__(self) -> None:
        self._taken: deque[float] = deque(maxlen=8 * KNOWN)
        self.asked_again = 0

    def took(self, seconds: float) -> None:
        self._taken.append(seconds)

    @property
    def slow_seconds(self) -> float:
        taken = sorted(self._taken)
        if len(taken) < KNOWN:
            return UNKNOWN_SECONDS
        return max(SLOW_SECONDS, taken[int(SLOW_SHARE * len(taken))])


class Origin:
    """The shards of one folder of a store. `patience_seconds`: how long it may be away, or not let us through, before that is an error."""

    def __init__(self, url: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.prefix = Prefix(url, min(patience_seconds, LONGEST_PAUSE_SECONDS))  # the waiting is done here
        self.url, self.pace, self._patience = self.prefix.url, Pace(), patience_seconds

    def get(self, key: str) -> bytes:
        """All bytes of the small object `key`. Raises FileNotFoundError, StoreError."""

        async def whole() -> bytes:
            size = await self.prefix.get_size(key)
            return await in_time(lambda: self.prefix.get_piece(key, 0, size), self.pace) if size else b""

        return asyncio.run(self._asked(whole))

    def sizes(self) -> dict[str, int]:
        """Bytes of every object, by key. Raises StoreError."""
        found = asyncio.run(self._asked(lambda: asyncio.to_thread(self.prefix.objects)))
        return {info.key: info.bytes for info in found}

    def fetch(self, entry: dict[str, Any], file: BinaryIO) -> None:
        """Write the uncompressed shard of an entry of the index into `file`, from its beginning on.

        Raises ShardError when the store does not have it as the index says, StoreError when it cannot be asked.
        """
        asyncio.run(self._fetch(entry, file))

    async def _fetch(self, entry: dict[str, Any], file: BinaryIO) -> None:
        packed = entry.get("zip_data") if entry.get("compression") else None
        told = packed or entry["raw_data"]
        key, size = told["basename"], int(told["bytes"])
        place, trouble = f"{self.url}/{key}", ""
        for _ in range(DOWNLOADS):
            try:
                found = await self._asked(lambda: self.prefix.get_size(key))
                if found != size:
                    raise ShardError(place, min(found, size), f"has {found} bytes, the index says {size}", "upload it again")
                if packed:
                    trouble = await self._unpacked(entry, key, size, file)
                else:
                    await self._pieces(key, size, lambda start, data: os.pwrite(file.fileno(), data, start))
                    trouble = mismatch(told, lambda name: hash_of(file, size, name))
            except FileNotFoundError:
                raise ShardError(place, None, "the index names it and it is not there", "upload it again, or convert again") from None
            if not trouble:
                return
        raise ShardError(place, None, f"{trouble}, in {DOWNLOADS} downloads", "upload it again")

    async def _unpacked(self, entry: dict[str, Any], key: str, size: int, file: BinaryIO) -> str:
        """What is wrong with the bytes that came, compressed or not; empty when `file` now has the right ones."""
        data, raw = bytearray(size), entry["raw_data"]

        def put(start: int, piece: bytes) -> None:
            data[start : start + len(piece)] = piece

        await self._pieces(key, size, put)
        if trouble := mismatch(entry["zip_data"], lambda name: hashlib.new(name, data).hexdigest()):
            return trouble
        try:
            whole = decompress(entry["compression"], bytes(data), int(raw["bytes"]))
        except ImportError as error:
            raise ShardError(f"{self.url}/{key}", None, f"is compressed ({entry['compression']})", str(error)) from None
        except ValueError as error:
            return str(error)
        file.seek(0)
        file.write(whole)
        file.flush()
        return mismatch(raw, lambda name: hashlib.new(name, whole).hexdigest())

    async def _pieces(self, key: str, size: int, put: Callable[[int, bytes], object]) -> None:
        some = asyncio.Semaphore(PIECES_AT_ONCE)

        async def one(start: int) -> None:
            end = min(start + PIECE_BYTES, size)
            async with some:
                data = await self._asked(lambda: in_time(lambda: self.prefix.get_piece(key, start, end), self.pace))
            put(start, data)

        await asyncio.gather(*(one(start) for start in range(0, size, PIECE_BYTES)))  # when one fails, the others end with the loop

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` answers, however often it takes, until our patience ends. Raises StoreError, FileNotFoundError."""
        until, pause = time.monotonic() + self._patience, PAUSE_SECONDS
        while True:
            try:
                return await ask()
            except StoreRefused:
                raise
            except StoreError as error:
                if time.monotonic() + pause > until:
                    because = f"waited {self._patience:g} s for the store, as /data/cache/patience_seconds says"
                    raise StoreError(f"{error}; {because}") from error
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # not all ranks at the same moment
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


async def in_time(ask: Callable[[], Awaitable[T]], pace: Pace) -> T:
    """The first answer of `ask`, which is asked a second time when the first is slow. Raises what the last one to fail raised."""
    begun = time.monotonic()
    asked = {asyncio.ensure_future(ask())}
    try:
        done, _ = await asyncio.wait(asked, timeout=pace.slow_seconds)
        if not done:
            pace.asked_again += 1
            asked.add(asyncio.ensure_future(ask()))
        while True:
            done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            asked -= done
            for one in done:
                if one.exception() is None:
                    pace.took(time.monotonic() - begun)
                    return one.result()
                if not asked:
                    return one.result()
    finally:
        for one in asked:
            one.cancel()


def mismatch(told: dict[str, Any], found: Callable[[str], str]) -> str:
    """What the first hash that can be checked and is wrong says; empty when all is well. `found`: hexdigest by name."""
    for name, wanted in (told.get("hashes") or {}).items():
        if name in hashlib.algorithms_available and (digest := found(name)) != wanted:
            return f"its {name} is {digest}, the index says {wanted}"
    return ""


def hash_of(file: BinaryIO, size: int, name: str) -> str:
    """Hexdigest of the first `size` bytes of an open file."""
    digest, place = hashlib.new(name), 0
    while place < size:
        data = os.pread(file.fileno(), min(PIECE_BYTES, size - place), place)
        if not data:
            break
        digest.update(data)
        place += len(data)
    return digest.hexdigest()
