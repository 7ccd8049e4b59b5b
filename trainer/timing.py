"""Where the time goes: the parts of a step by clock or, on a GPU, by events that are read long after, so that nothing waits to be timed.

It also says at any moment what the process is doing and since when, which is what `watch.py` looks at from its thread.
"""

import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from dayrun.tracing import Start

Part = Literal["data_wait", "forward", "backward", "communication", "optimizer", "start", "checkpoint", "preview", "evaluation"]
ON_DEVICE = ("forward", "backward", "communication", "optimizer")
"""What a GPU does behind the program's back: a clock would time the orders, not the work."""
SLOW = ("start", "checkpoint", "preview", "evaluation")
"""What may take minutes, and is no part of a step."""
OWN = ("data_wait", "forward", "backward")
"""What a rank does by itself. With sharded weights forward and backward wait for others, too, and all ranks look alike."""
RECENT_STEPS = 100


class Timing:
    """Seconds by part since they were last taken, and what is going on now."""

    def __init__(self, device: torch.device, start: Start | None = None) -> None:
        """start: what is told of the way to the first step."""
        self._start = start
        self._events = device.type == "cuda"
        self._seconds: dict[str, float] = defaultdict(float)
        self._pending: deque[tuple[str, torch.cuda.Event, torch.cuda.Event]] = deque()
        self._begun = time.monotonic()
        self.doing: str = "start"
        """The part that goes on now. Read by other threads."""
        self.moved = self._begun
        """When something was last known to have got on: a step or a slow part ended. Read by other threads."""
        self.step = 0
        self.recent: deque[float] = deque(maxlen=RECENT_STEPS)
        self.steps, self.step_seconds = 0, 0.0
        self.warm = False
        """Whether a step of this stage has ended: the first one compiles."""

    @contextmanager
    def part(self, name: Part) -> Iterator[None]:
        """What happens in this block is `name`. Blocks may lie in each other; the outer one's time contains the inner one's."""
        outer, self.doing = self.doing, name
        if name in SLOW:
            self.moved = time.monotonic()
        begun, first = time.perf_counter(), self._mark(name)
        try:
            yield
        finally:
            last = self._mark(name)
            if first is not None and last is not None:
                self._pending.append((name, first, last))
            else:
                self._seconds[name] += time.perf_counter() - begun
            if name in SLOW:
                self.moved = time.monotonic()
            self.doing = outer

    def _mark(self, name: str) -> torch.cuda.Event | None:
        if not self._events or name not in ON_DEVICE:
            return None
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def get_on(self) -> None:
        """Something inside a slow part has got on."""
        self.moved = time.monotonic()

    def begin_stage(self) -> None:
        self.doing, self.warm, self.moved = "start", False, time.monotonic()

    def begin_step(self) -> None:
        if self._start is not None:
            self._start.done("data and pictures")
        self._begun = time.monotonic()

    def end_step(self, step: int) -> None:
        now = time.monotonic()
        if self.warm:
            self.recent.append(now - self._begun)
        self.steps += 1
        self.step_seconds += now - self._begun
        self.step, self.moved, self.warm, self.doing = step, now, True, "step"
        if self._start is not None:
            self._start.done("first step")
            self._start.end()
            self._start = None

    def take(self) -> dict[str, float]:
        """Seconds by part since the last call, and `steps` and `step_seconds`. What a GPU has not finished counts the next time."""
        while self._pending and self._pending[0][2].query():
            name, first, last = self._pending.popleft()
            self._seconds[name] += first.elapsed_time(last) / 1000
        taken = {**self._seconds, "steps": float(self.steps), "step_seconds": self.step_seconds}
        self._seconds, self.steps, self.step_seconds = defaultdict(float), 0, 0.0
        return taken


def measured_rate(device: torch.device, dtype: torch.dtype, seconds: float = 0.1) -> float:
    """FLOP/s of square matrix products of `dtype` on `device`, measured for about `seconds`: what "peak" means in the metrics."""
    side = 8192 if device.type == "cuda" else 512
    a, b = torch.randn(side, side, device=device, dtype=dtype), torch.randn(side, side, device=device, dtype=dtype)

    def wait(result: Tensor) -> None:
        float(result[0, 0])

    wait(a @ b)  # the first one chooses a kernel
    done, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        for _ in range(4):
            result = a @ b
        wait(result)
        done += 4
    return done * 2.0 * side**3 / (time.perf_counter() - begun)
