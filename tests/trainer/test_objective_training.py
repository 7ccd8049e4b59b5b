"""Whole tiny runs with LPIPS, P-DINO, representation alignment and routed tokens, from random networks in folders."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp

from dayrun.objects import Prefix
from dayrun.recipe_errors import RecipeErrors
from dayrun.rules import load
from dayrun.run_folder import EXIT_FAILED, RunFolder, Weights
from tests.networks import change, write_dinov2, write_dinov3, write_vgg
from tests.tiny import tiny_recipe, write_data
from tests.trainer import ranks
from tests.trainer.here import train_here
from trainer import checkpoint, export
from trainer.data.loader import Loader
from trainer.faults import StopSignal
from trainer.telemetry import Telemetry
from trainer.train import Run
from trainer.trained import alone, load_trained

PIXELS = 16
REPRESENTATION = {"block": 1, "weight": 0.5}
ROUTING = {"rate": 0.5, "start": 1, "end": 1}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("objective")
    write_data(folder / "data", pixels=PIXELS)
    write_vgg(folder / "vgg")
    write_dinov2(folder / "dinov2")
    write_dinov3(folder / "dinov3")
    return folder


def everything_on(home: Path, steps: int = 10, **sections: Any) -> dict[str, Any]:
    return tiny_recipe(
        home / "data",
        processes=1,
        **{
            "perceptual": {
                "lpips": {"source": str(home / "vgg"), "resize": 1.0, "below_time": 0.7},
                "dino": {"source": str(home / "dinov2"), "pixels": 28, "crop": 12},
            },
            "representation": REPRESENTATION | {"teacher": str(home / "dinov3")},
            "routing": ROUTING,
            "stages": [{"name": "all", "pixels": PIXELS, "steps": steps, "batch_size": 8, "micro_batch_size": 4}],
            "checkpoints": {"every": 5, "keep_last": 3},
            "schedule": {"warmup_steps": 0},
        }
        | sections,
    )


def train(recipe: dict[str, Any], out: Path) -> int:
    return train_here(recipe, RunFolder(Prefix(out)))


def metric(out: Path, name: str) -> dict[int, float]:
    return {m["step"]: m["value"] for m in RunFolder(Prefix(out)).metrics() if m["name"] == name}


def tensors(out: Path, step: int) -> dict[str, torch.Tensor]:
    """Everything in the checkpoint of `step`, by name."""
    inner = next((out / "checkpoints" / f"{step:08d}").rglob(".metadata")).parent
    found = {name: torch.empty(shape) for name, shape in checkpoint.shapes(inner).items()}
    with checkpoint.quiet():
        dcp.load(found, storage_reader=dcp.FileSystemReader(inner))
    return found


@pytest.fixture(scope="module")
def straight(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight") / "run"
    assert train(everything_on(home), out) == 0
    return out


def test_the_loss_is_the_weighted_sum_of_parts_that_are_all_told(straight: Path):
    loss = metric(straight, "loss")
    assert list(loss) == list(range(1, 11))
    parts = {name: metric(straight, f"loss_{name}") for name in ("flow", "lpips", "dino", "representation")}
    assert all(list(values) == [10] for values in parts.values())
    flow, lpips, dino, representation = (values[10] for values in parts.values())
    assert lpips > 0
    assert dino > 0
    assert -1 <= representation <= 1
    weighted = flow + 0.1 * lpips + 0.01 * dino + 0.5 * representation
    assert weighted == pytest.approx(sum(loss.values()) / len(loss), rel=1e-5)


def test_a_run_resumed_half_way_ends_in_the_same_bits(home: Path, straight: Path, tmp_path: Path):
    out = tmp_path / "run"
    shutil.copytree(straight, out)
    shutil.rmtree(out / "checkpoints" / "00000010")
    assert train(everything_on(home), out) == 0
    assert [event["step"] for event in RunFolder(Prefix(out)).events() if event["type"] == "resumed"] == [5]
    assert metric(out, "loss") == metric(straight, "loss")
    ours, theirs = tensors(out, 10), tensors(straight, 10)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


LAYOUTS = {
    "replicate": {"sharding": "replicate", "processes_per_node": 4},
    "full": {"sharding": "full", "processes_per_node": 4},
    "hybrid": {"sharding": "hybrid", "nodes": 2, "processes_per_node": 2},
    "recomputed": {"sharding": "hybrid", "nodes": 2, "processes_per_node": 2, "activation_checkpointing": True},
}


@pytest.fixture(scope="module")
def layouts(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole recipe for 20 steps, the last 10 without alignment, by one process and by four in every layout."""
    out = tmp_path_factory.mktemp("layouts")
    stage = {"pixels": PIXELS, "steps": 10, "batch_size": 8}
    stages = [{"name": "aligned", **stage}, {"name": "plain", **stage, "overrides": {"representation": None}}]
    single = everything_on(home, stages=stages, checkpoints={"every": 10, "keep_last": 2})
    jobs = [
        {"do": "train", "recipe": single | {"hardware": single["hardware"] | layout}, "out": str(out / name)}
        for name, layout in LAYOUTS.items()
    ]
    ranks.run([{"size": 1, "jobs": [{"do": "train", "recipe": single, "out": str(out / "single")}]}, {"size": 4, "jobs": jobs}], out)
    return out


@pytest.mark.long
@pytest.mark.parametrize("layout", LAYOUTS)
def test_four_processes_train_as_one_does_whatever_their_layout(layouts: Path, layout: str):
    """Losses, their parts and weights: the parts' means do not depend on how the batch is spread."""
    for name in ("loss", "loss_flow", "loss_lpips", "loss_dino", "loss_representation"):
        ours, theirs = metric(layouts / layout, name), metric(layouts / "single", name)
        assert ours.keys() == theirs.keys()
        assert list(ours.values()) == pytest.approx(list(theirs.values()), rel=1e-3)
    ours, theirs = tensors(layouts / layout, 20), tensors(layouts / "single", 20)
    for name in theirs:
        if name.startswith("model."):
            torch.testing.assert_close(ours[name], theirs[name], atol=1e-3, rtol=1e-2)


@pytest.mark.long
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_projector_that_a_stage_does_not_use_stays_in_every_layout(layouts: Path, layout: str):
    before, after = tensors(layouts / layout, 10), tensors(layouts / layout, 20)
    mine = {name for name in before if ".projector." in name and not name.startswith("ema.")}
    assert mine
    assert all(torch.equal(before[name], after[name]) for name in mine)


def test_the_projector_is_trained_and_saved_and_no_part_of_what_draws(home: Path, straight: Path):
    before, after = tensors(straight, 5), tensors(straight, 10)
    mine = {name for name in after if ".projector." in name}
    assert {name.split(".projector.")[0] for name in mine} == {"model", "ema", "optimizer.adamw"}
    assert all(not torch.equal(before[name], after[name]) for name in mine if name.startswith("model."))
    assert not any("vgg" in name or "teacher" in name or "embeddings" in name for name in after)
    recipe = load(everything_on(home))
    with alone(recipe.hardware) as world:
        trained = load_trained(RunFolder(Prefix(straight)), world, recipe, None, ema=None)
    assert not any("projector" in name for name in trained.model.state_dict())


def test_gradients_reach_the_model_and_its_projector_and_nothing_frozen(home: Path, tmp_path: Path):
    recipe = load(everything_on(home))
    folder = RunFolder(Prefix(tmp_path))
    with alone(recipe.hardware) as world:
        telemetry = Telemetry(folder, 1, 0)
        run = Run(recipe, folder, 1, world, telemetry, StopSignal())
        run.tower = None
        batch = next(Loader(recipe, PIXELS).batches(0, 8, 4, 0, 1))
        frozen = [*run.frozen.vggs.values(), *(vit.model for vit in run.frozen.vits.values())]
        run.loss(recipe, batch).backward()
        telemetry.close()
    projector = run.model.projector
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in projector.parameters())
    assert run.model.final_layer.linear.weight.grad.abs().max() > 0
    assert len(frozen) == 3
    assert all(weight.grad is None and not weight.requires_grad for network in frozen for weight in network.parameters())


def test_a_stage_without_alignment_leaves_the_projector_as_it_is(home: Path, tmp_path: Path):
    stage = {"pixels": PIXELS, "steps": 5, "batch_size": 4}
    overrides = {"representation": None, "perceptual": {"dino": None}}
    stages = [{"name": "one", **stage}, {"name": "two", **stage, "overrides": overrides}]
    decayed = {"kind": "adamw", "learning_rate": 0.01, "weight_decay": 0.1}
    assert train(everything_on(home, stages=stages, optimizer=decayed), tmp_path) == 0
    one, two = tensors(tmp_path, 5), tensors(tmp_path, 10)
    mine = {name for name in one if ".projector." in name and not name.startswith("ema.")}
    assert all(torch.equal(one[name], two[name]) for name in mine)
    assert not torch.equal(one["model.txt_in.weight"], two["model.txt_in.weight"])


@pytest.mark.parametrize("weights", ["ema", "model", "all"])
def test_a_fork_takes_the_projector_along_where_it_fits(home: Path, straight: Path, tmp_path: Path, weights: Weights):
    """`all` goes on with it and refuses another; weights alone begin anew where there is none, or one of another kind."""
    alike, other, without = (RunFolder(Prefix(tmp_path / name)) for name in ("alike", "other", "without"))
    parts = {
        alike: everything_on(home),
        other: everything_on(home, representation=REPRESENTATION | {"teacher": str(home / "dinov3"), "kind": "irepa"}),
        without: everything_on(home, representation=None),
    }
    for child, recipe in parts.items():
        child.put_fork({"from": str(straight), "step": 5, "weights": weights})
        code = train_here(recipe, child)
        assert code == (EXIT_FAILED if weights == "all" and child is not alike else 0)
        if code:
            (ended,) = [event["data"] for event in child.events() if event["type"] == "ended"]
            assert ended["cause"] == "spec"
            assert "/representation" in " ".join(ended["evidence"])
    begun = tensors(tmp_path / "alike", 5 if weights == "all" else 0)
    parent = tensors(straight, 5)
    part = "ema" if weights == "ema" else "model"
    mine = [name.removeprefix(f"{part}.") for name in parent if name.startswith(f"{part}.projector.")]
    assert mine
    assert all(torch.equal(begun[f"model.{name}"], parent[f"{part}.{name}"]) for name in mine)


def test_what_was_exported_begins_a_run_that_aligns(home: Path, straight: Path, tmp_path: Path):
    export.export(RunFolder(Prefix(straight)), "e", 10, None)
    child = RunFolder(Prefix(tmp_path / "child"))
    child.put_fork({"from": f"{straight}/exports/e", "step": 0, "weights": "model"})
    assert train_here(everything_on(home), child) == 0
    begun, parent = tensors(tmp_path / "child", 0), tensors(straight, 10)
    assert torch.equal(begun["model.txt_in.weight"], parent["ema.txt_in.weight"])


@pytest.mark.parametrize(("kind", "routing"), [("repa", None), ("irepa", None), ("irepa", ROUTING)], ids=["repa", "irepa", "irepa routed"])
def test_alignment_alone_learns_to_agree_with_the_teacher(home: Path, tmp_path: Path, kind: str, routing: dict[str, Any] | None):
    representation = REPRESENTATION | {"teacher": str(home / "dinov3"), "kind": kind, "antialias": kind == "repa", "weight": 20.0}
    stages = [{"name": "one", "pixels": PIXELS, "steps": 40, "batch_size": 8}]
    sections = {"perceptual": {}, "representation": representation, "routing": routing, "stages": stages, "ema": None}
    assert train(everything_on(home, **sections), tmp_path) == 0
    agreed = metric(tmp_path, "loss_representation")
    assert list(agreed) == [10, 20, 30, 40]
    assert agreed[40] < agreed[10] - 0.05
    assert metric(tmp_path, "loss_lpips") == {}


def test_a_damaged_teacher_ends_the_run_before_it_trains_with_field_and_keys(home: Path, tmp_path: Path):
    broken = write_dinov3(tmp_path / "dinov3")
    change(broken / "model.safetensors", lambda weights: weights.pop("norm.weight"))
    recipe = everything_on(home, representation=REPRESENTATION | {"teacher": str(broken)})
    assert train(recipe, tmp_path / "run") == EXIT_FAILED
    (ended,) = [event for event in RunFolder(Prefix(tmp_path / "run")).events() if event["type"] == "ended"]
    assert ended["data"]["cause"] == "spec"
    evidence = " ".join(ended["data"]["evidence"])
    assert "/representation/teacher" in evidence
    assert "norm.weight" in evidence


@pytest.mark.parametrize(
    ("sections", "at"),
    [
        ({"objective": {"prediction": "velocity", "caption_dropout": 0}}, "/perceptual/lpips"),
        (
            {"stages": [{"name": "a", "pixels": 16, "steps": 9, "batch_size": 8, "overrides": {"representation": {"kind": "irepa"}}}]},
            "/stages/0/overrides/representation/kind",
        ),
    ],
    ids=["velocity", "two projectors"],
)
def test_what_cannot_work_is_refused_at_its_field(home: Path, sections: dict[str, Any], at: str):
    with pytest.raises(RecipeErrors) as caught:
        load(everything_on(home, **sections))
    assert at in [error.at for error in caught.value.errors]
