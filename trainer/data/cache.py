"""A folder of files with a byte limit, shared by every process of this machine that names it: what it holds, what goes, what comes next.

Nothing in it can be left behind by a kill. What a process says, it says by locks on open files (flock), which the kernel lets go of when
the process ends: a shared lock on a file keeps it from being evicted, an exclusive one on `claims/NAME` says that it is being filled, one
on a list in `needs/` that whoever wrote it still lives. A file gets its name when it is whole. What makes it whole is not known here.
"""

import fcntl
import math
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from trainer.data.coming import Coming
from trainer.data.locks import is_at, left_behind

PART = ".part"
CLAIMS, NEEDS = "claims", "needs"
RESERVE = 0.15
"""Of a disk, which a cache that nobody set a limit for leaves free: with less, a kubelet begins to evict pods."""
FETCHING = 2
"""Files that one process fetches ahead at the same time."""
LOOK_SECONDS = 0.5
"""Between looks at what other processes have changed: no notice comes from them."""
PATIENCE_SECONDS = 120.0
"""How long a cache waits for what keeps it from giving a file. Shorter than the time after which a step counts as hanging."""


class CacheFull(OSError):
    """All that is in the cache is in use. The message says the limit with which there would have been room."""


@dataclass(frozen=True)
class Item:
    """A file that can be made whenever it is needed."""

    name: str
    """Says the content: two items of one name are the same bytes."""
    bytes: int
    fill: Callable[[BinaryIO], None] = field(compare=False)
    """Writes the content into an open file; raises what keeps it from that."""
    room: int = 0
    """Bytes that filling takes beyond `bytes`, until it is over."""


@dataclass
class Counts:
    """What holding files took, in this process."""

    held: int = 0
    waited: int = 0  # of these, how many were not there yet
    waited_seconds: float = 0.0
    filled: int = 0  # files that this process made
    filled_bytes: int = 0


@dataclass(frozen=True)
class Present:
    """A file that lies in the cache."""

    name: str
    bytes: int
    used: float  # when it was last held or made, seconds


def leaving(present: Iterable[Present], due: dict[str, float], after: float) -> list[Present]:
    """Which files may go for one that is needed at `after`, the first to go first: Belady's order.

    `due` says when each is needed next, on any scale. First go those that nobody has named, the longest unused before the others; then
    those that are needed last. None that is needed before `after`, or then, is in the list.
    """
    free = [file for file in present if due.get(file.name, math.inf) > after]
    return sorted(free, key=lambda file: (-due.get(file.name, math.inf), file.used, file.name))


class Cache:
    """The files of `folder`, at most `limit` bytes of them. Several caches, in any processes, may have the same folder.

    `patience_seconds`: how long `hold` waits for room. Raises OSError when the folder cannot be written to.
    """

    def __init__(self, folder: Path, limit: int, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.folder, self.limit, self.patience_seconds, self.counts = folder, limit, patience_seconds, Counts()
        for name in (CLAIMS, NEEDS):
            (folder / name).mkdir(parents=True, exist_ok=True)
        with self._alone():  # or another, counting, would take the list for one that was left behind
            number, name = tempfile.mkstemp(dir=folder / NEEDS)
            self._said, self._said_at = os.fdopen(number, "w+"), Path(name)
            fcntl.flock(self._said, fcntl.LOCK_EX)
        self._changed = threading.Condition()
        self._coming: dict[object, Coming[Item]] = {}
        self._order: list[tuple[float, Item]] | None = None
        self._trouble: Exception | None = None
        self._hopeless: set[str] = set()
        self._threads: list[threading.Thread] = []
        self._turn = threading.Lock()  # of the threads that fetch ahead: room is made in the order of what is needed
        self._closed = False
        self.used()

    def close(self) -> None:
        """Nothing is fetched ahead any more, and nothing is kept for us."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(self.patience_seconds)
        self._said_at.unlink(missing_ok=True)
        self._said.close()

    # holding
    @contextmanager
    def hold(self, item: Item) -> Iterator[Path]:
        """The whole file of `item`, which stays as long as the block lasts.

        Raises what its `fill` raises, CacheFull, and what an order of `will_need` raised.
        """
        if self._trouble is not None:
            raise self._trouble
        self.counts.held += 1
        file = self._present(item)
        if file is None:
            begun = time.monotonic()
            file = self._filled(item, due=-1.0, wait=True)
            assert file is not None
            self.counts.waited += 1
            self.counts.waited_seconds += time.monotonic() - begun
        with file:
            with suppress(PermissionError):  # of a file that another user's process has made
                os.utime(file.fileno())
            yield self.folder / item.name

    def _present(self, item: Item) -> BinaryIO | None:
        """The file of `item`, locked against eviction; None when it is not there."""
        path = self.folder / item.name
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        fcntl.flock(file, fcntl.LOCK_SH)
        found = os.fstat(file.fileno())
        if found.st_nlink and found.st_size == item.bytes:
            return file
        if found.st_nlink:  # not the bytes that were made whole here: the disk lost them, or somebody wrote here
            path.unlink(missing_ok=True)
        file.close()
        return None

    def _filled(self, item: Item, due: float, wait: bool, begun: Callable[[], None] = lambda: None) -> BinaryIO | None:
        """The file of `item`, made if need be, locked against eviction. None, with `wait` off, when others make it or there is no room.

        begun: called once there is room, before the file is filled.
        """
        claim = self.folder / CLAIMS / item.name
        while True:
            with claim.open("a") as claimed:
                try:
                    fcntl.flock(claimed, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                except BlockingIOError:
                    return None
                if not is_at(claimed, claim):  # whoever had it has filled the file, or swept the claim away
                    if found := self._present(item):
                        return found
                    continue
                try:
                    return self._present(item) or self._made(item, due, wait, begun)
                finally:
                    claim.unlink()

    def _made(self, item: Item, due: float, wait: bool, begun: Callable[[], None]) -> BinaryIO | None:
        """The file of `item`, which is claimed for us, made and locked against eviction. None, with `wait` off, when there is no room."""
        part = self.folder / (item.name + PART)
        file = part.open("w+b")
        try:
            if not self._room(item, file, due, wait):
                file.close()
                part.unlink()
                return None
            begun()
            item.fill(file)
            file.flush()
            os.ftruncate(file.fileno(), item.bytes)
            os.fsync(file.fileno())  # a name that outlives a loss of power must not stand for bytes that did not
            fcntl.flock(file, fcntl.LOCK_SH)
            with self._alone():  # who counts meanwhile must not see it under both names
                part.rename(self.folder / item.name)
        except BaseException:
            file.close()
            part.unlink(missing_ok=True)
            raise
        self.counts.filled += 1
        self.counts.filled_bytes += item.bytes
        return file

    # room
    def _room(self, item: Item, file: BinaryIO, due: float, wait: bool) -> bool:
        """Make room for `item`, and take it by the size of `file`; whether there is any. Waits for others with `wait`. Raises CacheFull."""
        until = time.monotonic() + self.patience_seconds
        while True:
            missing = self._reserve(item, file, due)
            if not missing:
                return True
            if not wait:
                return False
            if time.monotonic() > until:
                raise CacheFull(
                    f"/data/cache/bytes: {self.limit}: {self.folder} is full of files in use, and {item.name} needs {missing} bytes more; "
                    f"nearest: {self.limit + missing}"
                )
            time.sleep(min(LOOK_SECONDS, 0.05))

    def _reserve(self, item: Item, file: BinaryIO, due: float) -> int:
        """Give `file` the size that `item` takes, evicting for it what is needed later than `due`; else the bytes that are missing."""
        os.ftruncate(file.fileno(), 0)
        with self._alone():
            missing = self._swept() + item.bytes + item.room - self.limit
            if missing > 0:
                free = leaving(self.present(), self._due(), due)
                if sum(one.bytes for one in free) < missing:
                    return missing
                for one in free:
                    if missing > 0 and self._evict(one.name):
                        missing -= one.bytes
                if missing > 0:
                    return missing
            os.ftruncate(file.fileno(), item.bytes + item.room)
            return 0

    def present(self) -> list[Present]:
        """Every whole file."""
        found: list[Present] = []
        for entry in os.scandir(self.folder):
            with suppress(FileNotFoundError):
                if entry.is_file() and not entry.name.endswith(PART) and not entry.name.startswith("."):
                    about = entry.stat()
                    found.append(Present(entry.name, about.st_size, about.st_mtime))
        return found

    def used(self) -> int:
        """Bytes of all files, whole or not."""
        with self._alone():
            return self._swept()

    def _swept(self) -> int:
        """Remove files that were being filled by a process that is gone; the bytes of all that is left, whole or not."""
        for claim in (self.folder / CLAIMS).iterdir():
            left_behind(claim, (self.folder / (claim.name + PART)).unlink)
        total = 0
        for entry in os.scandir(self.folder):
            with suppress(FileNotFoundError):
                total += entry.stat().st_size if entry.is_file() else 0
        return total

    def _evict(self, name: str) -> bool:
        """Whether the file `name` went: nobody held it."""
        path = self.folder / name
        with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            return True
        return False

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process, and no other thread, counts or evicts meanwhile."""
        with (self.folder / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    # what comes next
    def will_need(self, whose: object, items: Iterable[tuple[float, Item]], span: float = 0.0) -> None:
        """What `whose` holds from now on, and when first: fetched ahead, earliest first, and kept. Replaces what it said before.

        items: may be endless, and is followed by a thread of the cache. When: ascending, on a scale that all users of the folder share.
        span: for how long an item is held now and then, on that scale.
        """
        with self._changed:
            self._coming[whose] = Coming(items, span)
            self._order = None
            while len(self._threads) < FETCHING and not self._closed:
                thread = threading.Thread(target=self._fetch_ahead, name="cache", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify_all()

    def passed(self, whose: object, item: Item) -> None:
        """`whose` holds `item` now: it is needed again when it comes up again."""
        coming = self._coming.get(whose)
        if coming is not None and coming.passed(item.name):
            with self._changed:
                self._order = None
                self._changed.notify_all()

    def _in_order(self) -> list[tuple[float, Item]]:
        """What all users in this process will need, as far as it is in sight; others can read it, too."""
        with self._changed:
            if self._order is None:
                self._order = sorted((one for coming in self._coming.values() for one in coming.ahead()), key=lambda one: one[0])
                due: dict[str, float] = {}
                for when, item in self._order:
                    due.setdefault(item.name, when)
                self._say(due)
            return self._order

    def _say(self, due: dict[str, float]) -> None:
        with self._alone():
            self._said.seek(0)
            self._said.truncate()
            self._said.writelines(f"{when!r} {name}\n" for name, when in due.items())
            self._said.flush()

    def due(self) -> dict[str, float]:
        """When each file is needed next by any process that lives, from now."""
        with self._alone():
            return self._due()

    def _due(self) -> dict[str, float]:
        due: dict[str, float] = {}
        for path in (self.folder / NEEDS).iterdir():
            if path != self._said_at and left_behind(path):
                continue
            with suppress(FileNotFoundError):
                for line in path.read_text().splitlines():
                    when, _, name = line.partition(" ")
                    due[name] = min(float(when), due.get(name, math.inf))
        return due

    def _fetch_ahead(self) -> None:
        try:
            while not self._closed:
                with ExitStack() as turn:
                    turn.enter_context(self._turn)
                    order = self._in_order()  # within the turn: no other thread says anew what is needed while room is made by this order
                    fetched = self._fetched_one(order, turn.close)
                if not fetched and not self._looked_further():
                    with self._changed:
                        if self._order is order and not self._closed:
                            self._changed.wait(LOOK_SECONDS)
        except Exception as error:
            self._trouble = error

    def _fetched_one(self, order: list[tuple[float, Item]], begun: Callable[[], None]) -> bool:
        """Whether something was fetched; if not, then all that is in sight is there, or on its way, or there is no room."""
        for due, item in order:
            if self._closed or item.name in self._hopeless or (self.folder / item.name).exists():
                continue
            fetched = self._fetched(item, due, begun)
            if fetched is not None:
                return fetched
        return False

    def _looked_further(self) -> bool:
        """Whether more is in sight now: of whose order the least was, so that what comes can be compared."""
        for coming in sorted(self._coming.values(), key=lambda coming: coming.horizon):
            if coming.look(2 * self.limit):
                with self._changed:
                    self._order = None
                return True
        return False

    def _fetched(self, item: Item, due: float, begun: Callable[[], None]) -> bool | None:
        """Whether it was; None while others are at it. False: there is no room, nor is there for what is needed later."""
        try:
            if file := self._filled(item, due, wait=False, begun=begun):
                file.close()
                return True
            return None if (self.folder / CLAIMS / item.name).exists() else False
        except OSError:
            return False  # whoever needs it tries again, and tells
        except Exception:
            self._hopeless.add(item.name)  # the same
            return True


def free_for(folder: Path) -> int:
    """The limit of a cache in `folder` that nobody set one for: what its disk has to spare, or half of what is free where that is more."""
    folder.mkdir(parents=True, exist_ok=True)
    held = sum(entry.stat().st_size for entry in os.scandir(folder) if entry.is_file())
    disk = shutil.disk_usage(folder)
    return held + max(disk.free - int(RESERVE * disk.total), disk.free // 2)
