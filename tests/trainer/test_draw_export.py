"""What a trained checkpoint is good for: pictures on request, and a folder that diffusers loads."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler, PRXPixelPipeline, PRXTransformer2DModel

from dayrun import builtin
from dayrun.objects import Prefix
from dayrun.run_folder import EXIT_FAILED, RunFolder
from tests.tiny import tiny_recipe, write_data
from tests.trainer.here import train_here
from trainer import draw, export
from trainer.flow import sampling_grid, start_noise
from trainer.samples import Prompts, draw_pictures, encode
from trainer.text import TowerError
from trainer.trained import Trained, alone, load_trained, recipe_of

TEXT = builtin.get("demo")["text"]
SECTIONS = {
    "model": {**tiny_recipe("")["model"], "text_width": 384},
    "text": TEXT,
    "objective": {"caption_dropout": 0.1, "times": {"shift": 1.0}},
    "samples": {"sets": [{"name": "preview", "prompts": ["a red apple", "a pear"], "seed": 5}], "steps": 4},
    "checkpoints": {"every": 10},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A trained run whose tower can be loaded, with averages that differ from the weights."""
    place = tmp_path_factory.mktemp("trained")
    recipe = tiny_recipe(write_data(place / "data", tokens=16, width=384), steps=20, processes=1, **SECTIONS)
    folder = RunFolder(Prefix(place / "run"))
    assert train_here(recipe, folder) == 0
    return folder


def trained(run: RunFolder, step: int | None, ema: bool | None) -> Trained:
    recipe = recipe_of(run)
    with alone(recipe.hardware) as world:
        return load_trained(run, world, recipe, step, ema)


def call(monkeypatch: pytest.MonkeyPatch, program, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["program", *map(str, arguments)])
    return program.main()


def test_pictures_on_request_are_those_that_the_run_itself_draws(run: RunFolder, monkeypatch: pytest.MonkeyPatch):
    run.put_draw_request("d1", {"prompts": ["a red apple", "a pear"], "seed": 5})
    assert call(monkeypatch, draw, run.prefix.url, "--request-key", "draws/d1/request.json") == 0
    index, own = run.draw_index("d1"), run.sample_index(20)
    assert index["complete"]
    assert index["checkpoint"] == run.checkpoint_digest(20)
    assert [(i["prompt"], i["seed"], i["ema"]) for i in index["images"]] == [("a red apple", 5, True), ("a pear", 6, True)]
    pictures = [run.draw_picture("d1", image["file"]) for image in index["images"]]
    assert pictures == [run.sample_picture(20, image["file"]) for image in own["images"]]
    assert run.draws() == ["d1"]
    assert run.failure("draws", "d1") is None


def test_a_request_says_what_is_to_be_different(run: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    request = {"step": 10, "prompts": ["a fig"] * 2, "seeds": [7, 7], "guidance": 1.0, "steps": 2, "ema": False, "pixels": 16}
    (tmp_path / "d2.json").write_text(json.dumps(request))
    assert call(monkeypatch, draw, run.prefix.url, "--request", tmp_path / "d2.json") == 0
    index = run.draw_index("d2")
    first = index["images"][0]
    assert (index["step"], first["steps"], first["guidance"], first["ema"], first["width"], first["height"]) == (10, 2, 1.0, False, 16, 16)
    assert len({run.draw_picture("d2", image["file"]) for image in index["images"]}) == 1  # the same prompt and seed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"step": 11}, "/step: 11: the run has no complete checkpoint of this step; nearest: 10, 20"),
        ({"pixels": 10}, "/pixels: 10: the model's patches of 4 pixels do not divide it; nearest: 8, 12"),
        ({"seeds": [1, 2, 3]}, "3 seeds for 1 prompts"),
        ({"negative": "blurry"}, "/negative"),
    ],
)
def test_a_request_that_cannot_be_met_leaves_a_typed_error(run: RunFolder, monkeypatch: pytest.MonkeyPatch, change: dict, said: str):
    run.put_draw_request("bad", {"prompts": ["a fig"]} | change)
    assert call(monkeypatch, draw, run.prefix.url, "--request-key", "draws/bad/request.json") == EXIT_FAILED
    failure = run.failure("draws", "bad")
    assert failure is not None
    assert failure["cause"] == "spec"
    assert said in failure["because"]


def test_a_tower_that_cannot_be_loaded_is_named(run: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    other = RunFolder(Prefix(tmp_path))
    for info in run.prefix.objects():
        other.prefix.put(info.key, run.prefix.get(info.key))
    other.put_recipe(run.recipe() | {"text": run.recipe()["text"] | {"source": "package:no_such_tower"}})
    other.put_draw_request("d", {"prompts": ["a fig"]})
    assert call(monkeypatch, draw, tmp_path, "--request-key", "draws/d/request.json") == EXIT_FAILED
    failure = other.failure("draws", "d")
    assert failure is not None
    assert failure["cause"] == "spec"
    assert "package:no_such_tower: no such package is installed" in failure["because"]


def test_a_tower_of_another_width_than_the_model_learnt_from_is_refused(run: RunFolder):
    recipe = recipe_of(run)
    other = recipe.model_copy(update={"model": recipe.model.model_copy(update={"text_width": 512})})
    with alone(recipe.hardware) as world, pytest.raises(TowerError, match="384 wide, /model/text_width is 512"):
        encode(other, ["a fig"], world)


def test_an_export_loads_in_diffusers_and_is_the_same_model(run: RunFolder, monkeypatch: pytest.MonkeyPatch):
    assert call(monkeypatch, export, run.prefix.url, "--id", "e1", "--dollars", 1.5) == 0
    manifest = run.export_manifest("e1")
    assert manifest["checkpoint"] == run.checkpoint_digest(20)
    assert {f"exports/e1/{name}" for name in manifest["files"]} | {"exports/e1/complete.json"} == {
        info.key for info in run.prefix.objects("exports/e1")
    }
    assert run.prefix.path is not None
    folder = run.prefix.path / "exports" / "e1"
    theirs, report = PRXTransformer2DModel.from_pretrained(folder / "transformer", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ours = {ema: trained(run, None, ema).model for ema in (True, False)}
    images, times, text = torch.randn(2, 3, 8, 16), torch.rand(2), torch.randn(2, 16, 384)
    mask = torch.arange(16)[None] < torch.tensor([[16], [5]])
    with torch.no_grad():
        told = theirs(images, times, text, attention_mask=mask, return_dict=False)[0]
        torch.testing.assert_close(ours[True](images, times, text, mask), told, atol=1e-5, rtol=1e-5)
        assert (ours[False](images, times, text, mask) - told).abs().max() > 1e-4  # the averages, not the weights


States = dict[str, tuple[torch.Tensor, torch.Tensor]]


def by_diffusers(
    pipe: Any, states: States, steps: int, guidance: float, shape: tuple[int, int, int], pixels: int, output_type: str
) -> torch.Tensor:
    """What a pipeline of diffusers draws for "a fig" from the noise of seed 3, on our sampler's grid, guided by the empty prompt."""
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler.set_shift(1.0)
    return pipe(
        latents=start_noise(3, shape, 1.0),
        timesteps=(1000 * sampling_grid(steps, 1.0)[:-1]).tolist(),
        guidance_scale=guidance,
        prompt_embeds=states["a fig"][0][None],
        prompt_attention_mask=states["a fig"][1][None],
        negative_prompt_embeds=states[""][0][None],
        negative_prompt_attention_mask=states[""][1][None],
        height=pixels,
        width=pixels,
        use_resolution_binning=False,
        output_type=output_type,
    ).images


def states_of(width: int) -> States:
    """Of two prompts, with padding."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(16) < 12
    return {text: (torch.randn(16, width, generator=generator), mask) for text in ("", "a fig")}


def test_diffusers_pipeline_draws_the_runs_own_pictures_from_the_same_noise(run: RunFolder, monkeypatch: pytest.MonkeyPatch):
    assert call(monkeypatch, export, run.prefix.url, "--id", "e2", "--step", 10) == 0
    assert run.prefix.path is not None
    folder = run.prefix.path / "exports" / "e2"
    assert FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler").config.shift == 1.0
    pipe = DiffusionPipeline.from_pretrained(folder, text_encoder=None, tokenizer=None)
    assert isinstance(pipe, PRXPixelPipeline)
    assert pipe.config.noise_scale == 1.0
    ours = trained(run, 10, None)
    torch.manual_seed(0)
    states = {text: (torch.randn(16, 384), torch.ones(16, dtype=torch.bool)) for text in ("", "a fig")}
    drawn = draw_pictures(ours.model, ours.recipe, Prompts(states), ["a fig"], [3], 8)
    fields = ours.recipe.samples
    theirs = by_diffusers(pipe, states, fields.steps, fields.guidance, (3, 8, 8), 8, "pt")
    torch.testing.assert_close(theirs.clamp(-1, 1), drawn, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("routing", "resolution"), [({"kind": "tread"}, "vec"), ({"kind": "sprint", "rate": 0.75}, "token")], ids=["tread", "sprint"]
)
def test_an_export_guides_by_the_routed_pass_as_the_run_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_data: Path, routing: dict, resolution: str
):
    model = tiny_recipe(tiny_data)["model"] | {"depth": 3, "resolution_conditioning": resolution}
    samples = {"steps": 3, "guidance": 3.0}
    sections = {"model": model, "routing": routing | {"start": 1, "end": 1}, "samples": samples, "ema": {"decay": 0.0, "every": 1}}
    run = RunFolder(Prefix(tmp_path / "run"))
    assert train_here(tiny_recipe(tiny_data, steps=8, processes=1, **sections), run) == 0
    assert call(monkeypatch, export, run.prefix.url, "--id", "e") == 0
    assert run.prefix.path is not None
    folder = run.prefix.path / "exports" / "e"
    ours = trained(run, 8, None)
    states = {text: (state[:4], mask[:4]) for text, (state, mask) in states_of(8).items()}
    states["a fig"] = (states["a fig"][0], torch.tensor([True, True, False, False]))
    given = {
        "prompt_embeds": torch.stack([states["a fig"][0]] * 2),
        "prompt_attention_mask": torch.stack([states["a fig"][1]] * 2),
        "output_type": "pt",
    }

    pipe = DiffusionPipeline.from_pretrained(
        folder, custom_pipeline=str(folder / "pipeline.py"), trust_remote_code=True, text_encoder=None, tokenizer=None
    )
    pipe.set_progress_bar_config(disable=True)
    assert isinstance(pipe, PRXPixelPipeline)
    theirs = pipe(seeds=[3, 2**40], height=8, width=8, **given).images
    drawn = draw_pictures(ours.model, ours.recipe, Prompts(states), ["a fig"] * 2, [3, 2**40], 8)
    torch.testing.assert_close(theirs.clamp(-1, 1), drawn, atol=1e-4, rtol=1e-4)
    assert pipe.config.default_sample_size == 8
    torch.testing.assert_close(pipe(**given).images, pipe(seeds=[0, 1], **given).images)  # of the stage's size and with seeds by default

    # and diffusers' own pipeline draws from the same folder, guided by the empty prompt
    plain = ours.recipe.model_copy(update={"samples": ours.recipe.samples.model_copy(update={"self_guidance": False})})
    by_prompt = draw_pictures(ours.model, plain, Prompts(states), ["a fig"], [3], 8)
    pipe = PRXPixelPipeline.from_pretrained(folder, trust_remote_code=True, text_encoder=None, tokenizer=None)
    theirs = by_diffusers(pipe, states, 3, 3.0, (3, 8, 8), 8, "pt")
    torch.testing.assert_close(theirs.clamp(-1, 1), by_prompt, atol=1e-4, rtol=1e-4)
    assert (by_prompt - drawn[:1]).abs().max() > 1e-3
    card = (folder / "README.md").read_text()
    assert ("transformer/routed.py" in card) == (resolution == "token")
    assert "seeds=[0]" in card


def test_the_card_says_what_it_was_made_of(run: RunFolder, monkeypatch: pytest.MonkeyPatch):
    assert call(monkeypatch, export, run.prefix.url, "--id", "e3", "--dollars", 1480) == 0
    card = run.prefix.get("exports/e3/README.md").decode()
    for part in ("$1,480.00", "20 of 20, 160 images seen", run.checkpoint_digest(20), "averaged (EMA)", TEXT["source"]):
        assert part in card
    assert json.loads(run.prefix.get("exports/e3/recipe.json")) == run.recipe()


def test_an_export_without_a_checkpoint_leaves_a_typed_error(monkeypatch: pytest.MonkeyPatch, run: RunFolder, tmp_path: Path):
    empty = RunFolder(Prefix(tmp_path))
    empty.put_recipe(run.recipe())
    assert call(monkeypatch, export, tmp_path, "--id", "e", "--step", "newest") == EXIT_FAILED
    failure = empty.failure("exports", "e")
    assert failure is not None
    assert failure["cause"] == "spec"
    assert "no complete checkpoint yet" in failure["because"]
