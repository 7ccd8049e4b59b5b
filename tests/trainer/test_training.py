"""The trainer by itself, as torchrun starts it: exact resumption, stop signals, storage that fails, checkpoints that lie."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dayrun.objects import Prefix
from dayrun.run_folder import EXIT_FAILED, EXIT_STOPPED, RunFolder
from tests.conftest import ROOT, until
from tests.tiny import tiny_recipe, write_data
from tests.trainer.here import train_here

STEPS = 60


def command(recipe: dict, out: Path, shell_prefix: str = "exec") -> list[str]:
    file = out.with_suffix(".json")
    file.write_text(json.dumps(recipe))
    line = f"{shell_prefix} {sys.executable} -m trainer {file} --out {out}"
    return ["bash", "-c", line]


def start(recipe: dict, out: Path, shell_prefix: str = "exec") -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command(recipe, out, shell_prefix), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def train(recipe: dict, out: Path) -> int:
    return train_here(recipe, RunFolder(Prefix(out)))


def losses(out: Path) -> dict[int, float]:
    return {m["step"]: m["value"] for m in RunFolder(Prefix(out)).metrics() if m["name"] == "loss"}


def events(out: Path, type: str) -> list[dict]:
    return [event for event in RunFolder(Prefix(out)).events() if event["type"] == type]


@pytest.fixture(scope="module")
def recipe(tiny_data: Path) -> dict:
    return tiny_recipe(tiny_data, steps=STEPS, processes=1, checkpoints={"every": 20, "keep_last": 3})


@pytest.fixture(scope="module")
def straight(recipe: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight") / "run"
    assert train(recipe, out) == 0
    return out


def test_an_undisturbed_run_leaves_everything_in_its_folder(straight: Path):
    folder = RunFolder(Prefix(straight))
    assert list(losses(straight)) == list(range(1, STEPS + 1))
    assert folder.checkpoints() == [20, 40, 60]
    assert events(straight, "ended")[0]["data"]["outcome"] == "succeeded"
    assert json.loads((straight / "recipe.json").read_text())["checkpoints"]["keep_last"] == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_leads_to_a_checkpoint_and_the_rest_is_bitwise_equal(recipe: dict, straight: Path, tmp_path: Path, number: int):
    out = tmp_path / "run"
    process = start(recipe, out)
    until(lambda: (out / "checkpoints" / "00000020" / "complete.json").exists(), "the first checkpoint")
    process.send_signal(number)
    process.communicate(timeout=300)
    assert process.returncode == EXIT_STOPPED, "it ended before the signal came"
    stopped = events(out, "ended")[0]
    assert stopped["data"]["outcome"] == "stopped"
    assert RunFolder(Prefix(out)).checkpoints()[-1] == stopped["step"] < STEPS
    assert train(recipe, out) == 0
    assert events(out, "resumed")[0]["data"]["checkpoint"] == stopped["step"]
    assert losses(out) == losses(straight)


def test_a_process_with_pid_1_reacts_to_the_stop_signal(recipe: dict, tmp_path: Path):
    """In a container the trainer may be pid 1, for which the kernel ignores signals without a handler."""
    out = tmp_path / "run"
    long = recipe | {"stages": [recipe["stages"][0] | {"steps": 100_000}]}
    user = "" if os.geteuid() == 0 else "--user --map-root-user"
    process = start(long, out, shell_prefix=f"exec unshare {user} --pid --fork --kill-child --mount-proc")
    until(lambda: (out / "checkpoints" / "00000020" / "complete.json").exists(), "the first checkpoint")
    inner = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    assert Path(f"/proc/{inner}/status").read_text().split("NSpid:")[1].split("\n")[0].split()[-1] == "1"
    os.kill(inner, signal.SIGTERM)
    process.communicate(timeout=300)
    assert events(out, "ended")[0]["data"]["outcome"] == "stopped"


def test_a_damaged_checkpoint_is_passed_over_for_an_older_one(recipe: dict, straight: Path, tmp_path: Path):
    out = tmp_path / "run"
    subprocess.run(["cp", "-r", str(straight), str(out)], check=True)
    for name, damage in (("00000060", bytes(8)), ("00000040", None)):
        victim = next((out / "checkpoints" / name).rglob("*.distcp"))
        data = victim.read_bytes()
        victim.write_bytes(data[:-5] if damage is None else data[:100] + damage + data[108:])
    assert train(recipe, out) == 0
    because = {e["data"]["checkpoint"]: e["data"]["because"] for e in events(out, "checkpoint_rejected")}
    assert "digest" in because[60]
    assert "bytes" in because[40]
    assert events(out, "resumed")[0]["data"]["checkpoint"] == 20
    assert losses(out) == losses(straight)


def test_storage_that_fails_stops_the_run_or_not_as_the_recipe_says(recipe: dict, straight: Path, tmp_path: Path):
    """A limit on the size of files stands for a full disk: the write itself fails, half-way."""
    small = "trap '' XFSZ; ulimit -f 60; exec"
    going_on, stopping = tmp_path / "on", tmp_path / "stop"
    for out in (going_on, stopping):
        subprocess.run(["cp", "-r", str(straight), str(out)], check=True)
        for step in ("00000040", "00000060"):
            subprocess.run(["rm", "-r", str(out / "checkpoints" / step)], check=True)
    strict = recipe | {"checkpoints": {"every": 20, "keep_last": 3, "on_storage_error": "stop"}}
    processes = [start(strict, stopping, small), start(recipe, going_on, small)]
    for process in processes:
        process.communicate(timeout=300)
    assert [process.returncode for process in processes] == [EXIT_FAILED, EXIT_FAILED]  # the second: at the end there must be a checkpoint
    ended = events(stopping, "ended")[-1]
    assert (ended["data"]["outcome"], ended["data"]["cause"]) == ("failed", "storage")
    assert 40 <= ended["step"] < 60  # found out while the training went on
    assert [e["step"] for e in events(stopping, "checkpoint_failed")] == [40]
    assert [e["step"] for e in events(going_on, "checkpoint_failed")] == [40, 60]
    for out in (going_on, stopping):
        assert RunFolder(Prefix(out)).checkpoints() == [20]  # the last complete one stays readable:
    assert train(recipe, going_on) == 0
    assert losses(going_on) == losses(straight)


def test_an_attempt_that_was_overtaken_writes_nothing_more(recipe: dict, tmp_path: Path):
    out = tmp_path / "run"
    long = recipe | {"stages": [recipe["stages"][0] | {"steps": 100_000}]}
    process = start(long, out)
    folder = RunFolder(Prefix(out))
    until(lambda: folder.checkpoints(), "the first checkpoint")
    folder.claim_attempt(2, {})
    output, _ = process.communicate(timeout=300)
    assert process.returncode == EXIT_FAILED
    assert "attempt 2 has taken over" in output
    newest = folder.checkpoints()[-1]
    assert folder.checkpoint_manifest(newest)["attempt"] == 1


def test_an_attempt_that_wakes_up_late_changes_nothing(recipe: dict, straight: Path, tmp_path: Path):
    """Two attempts alive at once: the first is stopped, the second claims the folder and trains to the end, the first goes on."""
    out, folder = tmp_path / "run", RunFolder(Prefix(tmp_path / "run"))
    first = start(recipe, out)
    until(folder.checkpoints, "the first checkpoint")
    first.send_signal(signal.SIGSTOP)
    assert first.poll() is None
    assert train(recipe, out) == 0
    before = {info.key: folder.prefix.get(info.key) for info in folder.prefix.objects()}
    first.send_signal(signal.SIGCONT)
    output, _ = first.communicate(timeout=300)
    assert first.returncode == EXIT_FAILED
    assert "attempt 2 has taken over" in output
    after = {info.key: folder.prefix.get(info.key) for info in folder.prefix.objects()}
    # a put that was under way when it was stopped may come to its end, under the first attempt's own name: nobody reads it
    assert {key for key in before.keys() | after.keys() if before.get(key) != after.get(key) and "0001" not in key} == set()
    assert folder.checkpoints() == [20, 40, 60]
    assert [folder.checkpoint_manifest(step)["attempt"] for step in (40, 60)] == [2, 2]
    assert losses(out) == losses(straight)


def test_bad_data_end_the_run_before_training_with_the_place(recipe: dict, tmp_path: Path):
    out = tmp_path / "run"
    assert train(recipe | {"data": {"sources": [{"url": str(tmp_path / "none")}]}}, out) == EXIT_FAILED
    ended = events(out, "ended")[0]
    assert ended["data"]["cause"] == "data"
    assert str(tmp_path / "none") in " ".join(ended["data"]["evidence"])
    assert losses(out) == {}


def test_a_recipe_that_is_none_is_a_spec_fault_with_every_error(recipe: dict, tmp_path: Path):
    out = tmp_path / "run"
    assert train(recipe | {"seed": -1, "optimizer": {"kind": "sgd"}}, out) == EXIT_FAILED
    ended = events(out, "ended")[0]
    assert ended["data"]["cause"] == "spec"
    assert "/optimizer/kind" in " ".join(ended["data"]["evidence"])
    assert "/seed" in " ".join(ended["data"]["evidence"])


def test_pictures_appear_with_their_index_and_the_untrained_control(tiny_data: Path, tmp_path: Path):
    """Two processes share the drawing; the pictures do not depend on how many there are."""
    from dayrun import builtin

    sets = [{"name": "preview", "prompts": ["a red apple", "a pear", "a fig"], "seed": 5, "every": 10, "at_start": True, "at_end": True}]
    wide = {"model": tiny_recipe(tiny_data)["model"] | {"text_width": 384}, "text": builtin.get("demo")["text"]}
    recipe = tiny_recipe(write_data(tmp_path / "data", tokens=16, width=384), steps=10, **wide) | {
        "samples": {"sets": sets, "steps": 4, "guidance": 1.0}
    }
    alone, pair = tmp_path / "alone", tmp_path / "pair"
    assert train(recipe | {"hardware": recipe["hardware"] | {"processes_per_node": 1}}, alone) == 0
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(recipe))
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "trainer"]
    done = subprocess.run([*line, str(file), "--out", str(pair)], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    pictures = []
    for out in (alone, pair):
        folder = RunFolder(Prefix(out))
        assert folder.sample_steps() == [0, 10]
        index = folder.sample_index(10)
        assert index["complete"]
        assert index["checkpoint"] == folder.checkpoint_digest(10)
        assert [(i["prompt"], i["seed"], i["ema"]) for i in index["images"]] == [
            ("a red apple", 5, True),
            ("a pear", 6, True),
            ("a fig", 7, True),
        ]
        pictures.append([folder.sample_picture(0, image["file"]) for image in folder.sample_index(0)["images"]])
    assert pictures[0] == pictures[1]
    assert len({folder.sample_picture(10, image["file"]) for image in folder.sample_index(10)["images"]}) == 3
