"""Faults of real tiny runs: numbers that are none, going back, signals that ask for something, a rank that stands still or is slow."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import psutil
import pytest

from dayrun.objects import Prefix
from dayrun.run_folder import EXIT_FAILED, RunFolder
from tests.conftest import ROOT, until
from tests.tiny import tiny_recipe, write_data
from tests.trainer.here import train_here
from trainer.data.buckets import Size
from trainer.data.order import Members, Order
from trainer.profiling import STEPS as PROFILED
from trainer.telemetry import LOG_EVERY

BATCH = 8
SAMPLES = 160
ORDER = Order([Members(Size(8, 8), Fraction(1), np.arange(SAMPLES), np.arange(1))], seed=0, batch_size=BATCH, block=SAMPLES)


def events(folder: RunFolder, type: str, attempt: int | None = None) -> list[dict]:
    return [e for e in folder.events() if e["type"] == type and attempt in (None, e["attempt"])]


def losses(folder: RunFolder) -> dict[int, float]:
    return {m["step"]: m["value"] for m in folder.metrics() if m["name"] == "loss"}


def spoiled(place: Path, steps: range | list[int]) -> Path:
    """Data of which one sample in the batch of each of `steps` has text states that are not finite."""
    return write_data(place, samples=SAMPLES, infinite={ORDER.sample_at((step - 1) * BATCH + 3) for step in steps})


def forget(folder: RunFolder, after: int) -> None:
    """As if the run had been killed before it could write the checkpoints after step `after`."""
    for step in folder.checkpoints():
        if step > after:
            folder.delete_checkpoint(step)


# one process


@pytest.fixture(scope="module")
def skipping(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, RunFolder]:
    """A run whose seventh batch holds a sample that is not finite, with a checkpoint of every step."""
    place = tmp_path_factory.mktemp("skipping")
    # averages in every step, so that a step that was skipped shows in them
    checkpoints, ema = {"every": 1, "keep_last": 100}, {"decay": 0.9, "every": 1}
    recipe = tiny_recipe(spoiled(place / "data", [7]), steps=12, processes=1, checkpoints=checkpoints, ema=ema)
    folder = RunFolder(Prefix(place / "run"))
    assert train_here(recipe, folder) == 0
    return recipe, folder


def test_a_batch_that_is_not_finite_is_skipped_and_named(skipping: tuple[dict, RunFolder]):
    _, folder = skipping
    (skipped,) = events(folder, "step_skipped")
    assert skipped["step"] == 7
    positions = list(range(6 * BATCH, 7 * BATCH))
    assert skipped["data"]["where"] == [{"rank": 0, "positions": positions, "samples": [ORDER.sample_at(p) for p in positions]}]
    assert (skipped["data"]["loss"], skipped["data"]["in_a_row"]) == ("nan", 1)
    assert sorted(losses(folder)) == [1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12]
    assert events(folder, "ended")[0]["data"]["outcome"] == "succeeded"


def test_a_skipped_step_leaves_weights_momentum_and_averages_untouched(skipping: tuple[dict, RunFolder]):
    _, folder = skipping
    manifests = {step: folder.checkpoint_manifest(step) for step in (5, 6, 7, 8)}
    content = {step: [f["sha256"] for name, f in m["files"].items() if name.endswith(".distcp")] for step, m in manifests.items()}
    assert content[7] == content[6]
    assert content[6] != content[5]
    assert content[8] != content[7]
    assert [m["position"] for m in manifests.values()] == [step * BATCH for step in (5, 6, 7, 8)]


def test_a_resume_across_a_skipped_step_is_bitwise_equal(skipping: tuple[dict, RunFolder], tmp_path: Path):
    recipe, straight = skipping
    shutil.copytree(straight.prefix.path or "", tmp_path / "run")
    folder = RunFolder(Prefix(tmp_path / "run"))
    forget(folder, after=5)
    assert train_here(recipe, folder) == 0
    assert events(folder, "resumed")[0]["data"]["checkpoint"] == 5
    assert [e["data"] for e in events(folder, "step_skipped", 2)] == [e["data"] for e in events(straight, "step_skipped")]
    assert losses(folder) == losses(straight)


def test_too_many_skipped_steps_in_a_row_are_the_end(tmp_path: Path):
    recipe = tiny_recipe(spoiled(tmp_path / "data", [3, 5, 6, 7]), steps=12, processes=1, guard={"skip_limit": 3})
    folder = RunFolder(Prefix(tmp_path / "run"))
    assert train_here(recipe, folder) == EXIT_FAILED
    (ended,) = events(folder, "ended")
    assert ended["data"]["cause"] == "diverged"
    assert "step 7: loss or gradients of 3 steps in a row" in " ".join(ended["data"]["evidence"])
    assert [e["data"]["in_a_row"] for e in events(folder, "step_skipped")] == [1, 1, 2, 3]


def test_the_run_goes_back_and_on_with_other_data_and_so_does_who_resumes_it(tmp_path: Path):
    guard = {"skip_limit": 2, "roll_back": 1}
    recipe = tiny_recipe(spoiled(tmp_path / "data", [7, 8]), steps=12, processes=1, guard=guard, checkpoints={"every": 5, "keep_last": 5})
    straight = RunFolder(Prefix(tmp_path / "run"))
    assert train_here(recipe, straight) == 0
    (back,) = events(straight, "rolled_back")
    assert (back["data"]["checkpoint"], back["data"]["position"], back["data"]["count"]) == (5, 8 * BATCH, 1)
    assert "step 8" in back["data"]["because"]
    assert straight.checkpoint_manifest(10)["position"] == (8 + 5) * BATCH

    shutil.copytree(tmp_path / "run", tmp_path / "resumed")
    resumed = RunFolder(Prefix(tmp_path / "resumed"))
    forget(resumed, after=5)
    assert train_here(recipe, resumed) == 0
    assert events(resumed, "resumed")[0]["data"]["checkpoint"] == 5
    assert events(resumed, "step_skipped", 2) == []
    assert losses(resumed) == losses(straight)
    assert resumed.checkpoint_manifest(12)["guard"] == straight.checkpoint_manifest(12)["guard"]


def test_what_a_run_tells_of_itself(tmp_path: Path):
    # $3,600 an hour: a dollar a second, and no picture was asked for
    hardware = tiny_recipe("")["hardware"] | {"processes_per_node": 1, "dollars_per_accelerator_hour": 3600.0}
    recipe = tiny_recipe(write_data(tmp_path / "data"), steps=100, hardware=hardware)
    folder = RunFolder(Prefix(tmp_path / "run"))
    assert train_here(recipe, folder) == 0
    found: dict[str, dict[int, float]] = {}
    for metric in folder.metrics():
        found.setdefault(metric["name"], {})[metric["step"]] = metric["value"]
    often = {name for name, values in found.items() if list(values) == list(range(LOG_EVERY, 101, LOG_EVERY))}
    assert often >= {
        "gradient_norm",
        "learning_rate",
        "step_seconds",
        "steps_per_second",
        "images_per_second",
        "memory_bytes",
        "peak_share",
        "samples_read",
    }
    parts = ["data_wait_seconds", "forward_seconds", "backward_seconds", "communication_seconds", "optimizer_seconds"]
    assert often >= {*parts, "dollars"}
    for step, whole in found["step_seconds"].items():
        assert 0 < sum(found[part][step] for part in parts) <= whole
        assert found["images_per_second"][step] == pytest.approx(BATCH / whole)
    assert list(found["checkpoint_seconds"]) == [30, 50, 70, 90]  # told in the window that follows it
    assert sorted(found["dollars"].values()) == list(found["dollars"].values())
    bins = [value for name, values in found.items() if name.startswith("loss_time_") for value in values.values()]
    assert min(bins) <= sum(found["loss"].values()) / 100 <= max(bins)
    assert {name for name in found if "block" in name or name.endswith("_rest")} == {
        f"{kind}_norm_{block}" for kind in ("gradient", "update") for block in ("block_00", "block_01", "rest")
    }
    squares = sum(found[f"gradient_norm_{block}"][100] ** 2 for block in ("block_00", "block_01", "rest"))
    assert squares**0.5 == pytest.approx(found["gradient_norm"][100], rel=1e-4)
    assert all(found[f"update_norm_{block}"][100] > 0 for block in ("block_00", "block_01", "rest"))


# two processes


@dataclass
class Ordeal:
    """What became of a run of two processes that was asked for a checkpoint and a trace, slowed down, and stopped in one rank."""

    folder: RunFolder
    output: str
    code: int


@pytest.fixture(scope="module")
def ordeal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ordeal]:
    place = tmp_path_factory.mktemp("ordeal")
    guard = {"hang_seconds": 6.0}
    recipe = tiny_recipe(write_data(place / "data"), steps=1_000_000, processes=2, guard=guard, checkpoints={"every": 1_000_000})
    (place / "recipe.json").write_text(json.dumps(recipe))
    folder = RunFolder(Prefix(place / "run"))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "trainer"]
    process = subprocess.Popen(
        [*torchrun, str(place / "recipe.json"), "--out", str(place / "run")],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    ranks: dict[str, psutil.Process] = {}
    try:
        until(lambda: len(losses(folder)) > 2 * LOG_EVERY, "some steps")
        ranks = {p.environ()["RANK"]: p for p in psutil.Process(process.pid).children() if "trainer" in p.cmdline()}
        last = ranks["1"]
        last.send_signal(signal.SIGUSR1)
        until(folder.checkpoints, "the checkpoint that was asked for")
        last.send_signal(signal.SIGUSR2)
        until(lambda: events(folder, "profiled"), "the trace that was asked for")
        turns = iter(range(10**9))

        def held_back() -> bool:
            """Stop the rank in four moments of five, which is all that makes it slow."""
            turn = next(turns)
            last.resume() if turn % 5 == 4 else last.suspend()
            return turn % 25 == 0 and bool(events(folder, "straggler"))

        until(held_back, "a straggler to be named", pause=0.004)
        last.resume()
        until(lambda: events(folder, "straggler_over"), "the straggler to be let go")
        last.suspend()
        until(lambda: events(folder, "ended"), "the hang to be found")
        last.kill()  # torchrun would wait for it for half a minute
        output, _ = process.communicate(timeout=120)
        yield Ordeal(folder, output, process.returncode)
    finally:
        if process.poll() is None:
            for one in [*ranks.values(), process]:
                one.kill()


def test_sigusr1_to_one_rank_is_a_checkpoint_of_all_and_the_run_goes_on(ordeal: Ordeal):
    (saved,) = events(ordeal.folder, "checkpoint_saved")
    assert ordeal.folder.checkpoints() == [saved["step"]]
    assert len({name.rsplit("_", 1)[0] for name in ordeal.folder.checkpoint_manifest(saved["step"])["files"] if "distcp" in name}) == 2
    assert max(losses(ordeal.folder)) > saved["step"]


def test_sigusr2_is_a_trace_of_the_next_steps(ordeal: Ordeal):
    (profiled,) = events(ordeal.folder, "profiled")
    trace = json.loads(gzip.decompress(ordeal.folder.prefix.get(profiled["data"]["file"])))
    names = [event.get("name", "") for event in trace["traceEvents"]]
    assert profiled["data"]["steps"] == PROFILED
    # one attention a block, forward, in each of the steps
    assert sum(name == "aten::scaled_dot_product_attention" for name in names) == 2 * PROFILED


def test_a_slow_rank_is_named_and_let_go(ordeal: Ordeal):
    slow, over = events(ordeal.folder, "straggler"), events(ordeal.folder, "straggler_over")
    assert {e["data"]["rank"] for e in slow + over} == {1}
    assert slow[0]["data"]["host"] == os.uname().nodename
    assert slow[0]["data"]["seconds"] > 1.5 * slow[0]["data"]["median"]


def test_a_rank_that_stands_still_is_found_named_and_ends_the_attempt(ordeal: Ordeal):
    (hang,), (ended,) = events(ordeal.folder, "hang"), events(ordeal.folder, "ended")
    assert (hang["data"]["ranks"], hang["data"]["silent"]) == ([1], [1])
    assert hang["data"]["doing"]["0"] in ("communication", "optimizer", "step")  # wherever it first needs the other rank
    assert hang["data"]["seconds"] >= hang["data"]["limit_seconds"] == 6.0
    assert (ended["data"]["outcome"], ended["data"]["cause"], ended["data"]["rank"]) == ("failed", "nccl_timeout", 1)
    assert "held up by rank 1" in ended["data"]["evidence"][0]
    stacks = ordeal.folder.prefix.get(ordeal.folder.stacks_key(1, 0)).decode()
    assert "train_stage" in stacks
    assert "watch.py" in stacks
    assert ordeal.code != 0
    assert f"exitcode  : {EXIT_FAILED}" in ordeal.output
