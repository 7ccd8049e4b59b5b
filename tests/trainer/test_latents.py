"""Models that work on latents: trained, drawn and measured through an autoencoder of the published classes, small and random."""

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderDC, AutoencoderKL, DiffusionPipeline, PRXPipeline
from PIL import Image

from dayrun import builtin
from dayrun.objects import Prefix
from dayrun.recipe import merge_patch
from dayrun.recipe_errors import RecipeErrors
from dayrun.rules import load
from dayrun.run_folder import RunFolder
from tests.networks import change, write_dinov2, write_dinov3
from tests.tiny import tiny_recipe, write_data
from tests.trainer.here import train_here
from tests.trainer.test_draw_export import by_diffusers
from trainer import draw, export
from trainer.autoencoder import autoencoder_of
from trainer.samples import draw_pictures, encode
from trainer.trained import alone, load_trained, recipe_of

PIXELS = 64
SCALING, SHIFT = 0.36, 0.12
LATENTS = {"autoencoder": "flux1", "downscale": 8, "scaling": SCALING, "shift": SHIFT}


def write_kl(folder: Path) -> Path:
    """With FLUX.1's channels and sides; its own scaling is the recipe's, as the published ones are."""
    torch.manual_seed(0)
    kinds = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    sizes = {"block_out_channels": [4, 4, 8, 8], "latent_channels": 16, "norm_num_groups": 2, "sample_size": PIXELS}
    AutoencoderKL(**kinds, **sizes, scaling_factor=SCALING, shift_factor=SHIFT).save_pretrained(folder)
    return folder


def write_dc(folder: Path) -> Path:
    """With DC-AE's channels and sides."""
    torch.manual_seed(0)
    blocks = {"block_out_channels": [8, 8, 8, 32, 32, 32], "layers_per_block": [1] * 6}
    sides = {f"{side}_{name}": values for side in ("encoder", "decoder") for name, values in blocks.items()}
    AutoencoderDC(latent_channels=32, **sides).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("latents")
    write_data(place / "data", tokens=16, width=384, pixels=PIXELS)
    write_kl(place / "kl")
    write_dc(place / "dc")
    write_dinov2(place / "dinov2")
    write_dinov3(place / "dinov3")
    return place


def on_latents(home: Path, **patch: Any) -> dict[str, Any]:
    base = tiny_recipe(
        home / "data",
        processes=1,
        model=tiny_recipe("")["model"] | {"in_channels": 16, "patch_size": 2, "bottleneck_size": None, "text_width": 384},
        text=builtin.get("demo")["text"],
        objective={"prediction": "velocity", "caption_dropout": 0.1, "times": {"shift": 1.0}},
        latents=LATENTS | {"source": str(home / "kl")},
        representation={"teacher": str(home / "dinov3"), "block": 1},
        stages=[{"name": "one", "pixels": PIXELS, "steps": 10, "batch_size": 8}],
        samples={"sets": [{"name": "preview", "prompts": ["a fig"], "seed": 3}], "steps": 3, "guidance": 3.0},
        evaluation={"every": 10, "metrics": ["validation_loss"], "held_out": 0.25, "validation_samples": 16},
    )
    return merge_patch(base, patch)


@pytest.fixture(scope="module")
def run(home: Path) -> RunFolder:
    folder = RunFolder(Prefix(home / "run"))
    assert train_here(on_latents(home), folder) == 0
    return folder


def test_diffusers_latent_pipeline_draws_the_runs_own_pictures(home: Path, run: RunFolder):
    export.export(run, "e", None, None)
    assert run.prefix.path is not None
    vae = AutoencoderKL.from_pretrained(home / "kl")
    pipe = DiffusionPipeline.from_pretrained(run.prefix.path / "exports" / "e", text_encoder=None, tokenizer=None, vae=vae)
    assert isinstance(pipe, PRXPipeline)
    recipe = recipe_of(run)
    with alone(recipe.hardware) as world:
        ours, states, autoencoder = (
            load_trained(run, world, recipe, None, None),
            encode(recipe, ["a fig"], world),
            autoencoder_of(recipe, world),
        )
        drawn = draw_pictures(ours.model, recipe, states, ["a fig"], [3], PIXELS, autoencoder)
    theirs = by_diffusers(pipe, states.states, 3, 3.0, (16, 8, 8), PIXELS, "pt")
    assert drawn.shape == (1, 3, PIXELS, PIXELS)
    torch.testing.assert_close(theirs * 2 - 1, drawn, atol=1e-4, rtol=1e-4)  # "pt" of this pipeline is in [0, 1]
    shown = np.asarray(Image.open(io.BytesIO(run.sample_picture(10, run.sample_index(10)["images"][0]["file"]))))
    assert np.abs(shown - (theirs[0] * 255).round().permute(1, 2, 0).numpy()).max() <= 1
    draw.draw(run, "d", {"prompts": ["a fig"], "seed": 3})
    assert run.draw_picture("d", run.draw_index("d")["images"][0]["file"]) == run.sample_picture(10, "preview-00000.png")


def test_all_parts_of_the_loss_and_of_the_evaluation_are_told(run: RunFolder):
    told = {m["name"] for m in run.metrics() if m["step"] == 10}
    assert {"loss_flow", "loss_representation", "validation_loss_16"} < told


@pytest.mark.parametrize(("kind", "name", "downscale"), [(AutoencoderKL, "kl", 8), (AutoencoderDC, "dc", 32)])
def test_latents_are_the_autoencoders_shifted_and_scaled(home: Path, kind: Any, name: str, downscale: int):
    channels = {"kl": 16, "dc": 32}[name]
    fields = {"autoencoder": {"kl": "flux1", "dc": "dc-ae-f32c32"}[name], "source": str(home / name), "downscale": downscale}
    recipe = load(on_latents(home, latents=fields, model={"in_channels": channels, "patch_size": 1}))
    with alone(recipe.hardware) as world:
        ours = autoencoder_of(recipe, world)
    assert ours is not None
    theirs = kind.from_pretrained(home / name)
    pictures = torch.rand(10, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        z = theirs.encode(pictures)
        z = z.latent if name == "dc" else z.latent_dist.mean
        torch.testing.assert_close(ours.encode(pictures), (z - SHIFT) * SCALING)
        torch.testing.assert_close(ours.decode(ours.encode(pictures)), theirs.decode(z).sample.clamp(-1, 1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda place: change(place / "diffusion_pytorch_model.safetensors", lambda w: w.pop("decoder.conv_out.weight")),
            "decoder.conv_out.weight",
        ),
        (lambda place: (place / "config.json").unlink(), "config.json cannot be read"),
        (
            lambda place: (shutil.rmtree(place), write_dinov2(place)),
            'no _class_name: it is no autoencoder that is known here; nearest: "AutoencoderKL"',
        ),
        (
            lambda place: (shutil.rmtree(place), write_dc(place)),
            "are 32 × 2 × 2, /model/in_channels and /latents/downscale ask for 16 × 8 × 8",
        ),
    ],
    ids=["key", "config", "class", "shape"],
)
def test_an_autoencoder_that_cannot_be_used_is_refused_by_name(home: Path, tmp_path: Path, spoil: Any, said: str):
    place = shutil.copytree(home / "kl", tmp_path / "kl")
    spoil(place)
    recipe = load(on_latents(home, latents={"source": str(place)}))
    with alone(recipe.hardware) as world, pytest.raises(RecipeErrors) as caught:
        autoencoder_of(recipe, world)
    assert caught.value.errors[0].at == "/latents/source"
    assert said in str(caught.value)
