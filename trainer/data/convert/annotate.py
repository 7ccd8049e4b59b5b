"""A data set read, and a new one written with more columns: what a network says of each sample. One shard is the work of one task.

The new set has the old one's shards, samples and order. Like a conversion it commits each part, goes on where it was ended, and knows no
worker: bytes are the same wherever the network's arithmetic is (the batch is part of the options; the number of threads is not). What a
network is, `networks.py` knows.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from itertools import islice
from typing import Any, Protocol

from dayrun.objects import Prefix
from trainer.data.convert.conversion import Tell, commit_all, silent
from trainer.data.convert.executors import Executor, Here
from trainer.data.convert.output import VERSION, Committed, ConversionError, DataSet, Output, key_in
from trainer.data.convert.parts import placed
from trainer.data.convert.sources import File, Reject, on_disk
from trainer.data.errors import BadSample, ShardError
from trainer.data.folders import DATASET, HERE
from trainer.data.shards import Shard, ShardWriter, wrong_hash
from trainer.data.shelves import INDEX

Sample = dict[str, Any]


class Annotator(Protocol):
    """Adds columns to samples. Its digest tells what they follow from."""

    columns: dict[str, str]
    """Names of the columns with their encodings."""

    def __call__(self, samples: list[Sample]) -> list[Sample | str]:
        """For each sample the new columns, or why there are none: then it is left out."""
        ...


class Network(Protocol):
    """What an annotator is made from, in the process that works: a few words that can be pickled, compared and written down."""

    def load(self) -> Annotator:
        """Raises ConversionError when there is no such network."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns that it reads."""
        ...


@dataclass(frozen=True)
class Job:
    source: str
    out: str
    network: Any  # a Network; hashable
    batch: int


@dataclass(frozen=True)
class Task:
    """One shard."""

    bucket: str
    entry: str  # of its index, as JSON

    @property
    def name(self) -> str:
        """The part's name in the new set: of its bucket and its shard."""
        base = json.loads(self.entry)["raw_data"]["basename"].removesuffix(".mds").replace("/", "-")
        return base if self.bucket == HERE else f"{self.bucket}-{base}"

    def digest(self, job: Job) -> str:
        told = [VERSION, told_of(job), self.bucket, json.loads(self.entry)["raw_data"]]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def told_of(job: Job) -> dict[str, Any]:
    """What the new columns follow from, beside the samples."""
    return json.loads(json.dumps({"network": type(job.network).__name__, **asdict(job.network), "batch": job.batch}))


def annotate(source: str, out: str, network: Network, batch: int = 64, executor: Executor | None = None, tell: Tell = silent) -> DataSet:
    """Write the data set `source` to `out` with the columns that `network` adds.

    Raises ConversionError, or OSError when a store is away.
    """
    executor, job = executor or Here(), Job(source, out, network, batch)
    old, tasks = shards_of(source)
    if missing := [name for name in network.needs if name not in old.columns]:
        raise ConversionError(f"DATA {source}: has no column {missing[0]!r}; it has {', '.join(old.columns)}")
    output = Output(out)
    output.begin(told_of(job))
    sizes = {task.name: json.loads(task.entry)["raw_data"]["bytes"] for task in tasks}
    done = commit_all(output, "annotating", tasks, lambda task: task.digest(job), sizes, partial(annotate_shard, job), executor, tell)
    columns = next(entry for one in done for entries in one.shards.values() for entry in entries) if done else {}
    encodings = dict(zip(columns.get("column_names", []), columns.get("column_encodings", []), strict=True))
    return output.finish(done, encodings, old.reference_pixels, old.patch)


def shards_of(source: str) -> tuple[DataSet, list[Task]]:
    """A data set and the shards of all its buckets, in order. Raises ConversionError."""
    prefix = Prefix(source)
    try:
        old = DataSet(**json.loads(prefix.get(DATASET)))
        indexes = {bucket: json.loads(prefix.get(key_in(bucket, INDEX)))["shards"] for bucket in old.buckets}
    except FileNotFoundError as error:
        raise ConversionError(f"DATA {source}: {error} is not there; is its conversion done?") from None
    except (ValueError, TypeError, KeyError) as error:
        raise ConversionError(f"DATA {source}: cannot be read: {error}; convert it again") from None
    if any(entry.get("compression") for entries in indexes.values() for entry in entries):
        raise ConversionError(f"DATA {source}: has compressed shards; only what the converter wrote can be annotated, which never are")
    return old, [Task(bucket, json.dumps(entry)) for bucket, entries in indexes.items() for entry in entries]


@lru_cache(maxsize=1)
def loaded(network: Network) -> Annotator:
    """The annotator of this process: a network is loaded once, not for each shard."""
    return network.load()


def annotate_shard(job: Job, task: Task) -> Committed:
    """Read one shard, write it anew with more columns, commit."""
    entry, output, rejects = json.loads(task.entry), Output(job.out), list[Reject]()
    annotator = loaded(job.network)
    columns = dict(zip(entry["column_names"], entry["column_encodings"], strict=True))
    raw = entry["raw_data"]
    file = File(key_in(task.bucket, raw["basename"]), raw["bytes"])
    writer_stem = raw["basename"].removesuffix(".mds").replace("/", "-")
    with output.scratch(task.name) as folder, on_disk(job.source, file) as path:
        # no size limit: a shard stays a shard
        with ShardWriter(folder, columns | annotator.columns, size_limit=2**32 - 1, stem=writer_stem) as writer:
            samples = samples_in(path, entry, rejects)
            while some := list(islice(samples, job.batch)):
                for sample, added in zip(some, annotator(some), strict=True):
                    if isinstance(added, str):
                        rejects.append(Reject(str(sample.get("id", "")), "not_annotated", added))
                    else:
                        writer.write(sample | added)
        shards = placed(output, folder, task.bucket, raw["basename"])
    committed = Committed(task.name, task.digest(job), {task.bucket: shards} if shards else {}, rejects)
    output.commit(committed)
    return committed


def samples_in(path: Any, entry: dict[str, Any], rejects: list[Reject]) -> Iterator[Sample]:
    """The samples of a shard file; those that cannot be read become rejects. Raises ConversionError for a file that is no shard."""
    try:
        shard = Shard(path, entry["raw_data"]["basename"], entry)
        if wrong := wrong_hash(path, entry["raw_data"].get("hashes") or {}):
            raise ConversionError(f"DATA: {entry['raw_data']['basename']}: {wrong}; copy it again, or convert again")
    except ShardError as error:
        raise ConversionError(f"DATA: {error}") from None
    for number in range(shard.samples):
        try:
            yield shard.sample(number)
        except BadSample as error:
            rejects.append(Reject(f"{error.file}#{number}", "unreadable", error.because))
    shard.close()
