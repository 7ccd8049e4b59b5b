"""What a run leaves behind: names, line formats, writers and readers. The only hand-over between trainer and service.

    recipe.json                       the effective recipe
    attempts/<attempt>.json           one per launch that reached the trainer; the highest number may write, older ones must not
    events/<attempt>-<part>.jsonl     typed events, in order
    metrics/<attempt>-<part>.jsonl    {"step", "name", "value", "time"}
    checkpoints/<step>/               sharded state; complete.json (digests) is written last, without it the checkpoint is no checkpoint
    samples/<step>/                   pictures and index.json
    logs/<attempt>/<rank>.log         what the processes printed

Lines go to numbered parts that are rewritten whole while they grow, since an object store cannot append: a reader keeps (part, offset)
and never sees half a line. This file knows nothing of torch, of processes or of databases.
"""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from dayrun.objects import Prefix

PART_BYTES = 256 * 1024
"""A part that has grown past this is closed and the next one begun: bounds what one flush rewrites."""

PARTS_A_RANK = 1_000_000
"""Each rank numbers its parts from rank × this on, so that two ranks never write the same object."""

EXIT_STOPPED = 75
"""Exit code of a trainer that wrote a checkpoint because it was told to stop (sysexits' EX_TEMPFAIL: come back later)."""
EXIT_FAILED = 70
"""Exit code of a trainer that ended for a cause it could name; the `ended` event holds it."""

Cause = Literal[
    "oom",
    "nccl_timeout",
    "gpu_fault",
    "data",
    "image_pull",
    "preempted",
    "diverged",
    "budget",
    "deadline",
    "storage",
    "spec",
    "unknown",
]

EventType = Literal[
    "attempt_started",  # world_size, host
    "resumed",  # checkpoint (step)
    "stage_started",  # stage, pixels, batch_size
    "checkpoint_saved",  # seconds, bytes
    "checkpoint_failed",  # because
    "checkpoint_rejected",  # checkpoint (step), because
    "samples_drawn",  # set, images, seconds
    "bad_samples",  # count, first: [{file, sample, because}]
    "stop_requested",  # signal
    "ended",  # outcome, cause, evidence
]


class Event(TypedDict):
    time: float
    attempt: int
    step: int
    type: EventType
    data: dict[str, Any]


class Metric(TypedDict):
    step: int
    name: str
    value: float
    time: float


class SampleImage(TypedDict):
    file: str
    set: str
    prompt: str
    seed: int
    guidance: float
    steps: int
    ema: bool
    width: int
    height: int


class SampleIndex(TypedDict):
    step: int
    attempt: int
    time: float
    complete: bool
    checkpoint: str | None
    """SHA-256 of the checkpoint's complete.json, when this step has one."""
    images: list[SampleImage]


def step_name(step: int) -> str:
    """Folder name of a step: padded, so that names sort as numbers do."""
    return f"{step:08d}"


class LineWriter:
    """Appends JSON lines under `<kind>/<attempt>-<part>.jsonl`; `flush` makes them visible. Safe to call from several threads."""

    def __init__(self, prefix: Prefix, kind: Literal["events", "metrics"], attempt: int, rank: int = 0) -> None:
        self._prefix, self._kind, self._attempt = prefix, kind, attempt
        self._part, self._lines, self._dirty = rank * PARTS_A_RANK, b"", False
        self._lock = threading.Lock()

    def write(self, line: Any) -> None:
        with self._lock:
            self._lines += json.dumps(line, separators=(",", ":"), allow_nan=False).encode() + b"\n"
            self._dirty = True

    def flush(self) -> None:
        """Raises OSError when the store cannot take the lines; they are kept and go with the next flush."""
        with self._lock:
            if not self._dirty:
                return
            self._prefix.put(f"{self._kind}/{self._attempt:04d}-{self._part:09d}.jsonl", self._lines)
            self._dirty = False
            if len(self._lines) > PART_BYTES:
                self._part, self._lines = self._part + 1, b""


@dataclass
class Cursor:
    """How far a reader has come: bytes read of each part. Serialise with `to_json`; a new cursor starts at the beginning."""

    offsets: dict[str, int] = field(default_factory=dict[str, int])

    def to_json(self) -> str:
        return json.dumps(self.offsets, separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Cursor":
        return cls(json.loads(text or "{}"))


class RunFolder:
    """A run's folder for reading; the trainer's writers are `LineWriter` and the `put_…` methods."""

    def __init__(self, prefix: Prefix) -> None:
        self.prefix = prefix

    # what the service writes before a launch, and the trainer reads
    def put_recipe(self, recipe: dict[str, Any]) -> None:
        self.prefix.put("recipe.json", json.dumps(recipe, indent=1, ensure_ascii=False).encode())

    def claim_attempt(self, attempt: int, about: dict[str, Any]) -> None:
        """Fence: from now on only `attempt` or a later one may write. Raises StaleAttempt when a later one has claimed."""
        self.check_attempt(attempt)
        self.prefix.put(f"attempts/{attempt:04d}.json", json.dumps({"time": time.time(), **about}).encode())

    def newest_attempt(self) -> int:
        """The highest attempt that has claimed this folder; 0 when none has."""
        return max((int(info.key.rsplit("/", 1)[-1][:-5]) for info in self.prefix.objects("attempts")), default=0)

    def check_attempt(self, attempt: int) -> None:
        """Raises StaleAttempt when a later attempt than `attempt` has claimed this folder."""
        newest = self.newest_attempt()
        if newest > attempt:
            raise StaleAttempt(f"attempt {attempt} may not write to {self.prefix.url}: attempt {newest} has taken over")

    # lines
    def new_lines(self, kind: Literal["events", "metrics"], cursor: Cursor) -> Iterator[Any]:
        """Lines that `cursor` has not seen, in order of attempt and part; moves the cursor past what it yields, part by part."""
        for info in self.prefix.objects(kind):
            seen = cursor.offsets.get(info.key, 0)
            if info.bytes <= seen:
                continue
            data = self.prefix.get_from(info.key, seen)
            whole = data[: data.rfind(b"\n") + 1]
            cursor.offsets[info.key] = seen + len(whole)
            for line in whole.splitlines():
                yield json.loads(line)

    def events(self) -> Iterator[Event]:
        return self.new_lines("events", Cursor())

    def metrics(self) -> Iterator[Metric]:
        """Every metric line. A step trained twice (before and after a fault) appears twice; the later attempt counts."""
        return self.new_lines("metrics", Cursor())

    # checkpoints
    def checkpoints(self) -> list[int]:
        """Steps of complete checkpoints, ascending."""
        keys = {info.key for info in self.prefix.objects("checkpoints") if info.key.endswith("/complete.json")}
        return sorted(int(key.split("/")[1]) for key in keys if key.count("/") == 2)

    def checkpoint_manifest(self, step: int) -> dict[str, Any]:
        return json.loads(self.prefix.get(f"checkpoints/{step_name(step)}/complete.json"))

    def checkpoint_digest(self, step: int) -> str | None:
        """SHA-256 of the checkpoint's manifest, which names every file's own digest; None when there is no such checkpoint."""
        try:
            return hashlib.sha256(self.prefix.get(f"checkpoints/{step_name(step)}/complete.json")).hexdigest()
        except FileNotFoundError:
            return None

    # samples
    def sample_steps(self) -> list[int]:
        return [int(name) for name in self.prefix.folders("samples") if name.isdigit()]

    def sample_index(self, step: int) -> SampleIndex:
        """Raises FileNotFoundError when nothing was drawn at `step` yet."""
        return json.loads(self.prefix.get(f"samples/{step_name(step)}/index.json"))

    def put_sample_index(self, index: SampleIndex) -> None:
        self.prefix.put(f"samples/{step_name(index['step'])}/index.json", json.dumps(index, indent=1).encode())

    def sample_picture(self, step: int, file: str) -> bytes:
        return self.prefix.get(f"samples/{step_name(step)}/{file}")

    # logs
    def log_ranks(self, attempt: int) -> list[str]:
        return [info.key.rsplit("/", 1)[-1].removesuffix(".log") for info in self.prefix.objects(f"logs/{attempt:04d}")]

    @staticmethod
    def log_key(attempt: int, rank: int | str) -> str:
        """Key of one rank's log, or of the launcher's."""
        return f"logs/{attempt:04d}/{rank}.log"


class StaleAttempt(RuntimeError):
    """A later attempt owns the folder; whoever gets this must stop without writing anything."""
