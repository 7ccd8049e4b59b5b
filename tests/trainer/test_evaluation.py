"""Measuring a model: real loaders on small random networks, and an evaluation inside a tiny run, alone and shared by two processes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPTokenizer

from dayrun.objects import Prefix
from dayrun.recipe import Evaluation
from dayrun.recipe_errors import RecipeErrors
from dayrun.rules import load
from dayrun.run_folder import EXIT_FAILED, RunFolder
from tests.conftest import ROOT
from tests.networks import write_clip, write_large_dinov2
from tests.tiny import PIXELS, tiny_recipe, write_data
from tests.trainer.here import train_here
from trainer.data.loader import Loader
from trainer.data.order import held_out
from trainer.evaluation.distances import frechet, moments
from trainer.evaluation.evaluate import with_count
from trainer.evaluation.features import Clip, Dino, as_seen, load_inception, load_networks
from trainer.evaluation.inception import Inception
from trainer.evaluation.reference import Reference
from trainer.flow import mix
from trainer.samples import Prompts, draw_pictures
from trainer.trained import alone, load_trained

SAMPLES = 256
HELD_OUT = 0.25
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `clip` and `dino`, as transformers saves such models."""
    place = tmp_path_factory.mktemp("networks")
    write_clip(place / "clip")
    write_large_dinov2(place / "dino")
    return place


@pytest.fixture(scope="module")
def recipe(networks: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    evaluation = {
        "every": 8,
        "images": 40,
        "steps": 2,
        "guidance": 1.0,
        "metrics": ["validation_loss", "cmmd", "dino_mmd", "prompt_alignment"],
        "held_out": HELD_OUT,
        "validation_samples": 40,
        "clip_source": str(networks / "clip"),
        "dino_source": str(networks / "dino"),
    }
    data = write_data(tmp_path_factory.mktemp("evaluated") / "data", samples=SAMPLES)
    return tiny_recipe(data, steps=12, processes=1, evaluation=evaluation, checkpoints={"every": 6})


@pytest.fixture(scope="module")
def run(recipe: dict, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(Prefix(tmp_path_factory.mktemp("evaluated") / "run"))
    assert train_here(recipe, folder) == 0
    return folder


def test_a_score_that_is_no_number_is_named_and_left_out(tmp_path: Path):
    data, reference = write_data(tmp_path / "data"), write_data(tmp_path / "reference", infinite=range(64))
    evaluation = {"every": 12, "guidance": 1.0, "metrics": ["validation_loss"], "reference": str(reference), "validation_samples": 8}
    folder = RunFolder(Prefix(tmp_path / "run"))
    assert train_here(tiny_recipe(data, steps=12, processes=1, evaluation=evaluation), folder) == 0

    def refused(constant: str) -> float:
        raise AssertionError(f"{constant} is no JSON")

    report = json.loads(folder.prefix.get(f"evaluations/{12:08d}.json"), parse_constant=refused)
    assert report["complete"]
    assert "validation_loss_8" in report["no_numbers"]
    assert not set(report["no_numbers"]) & set(report["metrics"])


def metrics(folder: RunFolder, step: int) -> dict[str, float]:
    return {m["name"]: m["value"] for m in folder.metrics() if m["step"] == step and m["name"].endswith("_40")}


NAMES = {f"validation_loss{part}_40" for part in ("", "_time_0_30", "_time_30_60", "_time_60_100")} | {
    "cmmd_40",
    "dino_mmd_40",
    "prompt_alignment_40",
}


def test_a_run_is_measured_at_its_steps_and_at_its_end_with_the_count_in_the_names(run: RunFolder):
    assert run.evaluation_steps() == [8, 12]
    for step in (8, 12):
        report = run.evaluation(step)
        assert report["complete"]
        assert (report["images"], report["reference_images"], report["validation_samples"], report["ema"]) == (40, 40, 40, True)
        assert report["metrics"] == metrics(run, step)
        assert report["metrics"].keys() == NAMES
        bins = [report["metrics"][f"validation_loss_time_{name}_40"] for name in ("0_30", "30_60", "60_100")]
        assert report["metrics"]["validation_loss_40"] == pytest.approx(np.dot(bins, [0.3, 0.3, 0.4]))
    assert run.evaluation(12)["checkpoint"] == run.checkpoint_digest(12)
    assert metrics(run, 8) != metrics(run, 12)
    told = [e["data"]["metrics"] for e in run.events() if e["type"] == "evaluated"]
    assert told == [metrics(run, 8), metrics(run, 12)]


def test_what_was_measured_is_not_measured_again_after_a_resume(recipe: dict, run: RunFolder, tmp_path: Path):
    shutil.copytree(run.prefix.path or "", tmp_path / "run")
    folder = RunFolder(Prefix(tmp_path / "run"))
    folder.delete_checkpoint(12)
    folder.put_evaluation(folder.evaluation(12) | {"complete": False})
    assert train_here(recipe, folder) == 0
    assert [e["step"] for e in folder.events() if e["type"] == "evaluated" and e["attempt"] == 2] == [12]
    assert folder.evaluation(12)["metrics"] == run.evaluation(12)["metrics"]  # the same weights, to the bit


@pytest.mark.long
def test_two_processes_measure_the_same_as_one(recipe: dict, run: RunFolder, tmp_path: Path):
    """They go on from the last checkpoint of the run of one process, in which nothing is left to do but to measure."""
    shutil.copytree(run.prefix.path or "", tmp_path / "run")
    folder = RunFolder(Prefix(tmp_path / "run"))
    folder.prefix.delete_all("evaluations")
    both = recipe | {"hardware": recipe["hardware"] | {"processes_per_node": 2}}
    (tmp_path / "recipe.json").write_text(json.dumps(both))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "trainer"]
    command = [*torchrun, str(tmp_path / "recipe.json"), "--out", str(tmp_path / "run")]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert folder.evaluation_steps() == [12]
    ours, theirs = folder.evaluation(12)["metrics"], run.evaluation(12)["metrics"]
    assert {name: value for name, value in ours.items() if name.startswith("validation")} == {
        name: value for name, value in theirs.items() if name.startswith("validation")
    }
    assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)


# which data


def test_what_is_held_out_is_never_trained_on_and_does_not_depend_on_the_seed(recipe: dict):
    ours, other = (Loader(load(recipe | {"seed": seed}), PIXELS) for seed in (0, 1))
    assert ours.held_out == other.held_out
    assert len(ours.held_out) == pytest.approx(SAMPLES * HELD_OUT, rel=0.3)
    trained = {ours.order.sample_at(position) for position in range(2 * SAMPLES)}
    assert trained == set(range(SAMPLES)) - set(ours.held_out)
    assert Loader(load(recipe | {"evaluation": None}), PIXELS).order.samples == SAMPLES


def test_a_set_that_grows_keeps_what_it_held_out():
    before, after = held_out(1000, 0.1), held_out(3000, 0.1)
    assert (after[:1000] == before).all()
    assert after.mean() == pytest.approx(0.1, rel=0.2)
    assert held_out(3, 1e-9).sum() == 1


def test_a_reference_of_its_own_leaves_the_training_data_whole(recipe: dict, tmp_path: Path):
    reference = write_data(tmp_path / "reference", samples=5)
    asked = load(recipe | {"evaluation": recipe["evaluation"] | {"reference": str(reference)}})
    assert Loader(asked, PIXELS).order.samples == SAMPLES
    measured = Reference(asked, PIXELS, None)
    assert len(measured) == 5
    assert measured.some([0, 4, 5]).captions == ["noise 0", "noise 4", "noise 0"]


# the networks


def test_inception_is_loaded_from_weights_in_either_form_and_refused_when_it_is_not_whole(tmp_path: Path):
    torch.manual_seed(0)
    weights = Inception().state_dict()
    pictures = torch.rand(2, 3, 40, 40) * 2 - 1
    # classifiers of 1,000 or 1,008 classes, and the counters of new files, may be there
    torch.save(weights | {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}, tmp_path / "published.pth")
    old = {name: weight for name, weight in weights.items() if not name.endswith("num_batches_tracked")}
    save_file(old | {"AuxLogits.fc.bias": torch.zeros(1000)}, tmp_path / "other.safetensors")
    ours = [load_inception(str(tmp_path / name))(pictures) for name in ("published.pth", "other.safetensors")]
    assert ours[0].shape == (2, 2048)
    assert torch.equal(ours[0], ours[1])
    assert not torch.equal(ours[0][0], ours[0][1])
    torch.save({name: weight for name, weight in weights.items() if "Mixed_7c" not in name}, tmp_path / "half.pth")
    with pytest.raises(RecipeErrors, match=r"/evaluation/fid_source: .*missing keys \(Mixed_7c.*no Inception v3 as FID uses it"):
        load_inception(str(tmp_path / "half.pth"))
    with pytest.raises(RecipeErrors, match="there is no such folder"):
        load_inception(str(tmp_path / "none.pth"))


def test_the_distance_of_a_run_is_that_of_the_features_of_its_pictures(recipe: dict, tmp_path: Path):
    torch.manual_seed(0)
    torch.save(Inception().state_dict(), tmp_path / "inception.pth")
    asked = {"metrics": ["fid"], "images": 3, "fid_source": str(tmp_path / "inception.pth"), "every": 100}
    folder = RunFolder(Prefix(tmp_path / "run"))
    assert train_here(recipe | {"evaluation": recipe["evaluation"] | asked}, folder) == 0
    report = folder.evaluation(12)
    assert report["metrics"].keys() == {"fid_3"}
    known = load(folder.recipe())
    samples = known.samples.model_copy(update={"guidance": 1.0, "steps": 2})
    some, network = Reference(known, PIXELS, None).some([0, 1, 2]), load_inception(str(tmp_path / "inception.pth"))
    prompts = Prompts({caption: states for caption, *states in zip(some.captions, some.text, some.text_mask, strict=True)})
    with alone(known.hardware) as world:
        model = load_trained(folder, world, known, 12, ema=True).model
        seeds = [mix(known.evaluation.seed, place) for place in range(3)]
        drawn = draw_pictures(model, known.model_copy(update={"samples": samples}), prompts, some.captions, seeds, PIXELS)
    rounded = ((drawn + 1) * 127.5).round() / 127.5 - 1
    assert report["metrics"]["fid_3"] == pytest.approx(frechet(moments(network(some.images)), moments(network(rounded))), rel=1e-4)


def test_clip_and_dino_are_transformers_own(networks: Path):
    pictures, captions = torch.rand(3, 3, 20, 20) * 2 - 1, ["a red apple", "a pear", "a very long caption about many things"]
    clip = Clip(str(networks / "clip"), CPU, None)
    theirs = CLIPModel.from_pretrained(networks / "clip").eval()
    tokens = CLIPTokenizer.from_pretrained(networks / "clip")(captions, padding=True, truncation=True, max_length=8, return_tensors="pt")
    mean, deviation = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    with torch.no_grad():
        output = theirs(pixel_values=as_seen(pictures, 16, mean, deviation), **tokens)
    torch.testing.assert_close(clip(pictures), output.image_embeds)
    torch.testing.assert_close(clip.captions(captions), output.text_embeds)
    dino = Dino(str(networks / "dino"), CPU, None)(pictures)
    assert dino.norm(dim=1).tolist() == pytest.approx([1.0] * 3)


@pytest.mark.parametrize(("name", "key"), [("clip", "visual_projection.weight"), ("dino", "layernorm.weight")])
def test_a_network_that_lacks_a_weight_is_refused_by_name(networks: Path, tmp_path: Path, name: str, key: str):
    shutil.copytree(networks, tmp_path / "networks")
    file = tmp_path / "networks" / name / "model.safetensors"
    save_file({k: v for k, v in load_file(file).items() if k != key}, file, metadata={"format": "pt"})
    sources = {"clip_source": str(tmp_path / "networks/clip"), "dino_source": str(tmp_path / "networks/dino")}
    with pytest.raises(RecipeErrors, match=rf"/evaluation/{name}_source: .*1 missing keys.*{key}"):
        load_networks(Evaluation(metrics=["cmmd", "dino_mmd"], **sources), CPU, None)


def test_a_network_that_is_not_there_ends_the_run_before_training(recipe: dict, tmp_path: Path):
    folder = RunFolder(Prefix(tmp_path / "run"))
    evaluation = recipe["evaluation"] | {"clip_source": str(tmp_path / "none" / "at" / "all")}
    assert train_here(recipe | {"evaluation": evaluation}, folder) == EXIT_FAILED
    (ended,) = [e["data"] for e in folder.events() if e["type"] == "ended"]
    assert ended["cause"] == "spec"
    assert "/evaluation/clip_source" in " ".join(ended["evidence"])


@pytest.mark.parametrize(("count", "name"), [(10_000, "fid_10k"), (50_000, "fid_50k"), (1500, "fid_1500"), (64, "fid_64")])
def test_the_count_is_in_the_name(count: int, name: str):
    assert with_count("fid", count) == name
