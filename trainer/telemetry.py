"""Metrics and typed events on their way into the run folder. Writing never stops training: lines wait until the store takes them."""

import sys
import threading
import time
from typing import Any

from dayrun.objects import Prefix
from dayrun.run_folder import EventType, LineWriter

FLUSH_SECONDS = 1.0
LOG_EVERY = 10
"""Steps between lines of the slower-moving metrics; the loss is written for every step."""


class Telemetry:
    """Rank 0 writes metrics and events; another rank writes only events of its own, to parts that no other rank uses."""

    def __init__(self, prefix: Prefix, attempt: int, rank: int) -> None:
        self._attempt, self._rank = attempt, rank
        self._events = LineWriter(prefix, "events", attempt, rank)
        self._metrics = LineWriter(prefix, "metrics", attempt, rank)
        self._done = threading.Event()
        self._refused = False
        self._thread = threading.Thread(target=self._flush_often, name="telemetry", daemon=True)
        self._thread.start()

    def event(self, type: EventType, step: int, **data: Any) -> None:
        self._events.write({"time": time.time(), "attempt": self._attempt, "step": step, "type": type, "data": data})
        print(f"[rank {self._rank}] step {step}: {type} {data}", flush=True)

    def metric(self, step: int, **values: float) -> None:
        if self._rank == 0:
            now = round(time.time(), 3)
            for name, value in values.items():
                self._metrics.write({"step": step, "name": name, "value": value, "time": now})

    def flush(self) -> None:
        """Make every line so far visible; lines that the store refuses are kept for the next time."""
        try:
            self._metrics.flush()
            self._events.flush()
            self._refused = False
        except OSError as error:
            if not self._refused:
                print(f"[rank {self._rank}] the run folder takes no lines now, they are kept: {error}", file=sys.stderr, flush=True)
            self._refused = True

    def close(self) -> None:
        self._done.set()
        self._thread.join()
        self.flush()

    def _flush_often(self) -> None:
        while not self._done.wait(FLUSH_SECONDS):
            self.flush()
