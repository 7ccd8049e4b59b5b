"""Forks: a run that begins with another run's state, at exactly that state or with its weights alone."""

from pathlib import Path

import pytest

from dayrun.objects import Prefix
from dayrun.recipe import merge_patch
from dayrun.run_folder import EXIT_FAILED, Fork, RunFolder, Weights
from tests.tiny import tiny_recipe
from tests.trainer.here import train_here
from trainer import export

STEPS = 40


@pytest.fixture(scope="module")
def recipe(tiny_data: Path) -> dict:
    return tiny_recipe(tiny_data, steps=STEPS, processes=1, checkpoints={"every": 20, "keep_last": 2})


@pytest.fixture(scope="module")
def parent(recipe: dict, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(Prefix(tmp_path_factory.mktemp("parent") / "run"))
    assert train_here(recipe, folder) == 0
    return folder


def forked(parent: RunFolder, at: Path, weights: Weights) -> RunFolder:
    child = RunFolder(Prefix(at))
    fork: Fork = {"from": parent.prefix.url, "step": 20, "weights": weights}
    child.put_fork(fork)
    return child


def losses(folder: RunFolder) -> dict[int, float]:
    return {m["step"]: m["value"] for m in folder.metrics() if m["name"] == "loss"}


def told(folder: RunFolder, type: str) -> list[dict]:
    return [event["data"] for event in folder.events() if event["type"] == type]


def test_a_fork_of_all_goes_on_exactly_and_then_from_its_own(parent: RunFolder, recipe: dict, tmp_path: Path):
    child = forked(parent, tmp_path / "child", "all")
    assert train_here(recipe, child) == 0
    assert losses(child) == {step: loss for step, loss in losses(parent).items() if step > 20}  # bitwise
    digest = parent.checkpoint_digest(20)
    assert told(child, "forked") == [{"from": parent.prefix.url, "checkpoint": 20, "weights": "all", "digest": digest}]
    assert child.checkpoints() == [20, 40]  # the first is its own copy: the parent may delete its own
    child.delete_checkpoint(40)
    assert train_here(recipe, child) == 0
    assert told(child, "resumed") == [{"checkpoint": 20}]
    assert len(told(child, "forked")) == 1


def test_a_fork_of_weights_starts_at_step_0_with_what_was_learnt(parent: RunFolder, recipe: dict, tmp_path: Path):
    fresh = {"optimizer": {"kind": "adamw"}, "ema": {"decay": 0.5}}
    first: dict[str, float] = {}
    for weights in ("ema", "model"):
        child = forked(parent, tmp_path / weights, weights)
        assert train_here(merge_patch(recipe, fresh | {"stages": [recipe["stages"][0] | {"steps": 10}]}), child) == 0
        assert list(losses(child)) == list(range(1, 11))
        first[weights] = losses(child)[1]
    assert first["ema"] != first["model"]
    assert max(first.values()) < losses(parent)[1]  # the same data, and weights that have seen them


def test_a_fork_that_does_not_fit_names_the_tensor_both_shapes_and_the_field(parent: RunFolder, recipe: dict, tmp_path: Path):
    child = forked(parent, tmp_path / "child", "model")
    assert train_here(merge_patch(recipe, {"model": {"bottleneck_size": 4}}), child) == EXIT_FAILED
    ended = told(child, "ended")[0]
    assert ended["cause"] == "spec"
    said = " ".join(ended["evidence"])
    for part in ("/model/bottleneck_size", "model.img_in.0.weight", "[8, 48]", "[4, 48]", "nearest: 8"):
        assert part in said
    assert losses(child) == {}


def test_a_fork_of_a_checkpoint_that_is_gone_says_which_there_are(parent: RunFolder, recipe: dict, tmp_path: Path):
    child = RunFolder(Prefix(tmp_path / "child"))
    child.put_fork({"from": parent.prefix.url, "step": 30, "weights": "all"})
    assert train_here(recipe, child) == EXIT_FAILED
    ended = told(child, "ended")[0]
    assert ended["cause"] == "spec"
    assert "no complete checkpoint of step 30" in ended["evidence"][-1]
    assert "nearest: 20, 40" in ended["evidence"][-1]


def test_a_run_begins_with_the_weights_of_a_diffusers_folder(parent: RunFolder, recipe: dict, tmp_path: Path):
    export.export(parent, "e", 20, None)
    child = RunFolder(Prefix(tmp_path / "child"))
    child.put_fork({"from": f"{parent.prefix.url}/exports/e", "step": 0, "weights": "model"})
    short = {"stages": [recipe["stages"][0] | {"steps": 10}]}
    assert train_here(recipe | short, child) == 0
    told_of, files = told(child, "forked")[0], parent.export_manifest("e")["files"]
    assert told_of["digest"] == files[export.WEIGHTS]["sha256"]
    same = forked(parent, tmp_path / "same", "ema")  # what was exported
    assert train_here(recipe | short, same) == 0
    assert losses(child) == losses(same)  # bitwise


def test_a_diffusers_folder_that_does_not_fit_names_the_fields(parent: RunFolder, recipe: dict, tmp_path: Path):
    export.export(parent, "other", 20, None)
    child = RunFolder(Prefix(tmp_path / "child"))
    child.put_fork({"from": f"{parent.prefix.url}/exports/other", "step": 0, "weights": "model"})
    model = {"heads": 1, "rotary_axes": [8, 8], "resolution_conditioning": "vec"}
    assert train_here(merge_patch(recipe, {"model": model}), child) == EXIT_FAILED
    ended = told(child, "ended")[0]
    assert ended["cause"] == "spec"
    said = " ".join(ended["evidence"])
    for part in (
        "/model/heads: 1: the folder's transformer says num_heads 2; nearest: 2",
        "/model/rotary_axes",
        "/model/resolution_conditioning",
    ):
        assert part in said
    assert losses(child) == {}
