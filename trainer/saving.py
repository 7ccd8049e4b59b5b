"""Checkpoints beside the training: the state is copied, then a thread writes it while the training goes on.

One at a time is on its way. The thread talks to the other ranks' threads through a group of their own and never touches a live tensor. It
also proves, from time to time, that the newest checkpoint can still be read. What a failure means is decided by whoever waits.
"""

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from dayrun.recipe import Checkpoints
from dayrun.run_folder import RunFolder
from trainer import checkpoint
from trainer.telemetry import Telemetry
from trainer.world import World


class Saver:
    """Writes what it is given and tells of it by events; `wait` says how the last one ended."""

    def __init__(self, folder: RunFolder, world: World, attempt: int, policy: Checkpoints, telemetry: Telemetry) -> None:
        assert world.aside is not None
        self._folder, self._world, self._attempt, self._policy = folder, world.aside, attempt, policy
        self._telemetry = telemetry
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._copies: checkpoint.State | None = None
        self._proved, self._proof = time.monotonic(), threading.Thread()
        self.step = -1
        """Of the checkpoint that was saved last, or is being saved."""

    @property
    def failed(self) -> bool:
        """Whether `wait` would tell of an error at once."""
        return self._error is not None

    def begin(self, state: checkpoint.State, step: int, about: dict[str, Any]) -> None:
        """Copy `state` and let the thread write it. The one before must have been waited for."""
        assert self._thread is None
        begun = time.monotonic()
        self._copies = checkpoint.snapshot(state, self._copies)
        stalled = time.monotonic() - begun
        self.step = step
        self._run(lambda copies=self._copies: self._save(copies, step, about, stalled))

    def wait(self) -> Exception | None:
        """Wait until nothing is on its way; returns what went wrong with it, once."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            self.step = -1
        return error

    def close(self, seconds: float) -> None:
        """What is on its way may still come to its end, for so long."""
        for thread in (self._thread, self._proof):
            if thread is not None and thread.is_alive():
                thread.join(seconds)

    def _run(self, work: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                work()
            except Exception as error:
                self._error = error

        self._thread = threading.Thread(target=guarded, name="checkpoint", daemon=True)
        self._thread.start()

    def _save(self, copies: checkpoint.State, step: int, about: dict[str, Any], stalled: float) -> None:
        leads = self._world.leads
        try:
            saved = checkpoint.save(self._folder, self._world, copies, step, self._attempt, about)
        except OSError as error:
            if leads:
                self._telemetry.event("checkpoint_failed", step, because=str(error))
            raise
        if leads:
            took = {"seconds": round(saved.seconds, 3), "stalled_seconds": round(stalled, 4)}
            self._telemetry.event("checkpoint_saved", step, bytes=saved.bytes, **took)
            try:
                checkpoint.prune(self._folder, self._attempt, self._policy)
            except OSError as error:  # the next one prunes again
                print(f"old checkpoints are still there: {error}", file=sys.stderr, flush=True)
            self._prove_if_due(step)

    def _prove_if_due(self, step: int) -> None:
        minutes, now = self._policy.prove_every_minutes, time.monotonic()
        if minutes is None or now - self._proved < 60 * minutes or self._proof.is_alive():
            return
        self._proved = now
        # by itself: the next checkpoint need not wait until this one was read
        self._proof = threading.Thread(target=self._prove, args=(step,), name="proof", daemon=True)
        self._proof.start()

    def _prove(self, step: int) -> None:
        begun = time.monotonic()
        try:
            count = checkpoint.read_back(self._folder, step)
            self._telemetry.event("checkpoint_proved", step, checkpoint=step, seconds=round(time.monotonic() - begun, 3), bytes=count)
        except checkpoint.BadCheckpoint as error:
            if step in self._folder.marked_checkpoints():  # else it was pruned while we read
                self._telemetry.event("checkpoint_rejected", step, checkpoint=step, because=str(error))
        except OSError as error:
            print(f"the checkpoint of step {step} could not be read back now: {error}", file=sys.stderr, flush=True)
