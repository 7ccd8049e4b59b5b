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


class Named(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def bytes(self) -> int: ...


T = TypeVar("T", bound=Named)


class Coming(Generic[T]):
    """One reader's order. `items`: when each is needed first, ascending on any scale, and what. Safe to use from threads."""

    def __init__(self, items: Iterable[tuple[float, T]]) -> None:
        self._items: Iterator[tuple[float, T]] = iter(items)
        self._ahead: list[tuple[float, T]] = []
        self._names: Counter[str] = Counter()
        self._over = False
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
            self._over = self._over or (not found and self._wants_more(far))
        return bool(found)

    def _wants_more(self, far: int) -> bool:
        with self._lock:
            again = self._names.total() > len(self._names)
            return not self._over and not again and sum(item.bytes for _, item in self._ahead) < far

    def passed(self, name: str) -> bool:
        """`name` is held, and next needed when it comes up again; whether that was known to come."""
        with self._lock:
            if name not in self._names:
                return False
            place = next(i for i, (_, item) in enumerate(self._ahead) if item.name == name)
            for gone in [self._ahead[place], *self._ahead[: max(0, place - BEHIND)]]:
                self._ahead.remove(gone)
                self._names -= Counter({gone[1].name: 1})
            return True

    def ahead(self) -> list[tuple[float, T]]:
        """What is in sight, and when it is needed, from now."""
        with self._lock:
            return [(when - self._ahead[0][0], item) for when, item in self._ahead]

    @property
    def horizon(self) -> float:
        """How far from now the last item in sight is; infinite where there are no more."""
        with self._lock:
            return math.inf if self._over else (self._ahead[-1][0] - self._ahead[0][0] if self._ahead else 0.0)
