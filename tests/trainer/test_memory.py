"""Memory that runs out is answered by a smaller micro-batch and the same batch; what fits is told from what was measured."""

from pathlib import Path
from typing import Any

import pytest
import torch

from dayrun.objects import Prefix
from dayrun.recipe import merge_patch
from dayrun.run_folder import RunFolder
from tests.tiny import tiny_recipe, write_data
from tests.trainer import ranks
from trainer import microbatch
from trainer.faults import cause_of

PIXELS, SHARE, SPARE = 64, 64, 100 * 2**20
"""A micro-batch of 64 pictures of 1,024 tokens keeps about 900 MB between forward and backward; a process may have some unused."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("memory")
    stage = {"name": "wide", "pixels": PIXELS, "steps": 1, "batch_size": SHARE}
    base = tiny_recipe(
        write_data(out / "data", pixels=PIXELS),
        processes=1,
        stages=[stage],
        checkpoints={"every": 2},
        schedule={"kind": "constant", "warmup_steps": 1},
    )
    alone = merge_patch(base, {"model": {"patch_size": 2, "hidden_size": 32, "rotary_axes": [8, 8]}})
    pair = merge_patch(alone, {"stages": [stage | {"batch_size": 2 * SHARE}], "hardware": {"processes_per_node": 2}})
    halves = merge_patch(alone, {"stages": [stage | {"micro_batch_size": SHARE // 2}]})
    sharded = merge_patch(pair, {"hardware": {"sharding": "full"}})

    def job(recipe: dict[str, Any], name: str, **spare: int) -> dict[str, Any]:
        return {"do": "train", "recipe": recipe, "out": str(out / name), "spare_bytes": spare}

    ranks.run(
        [
            # the limited ones first: what an earlier job has freed would be theirs to use
            {"size": 1, "jobs": [job(alone, "alone", **{"0": SPARE}), job(halves, "halves")]},
            {"size": 2, "jobs": [job(pair, "pair", **{"1": SPARE})]},
            {"size": 2, "jobs": [job(sharded, "sharded", **{"1": SPARE})]},
        ],
        out,
    )
    return out


def told(out: Path, type: str) -> list[dict[str, Any]]:
    return [event["data"] for event in RunFolder(Prefix(out)).events() if event["type"] == type]


def losses(out: Path) -> dict[int, float]:
    return {m["step"]: m["value"] for m in RunFolder(Prefix(out)).metrics() if m["name"] == "loss"}


@pytest.mark.long
@pytest.mark.parametrize("name", ["alone", "pair", "sharded"])
def test_memory_that_runs_out_on_one_rank_halves_the_micro_batch_of_all(made: Path, name: str):
    """The allocator itself refuses: the process may not have more address space."""
    assert told(made / name, "micro_batch_reduced") == [{"stage": "wide", "before": SHARE, "now": SHARE // 2}]
    assert list(losses(made / name)) == [1]


@pytest.mark.long
def test_the_step_that_failed_is_trained_as_if_nothing_had_been(made: Path):
    assert losses(made / "alone") == losses(made / "halves")
    assert losses(made / "sharded") == pytest.approx(losses(made / "pair"), rel=1e-5)


def test_what_fits_is_told_from_two_sizes():
    peaks = {1: 30 * 2**30, 4: 33 * 2**30}  # 29 GiB and 1 GiB an image
    assert microbatch.greatest_that_fits(64, peaks, capacity=80 * 2**30) == 32
    assert microbatch.greatest_that_fits(48, peaks, capacity=80 * 2**30) == 24
    assert microbatch.greatest_that_fits(64, peaks, capacity=30 * 2**30) == 1
    assert microbatch.to_be_measured(48) == [1, 4]
    assert microbatch.to_be_measured(1) == [1]


def test_a_smaller_micro_batch_divides_the_share():
    assert [microbatch.smaller(12, size) for size in (12, 6, 3, 1)] == [6, 3, 1, None]
    assert microbatch.smaller(12, 3, at_least=2) is None


def event(attempt: int, type: str, **data: Any) -> dict[str, Any]:
    return {"time": 0.0, "attempt": attempt, "step": 0, "type": type, "data": data}


def test_the_next_attempt_begins_with_what_the_last_came_down_to():
    """A rank that fails between collectives of others can only end the attempt: the next one must not meet the same end."""
    started = event(1, "stage_started", stage="a", micro_batch_size=16)
    ended = event(1, "ended", cause="oom")
    after = microbatch.after_earlier_attempts
    assert after([], "a", 16, 16) == 16
    assert after([started, event(1, "micro_batch_reduced", stage="a", before=16, now=8)], "a", 16, 16) == 8
    assert after([started, ended, ended], "a", 16, 16) == 8  # two ranks have told of it
    assert after([started, ended, event(2, "stage_started", stage="a", micro_batch_size=8), ended], "a", 16, 16) == 4
    assert after([started, ended], "b", 16, 16) == 16
    assert after([started, event(1, "ended", cause="data")], "a", 16, 16) == 16


def test_memory_that_has_run_out_is_a_cause_by_itself():
    error = torch.OutOfMemoryError("memory has run out with a micro-batch of 1, and no smaller one is possible")
    assert cause_of(error) == "oom"
