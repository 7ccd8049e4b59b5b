"""Who stands still and who is slow: a thread of every rank that sees whether steps still end, and the comparison of the ranks' own times.

Each watch beats in the process group's store, which needs neither the model nor a collective. When no step ends for too long, every rank
that still can writes down where its threads stand, the first of them tells which ranks were silent or busy, and all end with exit code 70.
"""

import faulthandler
import json
import os
import statistics
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch.distributed as dist

from dayrun.run_folder import EXIT_FAILED, RunFolder
from trainer.telemetry import Telemetry
from trainer.timing import SLOW, Timing
from trainer.world import World

PATIENCE_SECONDS = 300.0
"""Beside the step itself: a shape that comes for the first time is compiled. Shorter than a collective's own patience of 10 minutes."""
SLOW_PATIENCE_SECONDS = 1800.0
"""For what may take minutes: the start with its first step of each stage, checkpoints, pictures, an evaluation's next chunk."""
SLOWEST_TIMES = 10.0
WINDOWS = 3
"""Windows in a row after which a slow rank is named, or is no longer."""


def patience(doing: str, warm: bool, recent: Sequence[float], hang_seconds: float | None) -> float:
    """Seconds without a step after which nothing is expected any more. `recent`: seconds of steps, the last ones."""
    if doing in SLOW or not warm:
        return max(SLOW_PATIENCE_SECONDS, hang_seconds or 0.0)
    return hang_seconds or PATIENCE_SECONDS + SLOWEST_TIMES * max(recent, default=0.0)


@dataclass
class Beat:
    """What one rank last said of itself."""

    count: int
    step: int
    doing: str


def culprits(before: dict[int, Beat], after: dict[int, Beat], size: int) -> tuple[list[int], list[int]]:
    """(ranks to blame, ranks of these that are silent) from two looks at the beats with a few beats' time in between.

    A rank without a new beat is silent: stopped, gone, cut off. Where all beat, those are to blame that are behind the others or are
    not waiting in a collective while others are. Empty when that tells nothing.
    """
    silent = [r for r in range(size) if r not in after or (r in before and before[r].count == after[r].count)]
    if silent:
        return silent, silent
    newest = max(beat.step for beat in after.values())
    waiting = [r for r, beat in after.items() if beat.doing == "communication"]
    behind = [r for r, beat in after.items() if beat.step < newest]
    return sorted(behind or ([r for r in after if r not in waiting] if waiting else [])), []


class Watch:
    """The thread. It ends the process when nothing moves; `last_words` is called right before that."""

    def __init__(
        self,
        timing: Timing,
        world: World,
        folder: RunFolder,
        attempt: int,
        telemetry: Telemetry,
        hang_seconds: float | None,
        last_words: Callable[[], None] = lambda: None,
    ) -> None:
        self._timing, self._world, self._folder, self._attempt = timing, world, folder, attempt
        self._telemetry, self._hang_seconds, self._last_words = telemetry, hang_seconds, last_words
        self._tick = min(5.0, max(0.1, (hang_seconds or PATIENCE_SECONDS) / 8))
        # a client of its own: one that waits for an answer must not hold up the training
        self._store = dist.distributed_c10d._get_default_store().clone() if world.size > 1 else None
        self._beats = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._done.set()

    def _run(self) -> None:
        stood, moved, last = 0.0, self._timing.moved, time.monotonic()
        while not self._done.wait(self._tick):
            now = time.monotonic()
            # a process that was stopped, or whose machine slept, has not waited: only what was watched counts
            stood, last = stood + min(now - last, 2 * self._tick), now
            if self._timing.moved != moved:
                stood, moved = 0.0, self._timing.moved
            self._beat()
            limit = patience(self._timing.doing, self._timing.warm, list(self._timing.recent), self._hang_seconds)
            if stood > limit and not self._done.is_set():
                self._end(stood, limit)

    # beats
    def _beat(self) -> None:
        self._beats += 1
        self._say("beat", json.dumps([self._beats, self._timing.step, self._timing.doing]))

    def _say(self, what: str, value: str) -> None:
        if self._store is not None:
            try:
                self._store.set(f"watch/{what}/{self._world.rank}", value)
            except Exception as error:  # the store's host may be the one that is gone
                print(f"[rank {self._world.rank}] no beat: {error}", file=sys.stderr, flush=True)

    def _said(self, what: str) -> dict[int, str]:
        found: dict[int, str] = {}
        try:
            for rank in range(self._world.size if self._store is not None else 0):
                key = f"watch/{what}/{rank}"
                if self._store is not None and self._store.check([key]):
                    found[rank] = self._store.get(key).decode()
        except Exception as error:
            print(f"[rank {self._world.rank}] cannot tell how the others are: {error}", file=sys.stderr, flush=True)
        return found

    def _others(self) -> dict[int, Beat]:
        return {rank: Beat(*json.loads(text)) for rank, text in self._said("beat").items()}

    # the end
    def _end(self, stood: float, limit: float) -> None:
        """Write down where the threads stand, tell who is to blame, and end. Whatever fails on the way, the process ends."""
        try:
            with suppress(OSError):  # the run folder may be what everybody waits for
                self._keep_stacks()
            before = self._others()
            for _ in range(3):
                time.sleep(self._tick)
                self._beat()
            after = self._others()
            ranks, silent = culprits(before, after, self._world.size)
            alive = [rank for rank in range(self._world.size) if rank not in silent]
            if self._world.rank == min(alive, default=self._world.rank):
                self._tell(stood, limit, ranks, silent, {rank: beat.doing for rank, beat in after.items()})
                self._telemetry.flush()
                self._say("told", "")
            else:  # torchrun ends all as soon as one has ended: the teller goes first
                self._wait_for_the_teller(min(alive))
            self._last_words()
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(EXIT_FAILED)

    def _keep_stacks(self) -> None:
        with tempfile.TemporaryFile() as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            data = file.read()
        sys.stderr.write(data.decode(errors="replace"))
        self._folder.prefix.put(self._folder.stacks_key(self._attempt, self._world.rank), data)

    def _wait_for_the_teller(self, teller: int) -> None:
        end = time.monotonic() + self._tick * 8 + 10
        while time.monotonic() < end and teller not in self._said("told"):
            self._beat()
            time.sleep(self._tick)

    def _tell(self, stood: float, limit: float, ranks: list[int], silent: list[int], doing: dict[int, str]) -> None:
        about = {"seconds": round(stood, 1), "limit_seconds": round(limit, 1), "doing": doing or {self._world.rank: self._timing.doing}}
        self._telemetry.event("hang", self._timing.step, ranks=ranks, silent=silent, **about)
        who = f"rank {', '.join(map(str, ranks))}" if ranks else "no rank that could be told"
        evidence = [
            f"no step ended for {stood:.0f} s (limit {limit:.0f} s) after step {self._timing.step}; held up by {who}",
            f"silent: {silent}; doing: {about['doing']}; stacks are in {self._folder.prefix.url}/stacks/{self._attempt:04d}",
        ]
        cause = "nccl_timeout" if self._world.size > 1 else "unknown"
        self._telemetry.event(
            "ended", self._timing.step, outcome="failed", cause=cause, evidence=evidence, rank=ranks[0] if ranks else self._world.rank
        )


@dataclass
class Stragglers:
    """Names ranks whose own share of the steps takes `factor` × the median of all, for `WINDOWS` windows in a row."""

    factor: float
    _seen: dict[int, deque[bool]] = field(default_factory=dict[int, deque[bool]])
    named: set[int] = field(default_factory=set[int])

    def window(self, own_seconds: Sequence[float]) -> tuple[list[int], list[int]]:
        """(ranks that are slow now, ranks that no longer are), from each rank's seconds of this window without its waits for others.

        The median is the lower one, so that of two ranks one can be slow.
        """
        median = statistics.median_low(own_seconds)
        for rank, seconds in enumerate(own_seconds):
            self._seen.setdefault(rank, deque(maxlen=WINDOWS)).append(seconds > self.factor * median)
        full = {rank: seen for rank, seen in self._seen.items() if len(seen) == WINDOWS}
        slow = [rank for rank, seen in full.items() if all(seen) and rank not in self.named]
        over = [rank for rank, seen in full.items() if not any(seen) and rank in self.named]
        self.named = (self.named | set(slow)) - set(over)
        return slow, over


def straggling(rank: int, own_seconds: Sequence[float], factor: float, steps: int, places: list[tuple[int, str]]) -> dict[str, Any]:
    """The data of an event about `rank`; `places`: (node, host) of every rank."""
    node, host = places[rank]
    each = [seconds / max(1, steps) for seconds in own_seconds]
    return {
        "rank": rank,
        "node": node,
        "host": host,
        "seconds": round(each[rank], 4),
        "median": round(statistics.median_low(each), 4),
        "factor": factor,
    }
