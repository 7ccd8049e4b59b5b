"""Checkpoints: saved by torch.distributed.checkpoint, proven by digests, complete only once `complete.json` is there.

The manifest is written last and names every file with its size and SHA-256; a folder without it never happened. Loading verifies the
digests first and passes over what does not hold. What the state means is the trainer's business; here it is tensors by name.
"""

import hashlib
import json
import shutil
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from dayrun.recipe import Checkpoints
from dayrun.run_folder import RunFolder, step_name
from trainer.parallel import World

State = dict[str, dict[str, Tensor]]
MANIFEST = "complete.json"


@dataclass(frozen=True)
class Saved:
    seconds: float
    bytes: int


def folder_of(folder: RunFolder, step: int) -> Path:
    if folder.prefix.path is None:
        raise ValueError(f"checkpoints go to folders only for now, and {folder.prefix.url} is none; use a path for --out")
    return folder.prefix.path / "checkpoints" / step_name(step)


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save(folder: RunFolder, world: World, state: State, step: int, attempt: int, about: dict[str, Any]) -> Saved:
    """Write the checkpoint of `step`; every rank calls it. Raises OSError on every rank when any could not write its part."""
    begun = time.monotonic()
    path = folder_of(folder, step)
    trouble: str | None = None
    if world.leads:
        folder.check_attempt(attempt)
        try:  # what a killed attempt left half-written would otherwise be mixed with the new files
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)
        except OSError as error:
            trouble = f"{type(error).__name__}: {error}"
    trouble = world.agree(trouble)
    if trouble is None:
        try:
            with quiet():
                dcp.save(state, storage_writer=dcp.FileSystemWriter(path, single_file_per_rank=True, thread_count=1))
        except (Exception, CheckpointException) as error:  # raised on all ranks for any; it is no Exception by its class
            trouble = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    size = 0
    if trouble is None and world.leads:
        try:
            files = {f.name: {"bytes": f.stat().st_size, "sha256": digest(f)} for f in sorted(path.iterdir())}
            size = sum(entry["bytes"] for entry in files.values())
            manifest = {"step": step, "attempt": attempt, "time": time.time(), "world_size": world.size, **about, "files": files}
            folder.check_attempt(attempt)  # the fence, as late as it can stand
            folder.prefix.put(f"checkpoints/{step_name(step)}/{MANIFEST}", json.dumps(manifest, indent=1).encode())
        except OSError as error:
            trouble = f"{type(error).__name__}: {error}"
    trouble, size = world.agree((trouble, size))
    if trouble is not None:
        raise OSError(f"checkpoint of step {step} in {path}: {trouble}")
    return Saved(time.monotonic() - begun, size)


def verify(folder: RunFolder, step: int) -> str | None:
    """Why the checkpoint of `step` cannot be trusted, or None when every file has the size and digest that its manifest names."""
    path = folder_of(folder, step)
    try:
        manifest = folder.checkpoint_manifest(step)
        for name, wanted in manifest["files"].items():
            file = path / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != wanted["bytes"]:
                return f"{name} has {file.stat().st_size} bytes, its manifest says {wanted['bytes']}"
            if digest(file) != wanted["sha256"]:
                return f"{name} does not have the digest that its manifest names"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{MANIFEST} cannot be read: {type(error).__name__}: {error}"
    return None


def load(folder: RunFolder, state: State, step: int) -> dict[str, Any]:
    """Fill the tensors of `state` in place from the checkpoint of `step`; returns its manifest."""
    with quiet():
        dcp.load(state, storage_reader=dcp.FileSystemReader(folder_of(folder, step)))
    return folder.checkpoint_manifest(step)


def prune(folder: RunFolder, policy: Checkpoints) -> None:
    """Delete what the policy does not keep; the manifest goes first, so that a half-deleted checkpoint is none."""
    steps = folder.checkpoints()
    kept = set(steps[-policy.keep_last :]) | {s for s in steps if policy.keep_every and s % policy.keep_every == 0}
    for step in steps:
        if step not in kept:
            folder.prefix.delete(f"checkpoints/{step_name(step)}/{MANIFEST}")
            shutil.rmtree(folder_of(folder, step), ignore_errors=True)


def quiet() -> warnings.catch_warnings:
    """torch.distributed.checkpoint warns about its own internals on every save."""
    return warnings.catch_warnings(action="ignore")
