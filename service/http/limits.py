"""How often somebody may ask: token buckets, in the memory of one process. Knows neither requests nor who anybody is.

A bucket that has not been touched for long is forgotten; it would be full again anyway.
"""

import math
from collections import OrderedDict
from typing import NamedTuple

MOST_BUCKETS = 10_000
"""About 2 MB. Beyond it the least recently used is forgotten, and its owner starts anew with a full one."""


class Left(NamedTuple):
    """What a bucket holds after it was asked."""

    allowed: bool
    tokens: int
    seconds: float
    """Until the next token where there is none, else until the bucket is full."""


class Buckets:
    """One bucket of `burst` tokens each, refilled by `per_second`."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second, self.burst = per_second, burst
        self.window_seconds = math.ceil(burst / per_second)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, when

    def take(self, owner: str, at: float, count: int = 1) -> Left:
        """Take `count` tokens (0 only looks) of `owner`'s bucket at the monotonic time `at`; none are taken where there are too few."""
        tokens, before = self._buckets.pop(owner, (float(self.burst), at))
        tokens = min(float(self.burst), tokens + (at - before) * self._per_second)
        allowed = tokens >= max(1, count)
        if allowed:
            tokens -= count
        self._buckets[owner] = (tokens, at)
        if len(self._buckets) > MOST_BUCKETS:
            self._buckets.popitem(last=False)
        missing = self.burst - tokens if allowed else 1 - tokens
        return Left(allowed, int(tokens), missing / self._per_second)
