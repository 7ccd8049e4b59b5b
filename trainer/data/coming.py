"""What the readers of a cache will hold next, looked at no further than is of use: their orders may be endless, and cost time to follow.

When something is needed is counted on one scale for all readers of a machine, from now. It knows no files.
"""

import math
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar

BEHIND = 32
"""Items that may still be held after one that was to be held later: threads are not in step."""
SOME = 16
"""Items that are looked at before anything is fetched again."""
FAR = 4096
"""Items in sight: what comes after so many is equally far away."""


class Named(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def bytes(self) -> int: ...


T = TypeVar("T", bound=Named)


class Coming(Generic[T]):
    """One reader's order. Safe to use from threads.

    items: when each is needed first, ascending on any scale, and what. span: for how long after that it is in use, now and then; it is over
    when an item is held that comes so much later.
    """

    def __init__(self, items: Iterable[tuple[float, T]], span: float = 0.0) -> None:
        self._items: Iterator[tuple[float, T]] = iter(items)
        self._span, self._now = span, -math.inf
        self._ahead: list[tuple[float, T]] = []
        self._in_use: list[tuple[float, T]] = []
        self._names: Counter[str] = Counter()
        self._bytes, self._over = 0, False
        self._lock, self._looking = threading.Lock(), threading.Lock()

    def look(self, far: int) -> bool:
        """Look at some more items, unless `far` bytes are in sight or one came up a second time; whether there were any."""
        found: list[tuple[float, T]] = []
        with self._looking:  # not the other lock: an order may take its time
            while len(found) < SOME and self._wants_more(far) and (one := next(self._items, None)) is not None:
                found.append(one)
                with self._lock:
                    self._ahead.append(one)
                    self._names[one[1].name] += 1
                    self._bytes += one[1].bytes
            self._over = self._over or (not found and self._wants_more(far))
        return bool(found)

    def _wants_more(self, far: int) -> bool:
        with self._lock:
            again = len(self._ahead) > len(self._names)
            return not self._over and not again and self._bytes < far and len(self._ahead) < FAR

    def passed(self, name: str) -> bool:
        """`name` is held: in use from now on, and after that when it comes up again; whether that was known to come."""
        with self._lock:
            if name not in self._names:
                return False
            place = next(i for i, (_, item) in enumerate(self._ahead) if item.name == name)
            self._now = max(self._now, self._ahead[place][0])
            for one in [self._ahead[place], *self._ahead[: max(0, place - BEHIND)]]:
                self._ahead.remove(one)
                self._in_use.append(one)
                self._bytes -= one[1].bytes
                self._names[one[1].name] -= 1
                if not self._names[one[1].name]:
                    del self._names[one[1].name]
            self._in_use = [one for one in self._in_use if self._now - one[0] < self._span]
            return True

    def ahead(self) -> list[tuple[float, T]]:
        """What is in use or in sight, and when it is needed, from now."""
        with self._lock:
            return [(0.0, item) for _, item in self._in_use] + [(when - self._ahead[0][0], item) for when, item in self._ahead]

    @property
    def horizon(self) -> float:
        """How far from now the last item in sight is; infinite where there are no more."""
        with self._lock:
            return math.inf if self._over else (self._ahead[-1][0] - self._ahead[0][0] if self._ahead else 0.0)
