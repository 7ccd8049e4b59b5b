"""Metrics and typed events on their way into the run folder. Writing never stops training: lines wait until the store takes them."""

import math
import sys
import threading
import time
from typing import Any

from dayrun.run_folder import EventType, LineWriter, RunFolder, StaleAttempt

FLUSH_SECONDS = 1.0
LOG_EVERY = 10
"""Steps between lines of the slower-moving metrics; the loss is written for every step."""


class Telemetry:
    """Rank 0 writes metrics and events; another rank writes only events of its own, to parts that no other rank uses.

    Once a later attempt has claimed the folder, nothing more is written; `check` tells.
    """

    def __init__(self, folder: RunFolder, attempt: int, rank: int) -> None:
        self._attempt, self._rank = attempt, rank
        fence = lambda: folder.check_attempt(attempt)  # noqa: E731
        self._events = LineWriter(folder.prefix, "events", attempt, rank, fence)
        self._metrics = LineWriter(folder.prefix, "metrics", attempt, rank, fence)
        self._trained = LineWriter(folder.prefix, "trained", attempt, rank, fence)
        self._bad_samples = LineWriter(folder.prefix, "bad_samples", attempt, rank, fence)
        self._done = threading.Event()
        self._refused = False
        self._stale: StaleAttempt | None = None
        self._thread = threading.Thread(target=self._flush_often, name="telemetry", daemon=True)
        self._thread.start()

    def event(self, type: EventType, step: int, **data: Any) -> None:
        self._events.write({"time": time.time(), "attempt": self._attempt, "step": step, "type": type, "data": data})
        print(f"[rank {self._rank}] step {step}: {type} {data}", flush=True)

    def metric(self, step: int, **values: float) -> None:
        """What is no number (a skipped step's loss, the mean of nothing) is left out: JSON has no way to say it."""
        if self._rank == 0:
            now = round(time.time(), 3)
            for name, value in values.items():
                if not math.isfinite(value):
                    continue
                self._metrics.write({"step": step, "name": name, "value": value, "time": now})

    def trained(self, record: dict[str, Any]) -> None:
        self._trained.write(record)

    def bad_sample(self, line: dict[str, Any]) -> None:
        self._bad_samples.write(line)

    def check(self) -> None:
        """Raises StaleAttempt when the last flush found that a later attempt owns the folder; asks nobody, so it is free."""
        if self._stale is not None:
            raise self._stale

    def flush(self) -> None:
        """Make every line so far visible; lines that the store refuses are kept for the next time."""
        if self._stale is not None:
            return
        try:
            for lines in (self._trained, self._bad_samples, self._metrics):
                lines.flush()
            self._events.flush()
            self._refused = False
        except StaleAttempt as error:
            self._stale = error
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
