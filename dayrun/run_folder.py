"""What a run leaves behind: names, formats, writers and readers. The only hand-over between trainer and service.

    recipe.json                           the effective recipe
    fork.json                             where the first weights come from, when not from chance
    attempts/<attempt>.json               one per launch that reached the trainer; the highest number may write, older ones must not
    attempts/<attempt>-from-<step>.json   the checkpoint that the attempt went on from (0: the start)
    events/<attempt>-<part>.jsonl         typed events, in order
    metrics/<attempt>-<part>.jsonl        {"step", "name", "value", "time"}
    trained/<attempt>-<part>.jsonl        which samples it was trained on: a chain of hashes
    bad_samples/<attempt>-<part>.jsonl    samples that could not be read, why, and which stood in
    checkpoints/<step>/<attempt>/         sharded state
    checkpoints/<step>/complete.json      its digests, written last: without it the checkpoint is no checkpoint
    checkpoints/<step>/held/<id>          who has yet to read it: a draw, an export, a fork; the trainer leaves it until then
    samples/<step>/                       pictures and index.json
    draws/<id>/                           request.json, pictures, index.json; error.json when it failed
    exports/<id>/                         a diffusers folder; complete.json (digests) last; error.json when it failed
    evaluations/<step>.json               what was measured, "complete" with the last
    stacks/<attempt>/<rank>.txt           where every thread stood when nothing moved any more
    profiles/<step>/<rank>.json.gz        traces on request, for chrome://tracing or Perfetto
    logs/<attempt>/<rank>[.<part>].log    what the processes printed

docs/run-folder.md says who writes what when. This file knows nothing of torch, of processes or of databases.
"""

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Literal

from dayrun.lines import PART_BYTES, Cursor, GrowingText, JsonLines
from dayrun.objects import ObjectInfo, Prefix
from dayrun.run_records import (
    BadSampleLine,
    Cause,
    Event,
    EventType,
    ExportManifest,
    Failure,
    Fork,
    Metric,
    SampleImage,
    SampleIndex,
    Weights,
)

__all__ = [
    "EXIT_FAILED",
    "EXIT_STOPPED",
    "PARTS_A_RANK",
    "PART_BYTES",
    "BadSampleLine",
    "Cause",
    "Cursor",
    "Event",
    "EventType",
    "ExportManifest",
    "Failure",
    "Fork",
    "LineWriter",
    "LogWriter",
    "Metric",
    "RunFolder",
    "SampleImage",
    "SampleIndex",
    "StaleAttempt",
    "Weights",
    "step_name",
]

PARTS_A_RANK = 1_000_000
"""Each rank numbers its parts from rank × this on, so that two ranks never write the same object."""
LOG_PARTS_WAITING = 16
"""Closed parts of a log that wait while the store is away; older ones are given up, since a log must never fill the memory."""

Kind = Literal["events", "metrics", "trained", "bad_samples"]
"""What is written line by line."""

EXIT_STOPPED = 75
"""Exit code of a trainer that wrote a checkpoint because it was told to stop (sysexits' EX_TEMPFAIL: come back later)."""
EXIT_FAILED = 70
"""Exit code of a trainer that ended for a cause it could name; the `ended` event holds it."""


def step_name(step: int) -> str:
    """Folder name of a step: padded, so that names sort as numbers do."""
    return f"{step:08d}"


class LineWriter(JsonLines):
    """Appends JSON lines under `<kind>/<attempt>-<part>.jsonl`; `flush` makes them visible. Safe to call from several threads."""

    def __init__(
        self,
        prefix: Prefix,
        kind: Kind,
        attempt: int,
        rank: int = 0,
        fence: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(prefix, lambda part: f"{kind}/{attempt:04d}-{part:09d}.jsonl", rank * PARTS_A_RANK, fence)


class LogWriter(GrowingText):
    """What one process prints, on its way to an object store. It has no fence: what a stale attempt says of its end is evidence."""

    def __init__(self, prefix: Prefix, attempt: int, rank: int | str) -> None:
        super().__init__(prefix, lambda part: RunFolder.log_key(attempt, rank, part), most_waiting=LOG_PARTS_WAITING)


class RunFolder:
    """A run's folder. Reading needs nothing else; the trainer's other writers are `LineWriter` and `LogWriter`."""

    def __init__(self, prefix: Prefix) -> None:
        self.prefix = prefix

    # what the service writes before a launch, and the trainer reads
    def put_recipe(self, recipe: dict[str, Any]) -> None:
        self.prefix.put("recipe.json", json.dumps(recipe, indent=1, ensure_ascii=False).encode())

    def recipe(self) -> dict[str, Any]:
        """Raises FileNotFoundError when no attempt and no service has been here."""
        return self._json("recipe.json")

    def put_fork(self, fork: Fork) -> None:
        """To be written before the first launch; once the run has a checkpoint of its own, it no longer matters."""
        self.prefix.put("fork.json", json.dumps(fork, indent=1).encode())

    def fork(self) -> Fork | None:
        try:
            return self._json("fork.json")
        except FileNotFoundError:
            return None

    # attempts: the fence
    def claim_attempt(self, attempt: int, about: dict[str, Any]) -> None:
        """Fence: from now on only `attempt` or a later one may write. Raises StaleAttempt when a later one has claimed."""
        self.check_attempt(attempt)
        self.prefix.put(f"attempts/{attempt:04d}.json", json.dumps({"time": time.time(), **about}).encode())

    def newest_attempt(self) -> int:
        """The highest attempt that has claimed this folder; 0 when none has."""
        return max(self._attempts(), default=0)

    def check_attempt(self, attempt: int) -> None:
        """Raises StaleAttempt when a later attempt than `attempt` has claimed this folder."""
        newest = self.newest_attempt()
        if newest > attempt:
            raise StaleAttempt(f"attempt {attempt} may not write to {self.prefix.url}: attempt {newest} has taken over")

    def went_on_from(self, attempt: int, step: int) -> None:
        """Second fence: what earlier attempts have saved past `step`, or will yet, is no longer part of this run."""
        self.prefix.put(f"attempts/{attempt:04d}-from-{step_name(step)}.json", b"{}")

    def _attempts(self) -> dict[int, int | None]:
        """Every attempt that has claimed the folder, with the step that it went on from as soon as that is known."""
        found: dict[int, int | None] = {}
        for info in self.prefix.objects("attempts"):
            attempt, _, origin = info.key.rsplit("/", 1)[-1].removesuffix(".json").partition("-from-")
            found[int(attempt)] = int(origin) if origin else found.get(int(attempt))
        return found

    # lines
    def new_lines(self, kind: Kind, cursor: Cursor) -> Iterator[Any]:
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

    def trained(self) -> Iterator[dict[str, Any]]:
        """The records of what was trained on, by every attempt; a checkpoint's `trained` says which of them are its own."""
        return self.new_lines("trained", Cursor())

    def bad_samples(self) -> Iterator[BadSampleLine]:
        """Samples that could not be read, by every rank that met one. What is met again by a later attempt comes again."""
        return self.new_lines("bad_samples", Cursor())

    # checkpoints
    def checkpoints(self) -> list[int]:
        """Steps of complete checkpoints, ascending: those that no later attempt has left behind."""
        marked = self.marked_checkpoints()
        origins = [(attempt, origin) for attempt, origin in self._attempts().items() if origin is not None]
        return [step for step, writers in marked.items() if self._belongs(step, writers, origins)]

    def marked_checkpoints(self) -> dict[int, set[int]]:
        """Steps with a complete.json, ascending, whoever wrote it; each with the attempts that left files there."""
        marked, writers = set[int](), defaultdict[int, set[int]](set)
        for info in self.prefix.objects("checkpoints"):
            match info.key.split("/"):
                case [_, step, "complete.json"]:
                    marked.add(int(step))
                case [_, step, attempt, _] if attempt.isdigit():
                    writers[int(step)].add(int(attempt))
                case _:
                    continue
        return {step: writers[step] for step in sorted(marked)}

    def _belongs(self, step: int, writers: set[int], origins: list[tuple[int, int]]) -> bool:
        """Whether every attempt after the one that wrote the checkpoint of `step` went on from there, or from further on."""
        bounds = [(attempt, origin) for attempt, origin in origins if origin < step]
        if not bounds:
            return True
        try:
            writer = next(iter(writers)) if len(writers) == 1 else int(self.checkpoint_manifest(step)["attempt"])
        except (FileNotFoundError, ValueError, KeyError):  # pruned while we looked, or no manifest at all
            return False
        return all(attempt <= writer for attempt, _ in bounds)

    def checkpoint_manifest(self, step: int) -> dict[str, Any]:
        return self._json(f"{self.checkpoint_key(step)}/complete.json")

    def checkpoint_digest(self, step: int) -> str | None:
        """SHA-256 of the checkpoint's manifest, which names every file's own digest; None when there is no such checkpoint."""
        try:
            return hashlib.sha256(self.prefix.get(f"{self.checkpoint_key(step)}/complete.json")).hexdigest()
        except FileNotFoundError:
            return None

    def put_checkpoint_manifest(self, attempt: int, manifest: dict[str, Any]) -> None:
        """Completes a checkpoint, with the fence as late as it can stand: a stale attempt never replaces what is there."""
        key, data = f"{self.checkpoint_key(manifest['step'])}/complete.json", json.dumps(manifest, indent=1).encode()
        self.check_attempt(attempt)
        try:
            self.prefix.create(key, data)
        except FileExistsError:  # an older attempt woke up and completed its own in the meantime
            self.check_attempt(attempt)
            self.prefix.put(key, data)

    def delete_checkpoint(self, step: int) -> None:
        """The manifest goes first, so that a half-deleted checkpoint is none."""
        self.prefix.delete(f"{self.checkpoint_key(step)}/complete.json")
        self.prefix.delete_all(self.checkpoint_key(step))

    def hold_checkpoint(self, step: int, id: str) -> None:
        """Keep the checkpoint of `step` from being pruned until `id` has read it."""
        self.prefix.put(f"{self.checkpoint_key(step)}/held/{id}", b"")

    def release_checkpoint(self, step: int, id: str) -> None:
        self.prefix.delete(f"{self.checkpoint_key(step)}/held/{id}")

    def is_held(self, step: int) -> bool:
        return any(True for _ in self.prefix.objects(f"{self.checkpoint_key(step)}/held"))

    def holds(self) -> list[tuple[int, str]]:
        """(step, id) of everyone who holds a checkpoint."""
        steps = [int(name) for name in self.prefix.folders("checkpoints")]
        return [(step, info.key.rsplit("/", 1)[-1]) for step in steps for info in self.prefix.objects(f"{self.checkpoint_key(step)}/held")]

    @staticmethod
    def checkpoint_key(step: int, attempt: int | None = None) -> str:
        """The folder of a checkpoint, or of one attempt's files in it: two attempts that are alive at once never write the same file."""
        return f"checkpoints/{step_name(step)}" + ("" if attempt is None else f"/{attempt:04d}")

    # samples
    def sample_steps(self) -> list[int]:
        return [int(name) for name in self.prefix.folders("samples") if name.isdigit()]

    def sample_index(self, step: int) -> SampleIndex:
        """Raises FileNotFoundError when nothing was drawn at `step` yet."""
        return self._json(f"samples/{step_name(step)}/index.json")

    def put_sample_index(self, index: SampleIndex) -> None:
        self.prefix.put(f"samples/{step_name(index['step'])}/index.json", json.dumps(index, indent=1).encode())

    def sample_picture(self, step: int, file: str) -> bytes:
        return self.prefix.get(f"samples/{step_name(step)}/{file}")

    def put_sample_picture(self, step: int, file: str, data: bytes) -> None:
        self.prefix.put(f"samples/{step_name(step)}/{file}", data)

    # evaluations
    def evaluation_steps(self) -> list[int]:
        return [int(info.key.rsplit("/", 1)[-1].removesuffix(".json")) for info in self.prefix.objects("evaluations")]

    def evaluation(self, step: int) -> dict[str, Any]:
        """Raises FileNotFoundError when nothing was measured at `step` yet."""
        return self._json(f"evaluations/{step_name(step)}.json")

    def put_evaluation(self, evaluation: dict[str, Any]) -> None:
        self.prefix.put(f"evaluations/{step_name(evaluation['step'])}.json", json.dumps(evaluation, indent=1).encode())

    # what tells of a trouble
    @staticmethod
    def stacks_key(attempt: int, rank: int) -> str:
        return f"stacks/{attempt:04d}/{rank}.txt"

    @staticmethod
    def profile_key(step: int, rank: int) -> str:
        return f"profiles/{step_name(step)}/{rank}.json.gz"

    # draws on request, and exports
    def draws(self) -> list[str]:
        return self.prefix.folders("draws")

    def put_draw_request(self, draw: str, request: dict[str, Any]) -> None:
        self.prefix.put(f"draws/{draw}/request.json", json.dumps(request, indent=1, ensure_ascii=False).encode())

    def draw_request(self, draw: str) -> dict[str, Any]:
        return self._json(f"draws/{draw}/request.json")

    def draw_index(self, draw: str) -> SampleIndex:
        """Raises FileNotFoundError when nothing was drawn yet."""
        return self._json(f"draws/{draw}/index.json")

    def put_draw_index(self, draw: str, index: SampleIndex) -> None:
        self.prefix.put(f"draws/{draw}/index.json", json.dumps(index, indent=1).encode())

    def draw_picture(self, draw: str, file: str) -> bytes:
        return self.prefix.get(f"draws/{draw}/{file}")

    def put_draw_picture(self, draw: str, file: str, data: bytes) -> None:
        self.prefix.put(f"draws/{draw}/{file}", data)

    def exports(self) -> list[str]:
        return self.prefix.folders("exports")

    def export_manifest(self, export: str) -> ExportManifest:
        """Raises FileNotFoundError while the export is not complete."""
        return self._json(f"exports/{export}/complete.json")

    def export_key(self, export: str, file: str = "") -> str:
        return f"exports/{export}/{file}".rstrip("/")

    def failure(self, kind: Literal["draws", "exports"], id: str) -> Failure | None:
        """Why a draw or an export came to nothing; None while it has not failed."""
        try:
            return self._json(f"{kind}/{id}/error.json")
        except FileNotFoundError:
            return None

    def put_failure(self, kind: Literal["draws", "exports"], id: str, failure: Failure) -> None:
        self.prefix.put(f"{kind}/{id}/error.json", json.dumps(failure, indent=1, ensure_ascii=False).encode())

    # logs
    def log_ranks(self, attempt: int) -> list[str]:
        """Whose logs there are: ranks in order, then the launcher."""
        return sorted(self._logs(attempt), key=lambda rank: (not rank.isdigit(), int(rank) if rank.isdigit() else 0, rank))

    def log_bytes(self, attempt: int, rank: int | str) -> int:
        """How much one process has printed, over all parts."""
        return sum(info.bytes for _, info in self._logs(attempt).get(str(rank), []))

    def read_log(self, attempt: int, rank: int | str, start: int = 0, most: int = 2**20) -> bytes:
        """At most `most` bytes of a log from offset `start` on; empty at its end, for now. The next offset is start + what came."""
        text = b""
        for _, info in self._logs(attempt).get(str(rank), []):
            if start < info.bytes and len(text) < most:
                text += self.prefix.get_from(info.key, start, min(info.bytes - start, most - len(text)))
            start = max(0, start - info.bytes)
        return text

    def _logs(self, attempt: int) -> dict[str, list[tuple[int, ObjectInfo]]]:
        found = defaultdict[str, list[tuple[int, ObjectInfo]]](list)
        for info in self.prefix.objects(f"logs/{attempt:04d}"):
            rank, _, part = info.key.rsplit("/", 1)[-1].removesuffix(".log").partition(".")
            found[rank].append((int(part or 0), info))
        return {rank: sorted(parts, key=lambda pair: pair[0]) for rank, parts in found.items()}

    @staticmethod
    def log_key(attempt: int, rank: int | str, part: int = 0) -> str:
        """Key of one rank's log, or of the launcher's. In a folder there is one part only, which is appended to."""
        return f"logs/{attempt:04d}/{rank}{f'.{part:06d}' if part else ''}.log"

    def _json(self, key: str) -> Any:
        return json.loads(self.prefix.get(key))


class StaleAttempt(RuntimeError):
    """A later attempt owns the folder; whoever gets this must stop without writing anything."""
