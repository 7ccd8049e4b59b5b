"""The trainer with its run folder on an S3 server: the same run as in a folder, whatever happens to either of them."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from dayrun.objects import Prefix
from dayrun.recipe import Hardware
from dayrun.recipe_errors import RecipeErrors
from dayrun.run_folder import RunFolder
from service.parts import S3
from service.stack import BUCKET
from tests.conftest import ROOT, until
from tests.networks import write_dinov3
from tests.tiny import tiny_recipe
from tests.trainer.here import train_here
from trainer.export import export
from trainer.objective.teachers import load_vit
from trainer.trained import alone

STEPS = 60


def launch(recipe: dict, folder: RunFolder, processes: int = 1, *flags: str) -> subprocess.Popen:
    """The trainer as the service starts it: the recipe lies in the run folder."""
    folder.put_recipe(recipe)
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    command = [sys.executable, *torchrun, "-m", "trainer", f"{folder.prefix.url}/recipe.json", "--out", folder.prefix.url, *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen) -> tuple[int, str]:
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def losses(folder: RunFolder) -> dict[int, float]:
    return {m["step"]: m["value"] for m in folder.metrics() if m["name"] == "loss"}


def events(folder: RunFolder, type: str) -> list[dict]:
    return [event for event in folder.events() if event["type"] == type]


@pytest.fixture(scope="module")
def recipe(tiny_data: Path) -> dict:
    return tiny_recipe(tiny_data, steps=STEPS, processes=2, checkpoints={"every": 20, "keep_last": 2})


@pytest.fixture(scope="module")
def straight(recipe: dict, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The undisturbed run of two processes in a folder."""
    folder = RunFolder(Prefix(tmp_path_factory.mktemp("straight") / "run"))
    code, output = finish(launch(recipe, folder, processes=2))
    assert code == 0, output
    return folder


@pytest.mark.long
def test_a_run_on_s3_that_was_killed_equals_one_in_a_folder_bitwise(bucket: str, recipe: dict, straight: RunFolder):
    folder = RunFolder(Prefix(f"{bucket}/killed"))
    process = launch(recipe, folder, 2)
    assert process.stdout is not None
    assert any("checkpoint_saved" in line for line in process.stdout), "it ended without a checkpoint"
    ranks = [p for p in psutil.Process(process.pid).children() if "trainer" in p.cmdline()]
    ranks[-1].kill()
    code, _ = finish(process)
    assert code != 0, "it ended before it was killed"
    assert "checkpoint_saved" in folder.read_log(1, 0).decode()  # printed moments before the kill
    reached = folder.checkpoints()[-1]

    code, output = finish(launch(recipe, folder, 2))
    assert code == 0, output
    assert events(folder, "resumed")[0]["data"]["checkpoint"] == reached
    assert losses(folder) == losses(straight)
    assert folder.checkpoints() == straight.checkpoints() == [40, 60]
    assert folder.log_ranks(2) == ["0", "1"]
    assert folder.read_log(2, 0).decode().splitlines()[-1].startswith(f"[rank 0] step {STEPS}: ended")


def test_a_damaged_checkpoint_on_s3_is_passed_over(bucket: str, recipe: dict, straight: RunFolder):
    folder = RunFolder(Prefix(f"{bucket}/damaged"))
    for info in straight.prefix.objects():
        folder.prefix.put(info.key, straight.prefix.get(info.key))
    victim = next(info.key for info in folder.prefix.objects("checkpoints/00000060") if info.key.endswith(".distcp"))
    data = bytearray(folder.prefix.get(victim))
    data[100] ^= 1
    folder.prefix.put(victim, bytes(data))
    assert train_here(recipe, folder) == 0  # one process goes on from what two have saved
    assert [e["data"]["checkpoint"] for e in events(folder, "checkpoint_rejected")] == [60]
    assert [e["data"]["checkpoint"] for e in events(folder, "resumed")] == [40]
    assert folder.checkpoint_manifest(60)["attempt"] == 2


def test_a_run_begins_with_a_diffusers_folder_on_s3(bucket: str, recipe: dict, straight: RunFolder, tmp_path: Path):
    export(straight, "e", 60, None)
    there = Prefix(f"{bucket}/published")
    for info in straight.prefix.objects("exports/e"):
        there.put(info.key.removeprefix("exports/e/"), straight.prefix.get(info.key))
    children = [RunFolder(Prefix(tmp_path / name)) for name in ("from-store", "from-folder")]
    for child, source in zip(children, (there.url, f"{straight.prefix.url}/exports/e"), strict=True):
        child.put_fork({"from": source, "step": 0, "weights": "model"})
        assert train_here({**recipe, "stages": [recipe["stages"][0] | {"steps": 10}]}, child) == 0
    assert losses(children[0]) == losses(children[1])
    assert losses(children[0])[1] != losses(straight)[1]  # it did not begin by chance
    digests = [events(child, "forked")[0]["data"]["digest"] for child in children]
    assert digests[0] == digests[1]


@pytest.mark.long
def test_a_store_that_is_away_costs_a_checkpoint_and_not_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: dict):
    """Away for longer than the trainer waits: a checkpoint fails, the run does not, and everything measured meanwhile is kept."""
    server = S3(tmp_path)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.start()
    folder = RunFolder(Prefix(f"s3://{BUCKET}/away"))
    stage = recipe["stages"][0] | {"steps": 600}
    try:
        process = launch(recipe | {"stages": [stage], "checkpoints": {"every": 20, "keep_last": 2}}, folder, 1, "--patience", "2")
        until(folder.checkpoints, "the first checkpoint")
        server.kill()
        assert process.stdout is not None
        assert any("checkpoint_failed" in line for line in process.stdout), "no checkpoint was due while the store was away"
        server.start()
        code, output = finish(process)
        assert code == 0, output
        assert list(losses(folder)) == list(range(1, 601))
        failed = [event["step"] for event in events(folder, "checkpoint_failed")]
        assert failed
        assert all(f"step {step}: checkpoint_failed" in folder.read_log(1, 0).decode() for step in failed)
        assert folder.checkpoints() == [580, 600]
    finally:
        server.stop()


def test_a_frozen_network_comes_from_an_object_store(bucket: str, tmp_path: Path):
    prefix = Prefix(f"{bucket}/networks/vit")
    for file in write_dinov3(tmp_path).iterdir():
        prefix.put_file(file.name, file)
    hardware = Hardware(accelerator="cpu", threads_per_process=1, compile=False)
    with alone(hardware) as world:
        ours = load_vit(prefix.url, "/representation/teacher", hardware, world)
        same = load_vit(str(tmp_path), "/representation/teacher", hardware, world)
        picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        assert torch.equal(ours.features(picture), same.features(picture))
        with pytest.raises(RecipeErrors, match="nothing lies under this prefix"):
            load_vit(f"{bucket}/networks/none", "/representation/teacher", hardware, world)
