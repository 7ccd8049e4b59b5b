"""Which samples a run was trained on: a chain of records in its folder, each the hash of what came between two checkpoints, in order.

The order follows from recipe and data, so a record need not list samples: whoever has the data can make the list again, and the hash proves
that it is the one. A checkpoint names the record that it ends with. What was trained and then rolled back is in no checkpoint's chain.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dayrun.objects import Prefix
from dayrun.recipe import Recipe
from dayrun.rules import load
from dayrun.run_folder import RunFolder
from trainer.data.errors import BadSample
from trainer.data.loader import Loader

FORMAT = "<i8"
"""Of a sample's number, as it is hashed."""


class RecordError(Exception):
    """Records that cannot be read, or that are not those of these data; says which."""


def digest_of(record: dict[str, Any]) -> str:
    """SHA-256 of a record without its own digest: of everything before it, too, since it names the one before."""
    told = {name: value for name, value in record.items() if name != "digest"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


class Chain:
    """The records of one run as they grow. `write` takes a line; the last record's digest belongs into the checkpoint."""

    def __init__(self, write: Callable[[dict[str, Any]], None]) -> None:
        self._write = write
        self.digest: str | None = None
        """Of the newest record; None before the first."""
        self._open: dict[str, Any] | None = None
        self._hash = hashlib.sha256()

    def stand_at(self, digest: str | None) -> None:
        """Go on from the record that a checkpoint names, forgetting what came since."""
        self.digest, self._open = digest, None

    def saw(self, stage: int, loader: Loader, position: int, step: int) -> None:
        """A step was taken with the batch that starts at `position`."""
        if self._open is None or self._open["stage"] != stage or self._open["end"] != position:
            self.close(step)
            batch_size, data = loader.order.batch_size, loader.samples.digest
            self._open = {"stage": stage, "first": position, "end": position, "batch_size": batch_size, "data": data}
            self._open["samples_an_epoch"] = loader.order.samples
            self._hash = hashlib.sha256()
        self._hash.update(loader.order.batch(position).numbers.astype(FORMAT).tobytes())
        self._open["end"] = position + loader.order.batch_size

    def close(self, step: int) -> str | None:
        """Write the record of what was seen since the last one; returns the digest for the checkpoint of `step`."""
        if self._open is not None:
            record = {**self._open, "step": step, "samples": self._hash.hexdigest(), "previous": self.digest}
            self.digest, self._open = digest_of(record), None
            self._write({**record, "digest": self.digest})
        return self.digest


@dataclass
class Trained:
    """What a run has to do with one sample."""

    number: int
    """In the data that the recipe names."""
    held_out: bool = False
    positions: list[int] = field(default_factory=list)
    """Where it was trained on in its turn."""
    instead_of_others: list[int] = field(default_factory=list)
    """Where it was trained on in the place of a sample that could not be read."""
    could_not_be_read: list[int] = field(default_factory=list)
    """Where its turn was, and another stood in."""

    @property
    def times(self) -> int:
        return len(self.positions) + len(self.instead_of_others)


def chain_of(folder: RunFolder) -> list[tuple[RunFolder, dict[str, Any]]]:
    """The records that lead to the newest checkpoint, oldest first, each with the folder it is in: a fork's go back into its parent's.

    Raises RecordError when one is missing or was changed.
    """
    steps = folder.checkpoints()
    digest = folder.checkpoint_manifest(steps[-1]).get("trained") if steps else None
    found: list[tuple[RunFolder, dict[str, Any]]] = []
    known = records_in(folder)
    while digest is not None:
        while digest not in known:
            parent = folder.fork()
            if parent is None:
                raise RecordError(f"{folder.prefix.url}/trained: the record {digest} is not there, which a later one or a checkpoint names")
            folder = RunFolder(Prefix(parent["from"]))
            known = records_in(folder)
        record = known[digest]
        if digest_of(record) != digest:
            raise RecordError(f"{folder.prefix.url}/trained: the record {digest} was changed: its SHA-256 is {digest_of(record)}")
        found.append((folder, record))
        digest = record["previous"]
    return found[::-1]


def records_in(folder: RunFolder) -> dict[str, dict[str, Any]]:
    return {record["digest"]: record for record in folder.trained()}


def numbers_of(id: str, loader: Loader, column: str = "id") -> list[int]:
    """The samples whose `column` is `id`. Reads that column of every sample. Raises RecordError when there is no such column."""
    found: list[int] = []
    for stretch in loader.samples.stretches:
        if column not in stretch.shards.columns:
            has = sorted(stretch.shards.columns)
            raise RecordError(f"{stretch.shards.shelf.url}: has no column {column!r} to find {id!r} by; it has {has}")
        for local in range(len(stretch.shards)):
            try:
                if stretch.shards.read(local, [column])[column] == id:
                    found.append(stretch.first + local)
            except BadSample:
                continue
    return found


def trained_on(folder: RunFolder, id: str, column: str = "id") -> list[Trained]:
    """What the newest checkpoint of a run has seen of the samples named `id`: one entry for each, usually one.

    Needs the data as they were: every record is made again from them and compared. Raises RecordError when one does not fit, or no data of
    the run have such a sample; DataFault when data cannot be read.
    """
    found: dict[str, dict[int, Trained]] = {}

    def known(loader: Loader) -> dict[int, Trained]:
        """Of each data set by its digest: a stage may have others than the recipe."""
        data = loader.samples.digest
        if data not in found:
            held = set(loader.held_out)
            found[data] = {number: Trained(number, held_out=number in held) for number in numbers_of(id, loader, column)}
        return found[data]

    recipe = load(folder.recipe(), for_training=False)
    known(Loader(recipe, recipe.stages[0].pixels))
    bad: dict[str, dict[tuple[int, int], tuple[list[int], int]]] = {}
    loaders: dict[tuple[str, int, int], Loader] = {}  # a run has many records of one stage, and opening data reads every index
    for where, record in chain_of(folder):
        if where.prefix.url not in bad:
            bad[where.prefix.url] = bad_samples_in(where)
        stage = where.prefix.url, record["stage"], record["batch_size"]
        if stage not in loaders or loaders[stage].samples.digest != record["data"]:
            loaders[stage] = stage_loader(where, record)
        loader, bad_here = loaders[stage], bad[where.prefix.url]
        asked = known(loader)
        for first, numbers in batches_of(record, loader, where):
            for place, number in enumerate(numbers.tolist()):
                failed, instead = bad_here.get((record["stage"], first + place), ([], number))
                if number in asked:
                    (asked[number].could_not_be_read if failed else asked[number].positions).append(first + place)
                if failed and instead in asked:
                    asked[instead].instead_of_others.append(first + place)
    everything = [trained for of_data in found.values() for trained in of_data.values()]
    if not everything:
        urls = ", ".join(source.url for source in recipe.data.sources)
        raise RecordError(f"{id!r}: no sample of {urls} has this {column}")
    return everything


def stage_loader(folder: RunFolder, record: dict[str, Any]) -> Loader:
    """What read the samples of a record. Raises RecordError when the data are not those any more."""
    recipe: Recipe = load(folder.recipe(), for_training=False)
    stage = recipe.stages[record["stage"]]
    loader = Loader(recipe.at_stage(record["stage"]), stage.pixels, batch_size=record["batch_size"])
    if loader.samples.digest != record["data"]:
        urls = ", ".join(source.url for source in recipe.at_stage(record["stage"]).data.sources)
        raise RecordError(f"{urls}: are not the data that {folder.prefix.url} was trained on: their indexes have changed")
    return loader


def batches_of(record: dict[str, Any], loader: Loader, folder: RunFolder) -> Iterator[tuple[int, np.ndarray]]:
    """Position and samples of each batch of a record. Raises RecordError at the end when they are not those that were hashed."""
    hashed = hashlib.sha256()
    for first in range(record["first"], record["end"], record["batch_size"]):
        numbers = loader.order.batch(first).numbers
        hashed.update(numbers.astype(FORMAT).tobytes())
        yield first, numbers
    if hashed.hexdigest() != record["samples"]:
        raise RecordError(f"{folder.prefix.url}/trained: the samples of the record {record['digest']} are not those that these data give")


def bad_samples_in(folder: RunFolder) -> dict[tuple[int, int], tuple[list[int], int]]:
    """For each (stage, position) at which samples could not be read: their numbers, and the one that stood in at last."""
    found: dict[tuple[int, int], tuple[list[int], int]] = {}
    failed = defaultdict[tuple[int, int], list[int]](list)
    for line in folder.bad_samples():
        at = line["stage"], line["position"]
        if line["number"] not in failed[at]:
            failed[at].append(line["number"])
        found[at] = failed[at], line["instead"]
    return found
