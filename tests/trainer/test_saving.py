"""Checkpoints beside the training: a copy is a copy, a kill half-way leaves the older one, and the newest is read back."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dayrun.objects import Prefix
from dayrun.recipe import Checkpoints, Hardware, merge_patch
from dayrun.run_folder import RunFolder
from tests.conftest import ROOT, until
from tests.tiny import tiny_recipe
from tests.trainer.here import train_here
from trainer.checkpoint import snapshot
from trainer.saving import Saver
from trainer.telemetry import Telemetry
from trainer.world import World, join, leave

LARGE = {"hidden_size": 128, "depth": 4, "rotary_axes": [32, 32]}
"""10 MB of weights and moments: a save takes longer than a step."""


@pytest.fixture
def world() -> Iterator[World]:
    yield join(Hardware(accelerator="cpu", threads_per_process=1))
    leave()


def saver(folder: RunFolder, world: World, **policy: float) -> tuple[Saver, Telemetry]:
    folder.claim_attempt(1, {})
    telemetry = Telemetry(folder, 1, 0)
    return Saver(folder, world, 1, Checkpoints(**policy), telemetry), telemetry


def told(folder: RunFolder, type: str) -> list[dict]:
    return [event for event in folder.events() if event["type"] == type]


def test_a_snapshot_does_not_follow_what_it_was_taken_of_and_its_memory_is_used_again():
    weight = torch.arange(3.0)
    first = snapshot({"model": {"w": weight}})
    memory = first["model"]["w"].data_ptr()
    weight += 1
    assert first["model"]["w"].tolist() == [0, 1, 2]
    second = snapshot({"model": {"w": weight}}, first)
    assert second["model"]["w"].tolist() == [1, 2, 3]
    assert second["model"]["w"].data_ptr() == memory


def test_the_checkpoint_holds_what_was_there_when_the_save_began(world: World, tmp_path: Path):
    import torch.distributed.checkpoint as dcp

    folder = RunFolder(Prefix(tmp_path / "run"))
    saving, telemetry = saver(folder, world)
    weight = torch.zeros(2**20)
    saving.begin({"model": {"w": weight}}, 7, {"position": 1})
    weight.fill_(1)  # the training goes on
    assert saving.wait() is None
    telemetry.close()
    assert folder.checkpoints() == [7]
    found = {"model": {"w": torch.ones(2**20)}}
    (files,) = (tmp_path / "run" / "checkpoints" / "00000007").glob("[0-9]*")
    dcp.load(found, storage_reader=dcp.FileSystemReader(files))
    assert not found["model"]["w"].any()
    (saved,) = told(folder, "checkpoint_saved")
    assert saved["data"]["bytes"] > weight.nbytes
    assert saved["data"]["stalled_seconds"] < saved["data"]["seconds"]


def test_an_error_of_the_thread_is_told_once_by_whoever_waits(world: World, tmp_path: Path):
    folder = RunFolder(Prefix(tmp_path / "run"))
    saving, telemetry = saver(folder, world)
    (tmp_path / "run" / "checkpoints").write_text("a file where a folder should be")
    saving.begin({"model": {"w": torch.zeros(8)}}, 7, {})
    assert isinstance(saving.wait(), OSError)
    assert saving.step == -1  # the same step may be tried again
    assert saving.wait() is None
    telemetry.close()
    assert [event["step"] for event in told(folder, "checkpoint_failed")] == [7]


def test_who_has_yet_to_read_a_checkpoint_keeps_it_from_being_pruned(world: World, tmp_path: Path):
    folder = RunFolder(Prefix(tmp_path / "run"))
    saving, telemetry = saver(folder, world, keep_last=1)
    for step in (7, 14, 21):
        saving.begin({"model": {"w": torch.zeros(8)}}, step, {})
        assert saving.wait() is None
        if step == 7:
            folder.hold_checkpoint(7, "draw_1")
    assert folder.checkpoints() == [7, 21]
    folder.release_checkpoint(7, "draw_1")
    saving.begin({"model": {"w": torch.zeros(8)}}, 28, {})
    assert saving.wait() is None
    telemetry.close()
    assert folder.checkpoints() == [28]


def test_the_newest_checkpoint_is_read_back(world: World, tmp_path: Path):
    folder = RunFolder(Prefix(tmp_path / "run"))
    saving, telemetry = saver(folder, world, prove_every_minutes=1e-9)
    saving.begin({"model": {"w": torch.zeros(2**20)}}, 7, {})
    saving.wait()
    saving.close(60)
    telemetry.flush()
    (proved,) = told(folder, "checkpoint_proved")
    (saved,) = told(folder, "checkpoint_saved")
    assert (proved["data"]["checkpoint"], proved["data"]["bytes"]) == (7, saved["data"]["bytes"])
    victim = next((tmp_path / "run").rglob("*.distcp"))
    damaged = bytearray(victim.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    victim.write_bytes(bytes(damaged))
    saving._prove(7)
    telemetry.close()
    (rejected,) = told(folder, "checkpoint_rejected")
    assert "digest" in rejected["data"]["because"]


@pytest.mark.long
def test_a_kill_during_a_save_leaves_the_older_checkpoint(tiny_data: Path, tmp_path: Path):
    """The process is killed when files of a checkpoint are there and its manifest is not, whichever checkpoint that happens with."""
    stage = {"name": "tiny", "pixels": 8, "steps": 100_000, "batch_size": 8}
    base = tiny_recipe(tiny_data, processes=1, stages=[stage], checkpoints={"every": 10, "keep_last": 3})
    recipe = merge_patch(base, {"model": LARGE})
    folder = RunFolder(Prefix(tmp_path / "run"))
    folder.put_recipe(recipe)
    command = [sys.executable, "-m", "trainer", str(tmp_path / "run" / "recipe.json"), "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)

    def half_written() -> int:
        """Step of a checkpoint whose files are being written, with a complete one before it; 0 when there is none."""
        steps = {int(path.name): (path / "complete.json").exists() for path in (tmp_path / "run" / "checkpoints").glob("[0-9]*")}
        files = [step for step, complete in steps.items() if not complete and any((path_of(step)).rglob("*.distcp"))]
        return max(files, default=0) if any(steps.values()) else 0

    def path_of(step: int) -> Path:
        return tmp_path / "run" / "checkpoints" / f"{step:08d}"

    until(half_written, "a checkpoint half-written", pause=0.0005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    step = max(int(path.name) for path in (tmp_path / "run" / "checkpoints").glob("[0-9]*"))
    kept = folder.checkpoints()
    if not (path_of(step) / "complete.json").exists():  # else it came to its end between our look and the kill
        assert kept
        assert kept[-1] < step
    assert train_here(merge_patch(recipe, {"stages": [stage | {"steps": kept[-1] + 20}]}), folder) == 0
    assert [event["step"] for event in told(folder, "resumed")] == [kept[-1]]
    assert folder.checkpoints()[-1] == kept[-1] + 20
