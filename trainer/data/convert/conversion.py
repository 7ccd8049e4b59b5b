"""A whole conversion: list, skip what is committed, convert the rest, merge. The command line and the demo call `convert`."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from trainer.data.convert.executors import Executor, Here
from trainer.data.convert.filters import Options
from trainer.data.convert.output import Committed, DataSet, Output, described
from trainer.data.convert.parts import Job, Looks, Task, convert_part, look_at_part, repeated
from trainer.data.convert.sources import Part, parts_of


@dataclass
class Progress:
    """How far a conversion is. Seconds and `fresh` are this start's; the others count what was committed before too."""

    what: str
    parts: int
    bytes: int  # of the source
    done: int = 0
    bytes_done: int = 0
    fresh_bytes: int = 0
    fresh: int = 0  # samples read, stored or rejected, since the start
    samples: int = 0
    rejects: int = 0
    seconds: float = 0.0

    @property
    def images_per_second(self) -> float:
        return self.fresh / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """None as long as nothing can be said."""
        return (self.bytes - self.bytes_done) * self.seconds / self.fresh_bytes if self.fresh_bytes else None


Tell = Callable[[Progress], None]


class Named(Protocol):
    @property
    def name(self) -> str:
        """Of the part that it commits."""
        ...


T = TypeVar("T", bound=Named)


def silent(_: Progress) -> None:
    pass


def convert(source: str, out: str, options: Options, executor: Executor | None = None, tell: Tell = silent) -> DataSet:
    """Convert `source` to a data set at `out`. What was committed before, from the same files by the same options, is not done again.

    Raises SourceError or ConversionError for what the caller can set right, OSError when a store is away.
    """
    executor = executor or Here()
    parts = parts_of(source, options.reading)
    output, job = Output(out), Job(options, out)
    output.begin(described(options))
    drop: dict[str, dict[str, str]] = {}
    if options.unique:
        drop = repeated(looks_of(parts, job, executor, tell))
    tasks = [Task(part, drop.get(part.name, {})) for part in parts]
    sizes = {part.name: part.bytes for part in parts}
    made = commit_all(output, "converting", tasks, lambda task: task.digest(options), sizes, partial(convert_part, job), executor, tell)
    return output.finish(made, options.encodings(), options.pixels, options.patch)


def commit_all(
    output: Output,
    what: str,
    tasks: Sequence[T],
    digest: Callable[[T], str],
    sizes: dict[str, int],
    work: Callable[[T], Committed],
    executor: Executor,
    tell: Tell,
) -> list[Committed]:
    """What each task committed, in their order: now by `work`, or before, where that followed from the same. sizes: bytes, by name."""
    present = output.present()
    found = {task.name: output.committed(task.name, digest(task), present) for task in tasks}
    left = [task for task in tasks if found[task.name] is None]
    if left:
        output.reopen()
    progress = Progress(what, len(tasks), sum(sizes.values()))
    for committed in found.values():
        if committed is not None:
            count(progress, committed, sizes[committed.part])
    tell(progress)
    begun = time.monotonic()
    for committed in executor.results(work, left):
        found[committed.part] = committed
        count(progress, committed, sizes[committed.part])
        progress.fresh += committed.samples + len(committed.rejects)
        progress.fresh_bytes += sizes[committed.part]
        progress.seconds = time.monotonic() - begun
        tell(progress)
    return [one for one in found.values() if one is not None]


def count(progress: Progress, committed: Committed, size: int) -> None:
    progress.done += 1
    progress.bytes_done += size
    progress.samples += committed.samples
    progress.rejects += len(committed.rejects)


def looks_of(parts: list[Part], job: Job, executor: Executor, tell: Tell) -> list[Looks]:
    """The perceptual hashes of all parts, in the parts' order."""
    progress, begun = Progress("looking for duplicates", len(parts), sum(part.bytes for part in parts)), time.monotonic()
    tell(progress)
    found, sizes = {}, {part.name: part.bytes for part in parts}
    for looks in executor.results(partial(look_at_part, job), parts):
        found[looks.part] = looks
        progress.done += 1
        progress.bytes_done += sizes[looks.part]
        progress.fresh_bytes += sizes[looks.part]
        progress.fresh += len(looks.hashes)
        progress.samples += len(looks.hashes)
        progress.seconds = time.monotonic() - begun
        tell(progress)
    return [found[part.name] for part in parts]
