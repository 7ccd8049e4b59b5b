"""Checkpoints: saved by torch.distributed.checkpoint, proven by digests, complete only once `complete.json` is there.

The manifest is written last and names every file with its size and SHA-256; a folder without it never happened. Loading verifies the
digests first. In an object store the files pass through a temporary folder of each machine, and every rank carries its own. What the
state means is the trainer's business; here it is tensors by name.
"""

import errno
import hashlib
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.tensor import DTensor

from dayrun.recipe import Checkpoints
from dayrun.run_folder import RunFolder
from trainer.parallel import local
from trainer.staging import staging
from trainer.world import World

State = dict[str, dict[str, Tensor]]
MANIFEST = "complete.json"
METADATA = ".metadata"
"""torch's own index of the tensors: written by rank 0."""


class BadCheckpoint(Exception):
    """A checkpoint that is not what its manifest says; an older one may be."""


@dataclass(frozen=True)
class Saved:
    seconds: float
    bytes: int


def snapshot(state: State, into: State | None = None) -> State:
    """A copy of `state` in this machine's memory, sharded as it is; `into` is an earlier one whose memory is used again.

    The copies are under way together, and all are there on return: from then on the training may change what it has.
    """
    copies: State = {}
    for part, tensors in state.items():
        copies[part] = {}
        for name, tensor in tensors.items():
            mine = local(tensor.detach())
            buffer = into[part][name] if into else torch.empty_like(mine, device="cpu", pin_memory=mine.is_cuda)
            local(buffer).copy_(mine, non_blocking=True)
            if isinstance(tensor, DTensor) and not isinstance(buffer, DTensor):
                buffer = DTensor(buffer, tensor._spec, requires_grad=False)  # from_local would move it to the mesh's device
            copies[part][name] = buffer
    if torch.cuda.is_available():
        torch.cuda.current_stream().synchronize()
    return copies


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save(folder: RunFolder, world: World, state: State, step: int, attempt: int, about: dict[str, Any]) -> Saved:
    """Write the checkpoint of `step`; every rank calls it. Raises OSError on every rank when any could not write its part, and
    StaleAttempt when the folder belongs to a later attempt."""
    begun = time.monotonic()
    where = folder.checkpoint_key(step, attempt)

    def clear() -> None:
        if world.leads:  # what a killed attempt left half-written would otherwise stay for good
            folder.check_attempt(attempt)
            folder.delete_checkpoint(step)

    def complete() -> None:
        if world.leads:
            manifest = {"step": step, "attempt": attempt, "time": time.time(), "world_size": world.size, **about, "files": files}
            folder.put_checkpoint_manifest(attempt, manifest)

    try:
        world.together(clear)
        with files_to_be(folder, world, where) as path:
            with quiet():
                writer = dcp.FileSystemWriter(path, single_file_per_rank=True, thread_count=1)
                dcp.save(state, storage_writer=writer, process_group=world.group)
            described = world.together(lambda: handed_over(folder, world.rank, path, where))
        files = {name: entry for ranks in described for name, entry in ranks.items()}
        world.together(complete)
    except (OSError, CheckpointException) as error:  # the latter is raised on all ranks for any, and is no Exception by its class
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise OSError(f"checkpoint of step {step} in {folder.prefix.url}: {said[-1]}") from error
    return Saved(time.monotonic() - begun, sum(entry["bytes"] for entry in files.values()))


@contextmanager
def files_to_be(folder: RunFolder, world: World, where: str) -> Iterator[Path]:
    """Where this machine's ranks write the files of `where`: there itself, or a temporary folder when there is an object store."""
    if folder.prefix.path is not None:
        yield folder.prefix.path / where
    else:
        with staging(world) as path:
            yield path


def handed_over(folder: RunFolder, rank: int, path: Path, where: str) -> dict[str, dict[str, Any]]:
    """Put what this rank has written to its place; the entries of the manifest, named from the checkpoint's folder on."""
    entries: dict[str, dict[str, Any]] = {}
    mine = [*path.glob(f"__{rank}_*"), *([path / METADATA] if rank == 0 else [])]
    for file in sorted(mine):
        entries[f"{where.rsplit('/', 1)[-1]}/{file.name}"] = {"bytes": file.stat().st_size, "sha256": digest(file)}
        if folder.prefix.path is None:
            folder.prefix.put_file(f"{where}/{file.name}", file)
    return entries


@contextmanager
def at_hand(folder: RunFolder, world: World, step: int) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The proven files of the checkpoint of `step` on this machine, and its manifest. Every rank must enter and leave it.

    Raises BadCheckpoint on every rank when a file is missing or is not what the manifest says; StoreError when nobody can tell.
    """
    where = folder.checkpoint_key(step)
    manifest = world.together(lambda: read_manifest(folder, step) if world.leads else None)[0]
    assert manifest is not None
    inner = folder_inside(manifest)
    if folder.prefix.path is not None:
        path = folder.prefix.path / where
        world.together(lambda: prove(path, manifest) if world.leads else None)
        yield path / inner, manifest
    else:
        with staging(world) as path:
            world.together(lambda: fetch(folder, where, path, manifest) if world.leads_node else None)
            yield path / inner, manifest


def read_manifest(folder: RunFolder, step: int) -> dict[str, Any]:
    try:
        manifest = folder.checkpoint_manifest(step)
        sizes = [(name, int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest["files"].items()]
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise BadCheckpoint(f"{MANIFEST} cannot be read: {type(error).__name__}: {error}") from error
    if not sizes:
        raise BadCheckpoint(f"{MANIFEST} names no files")
    return manifest


def folder_inside(manifest: dict[str, Any]) -> str:
    """Where torch's files lie within the checkpoint's place: in a folder of the attempt, or (older ones) right there."""
    return next((name.rpartition("/")[0] for name in manifest["files"] if name.endswith(METADATA)), "")


def prove(path: Path, manifest: dict[str, Any]) -> None:
    """Raises BadCheckpoint unless every file under `path` has the size and digest that its manifest names."""
    for name, wanted in manifest["files"].items():
        file = path / name
        try:
            compare(name, wanted, file.stat().st_size, lambda file=file: digest(file))
        except FileNotFoundError as error:
            raise BadCheckpoint(f"{name} is missing") from error
        except OSError as error:
            if error.errno != errno.EIO:
                raise  # the disk is away: that says nothing about the checkpoint
            raise BadCheckpoint(f"{name} cannot be read: {error}") from error


def fetch(folder: RunFolder, where: str, path: Path, manifest: dict[str, Any]) -> None:
    """Copy the files of the manifest to `path`. Raises BadCheckpoint when one of them is missing or is not what it says."""
    for name, wanted in manifest["files"].items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        key = f"{where}/{name}"
        try:
            compare(name, wanted, folder.prefix.size(key), lambda key=key, file=file: folder.prefix.get_file(key, file))
        except FileNotFoundError as error:
            raise BadCheckpoint(f"{name} is missing") from error


def read_back(folder: RunFolder, step: int) -> int:
    """Prove the checkpoint of `step` by reading all of it, as a resume would; its bytes. One process does it alone.

    Raises BadCheckpoint when it does not hold, OSError when nobody can tell.
    """
    manifest, where = read_manifest(folder, step), folder.checkpoint_key(step)
    inner = folder_inside(manifest)
    if folder.prefix.path is not None:
        prove(folder.prefix.path / where, manifest)
        shapes(folder.prefix.path / where / inner)
    else:
        with tempfile.TemporaryDirectory(prefix="dayrun-proof-") as name:
            fetch(folder, where, Path(name), manifest)
            shapes(Path(name) / inner)
    return sum(entry["bytes"] for entry in manifest["files"].values())


def compare(name: str, wanted: dict[str, Any], size: int, sha256: Callable[[], str]) -> None:
    if size != wanted["bytes"]:
        raise BadCheckpoint(f"{name} has {size} bytes, its manifest says {wanted['bytes']}")
    if sha256() != wanted["sha256"]:
        raise BadCheckpoint(f"{name} does not have the digest that its manifest names")


def load(files: Path, state: State) -> None:
    """Fill the tensors of `state` in place from a checkpoint's proven files. Every rank calls it."""
    with quiet():
        dcp.load(state, storage_reader=dcp.FileSystemReader(files))


def shapes(files: Path) -> dict[str, tuple[int, ...]]:
    """Name → shape of every tensor in a checkpoint's proven files; names begin with the part of the state, as in "model.txt_in.weight"."""
    metadata = dcp.FileSystemReader(files).read_metadata().state_dict_metadata
    return {name: tuple(entry.size) for name, entry in metadata.items() if hasattr(entry, "size")}


def prune(folder: RunFolder, attempt: int, policy: Checkpoints) -> None:
    """Delete what neither the policy keeps nor anybody holds, and what attempts that were overtaken have left.

    Raises StaleAttempt when we are one of these.
    """
    steps = folder.checkpoints()
    kept = set(steps[-policy.keep_last :]) | {s for s in steps if policy.keep_every and s % policy.keep_every == 0}
    for step in folder.marked_checkpoints():
        if step not in kept and not folder.is_held(step):
            folder.check_attempt(attempt)
            folder.delete_checkpoint(step)


def quiet() -> warnings.catch_warnings:
    """torch.distributed.checkpoint warns about its own internals on every save."""
    return warnings.catch_warnings(action="ignore")
