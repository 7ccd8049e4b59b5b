"""One part of a source → its shards, committed: the same part and options give the same bytes, wherever and how often it runs."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trainer.data.buckets import Size
from trainer.data.convert.filters import Options, bucket_of, captions_of, columns_of, passing
from trainer.data.convert.output import HASHES, Committed, Output, key_in
from trainer.data.convert.pictures import Picture, Unusable
from trainer.data.convert.sources import Found, Part, Reject, samples_of
from trainer.data.folders import HERE
from trainer.data.shards import ShardWriter
from trainer.data.shelves import INDEX


@dataclass(frozen=True)
class Job:
    """What all tasks of a conversion have in common."""

    options: Options
    out: str


@dataclass(frozen=True)
class Task:
    part: Part
    repeated: dict[str, str] = field(default_factory=dict)  # id → id of an earlier sample that looks the same

    @property
    def name(self) -> str:
        return self.part.name

    def digest(self, options: Options) -> str:
        """Of everything that the shards of this part follow from. Its files are known by name and size."""
        part = {**asdict(self.part), "source": ""}
        return hashlib.sha256(json.dumps([options.digest(), part, self.repeated], sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class Looks:
    """The perceptual hashes of the samples of a part that pass the filters, in order."""

    part: str
    digest: str
    hashes: list[tuple[str, int]]  # id, 64 bits


def usable(samples: Iterable[Found | Reject], options: Options) -> Iterator[tuple[Found, Picture] | Reject]:
    """Those that the filters let pass, their pictures not yet decoded; and the others."""
    for found in samples:
        if isinstance(found, Reject):
            yield found
            continue
        try:
            yield found, passing(found, options)
        except Unusable as error:
            yield Reject(found.id, error.reason, error.because)


def look_at_part(job: Job, part: Part) -> Looks:
    """The first pass where duplicates are to go: decodes small, writes the hashes."""
    digest, output, hashes = Task(part).digest(job.options), Output(job.out), []
    key = f"{HASHES}/{part.name}.json"
    try:
        found = Looks(**json.loads(output.prefix.get(key)))
        if found.digest == digest:
            return found
    except (FileNotFoundError, ValueError, TypeError):
        pass
    for each in usable(samples_of(part, job.options.reading), job.options):
        if not isinstance(each, Reject):
            try:
                hashes.append((each[0].id, each[1].hash()))
            except Unusable:
                continue  # the second pass tells why
    looks = Looks(part.name, digest, hashes)
    output.prefix.put(key, json.dumps(asdict(looks), sort_keys=True).encode())
    return looks


def repeated(looks: list[Looks]) -> dict[str, dict[str, str]]:
    """Part → id → id of the first sample, in the source's order, that looks the same."""
    first: dict[int, str] = {}
    found: dict[str, dict[str, str]] = {}
    for part in looks:
        for id, hash in part.hashes:
            if first.setdefault(hash, id) != id:
                found.setdefault(part.part, {})[id] = first[hash]
    return found


def converted(
    samples: Iterable[Found | Reject], options: Options, repeated: dict[str, str]
) -> Iterator[tuple[Size, dict[str, Any], bool, bool] | Reject]:
    """(bucket, sample, kept, enlarged) of everything that is stored, in order; and why the others are not."""
    for each in usable(samples, options):
        if isinstance(each, Reject):
            yield each
            continue
        found, picture = each
        try:
            if found.id in repeated:
                raise Unusable("repeated", f"looks the same as {repeated[found.id]}, which is kept")
            bucket = bucket_of(picture, options)
            stored = picture.stored(bucket, options.quality, options.keep)
        except Unusable as error:
            yield Reject(found.id, error.reason, error.because)
            continue
        sample = {"image": stored.image, "width": stored.width, "height": stored.height, "id": found.id}
        yield bucket, sample | captions_of(found, options) | columns_of(found, options), stored.kept, stored.enlarged


def convert_part(job: Job, task: Task) -> Committed:
    """Convert one part and commit it. Raises OSError when a store is away."""
    options, output = job.options, Output(job.out)
    rejects: list[Reject] = []
    counts = {"kept": 0, "enlarged": 0}
    with output.scratch(task.part.name) as folder:
        writers: dict[str, ShardWriter] = {}
        with ExitStack() as stack:
            for each in converted(samples_of(task.part, options.reading), options, task.repeated):
                if isinstance(each, Reject):
                    rejects.append(each)
                    continue
                size, sample, kept, enlarged = each
                bucket = HERE if options.square else str(size)
                if bucket not in writers:
                    writers[bucket] = stack.enter_context(
                        ShardWriter(folder / str(size), options.encodings(), options.shard_bytes, stem=task.part.name)
                    )
                writers[bucket].write(sample)
                counts["kept"] += kept
                counts["enlarged"] += enlarged
        shards = {bucket: placed(output, writers[bucket].folder, bucket) for bucket in sorted(writers)}
    committed = Committed(task.part.name, task.digest(options), shards, rejects, **counts)
    output.commit(committed)
    return committed


def placed(output: Output, folder: Path, bucket: str, name: str | None = None) -> list[dict[str, Any]]:
    """Put the shards that a writer left in `folder` into their bucket, one alone under `name` if given; the entries of its index."""
    entries: list[dict[str, Any]] = json.loads((folder / INDEX).read_bytes())["shards"]
    for entry in entries:
        written = entry["raw_data"]["basename"]
        entry["raw_data"]["basename"] = name if name is not None and len(entries) == 1 else written
        output.place(folder / written, key_in(bucket, entry["raw_data"]["basename"]))
    return entries
