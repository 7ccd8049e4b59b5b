"""A checkpoint as a folder that diffusers loads.

    python -m trainer.export RUN_FOLDER --id EXPORT [--step N|newest] [--dollars D]

The averaged weights, when the run keeps any, in float32 safetensors under exports/<id>/transformer; parameter names are diffusers' own,
so that this is a copy. What diffusers has no class for comes along as source: `pipeline.py` guides by the routed pass where the recipe
routes, and the transformer of a model with SPRINT's fusion or with resolution as text tokens is in `transformer/routed.py`. The text tower
is not copied: the card says where it comes from. Exit codes: 0 exported; 70 failed, for the cause that exports/<id>/error.json names; 2
wrong usage.
"""

import argparse
import hashlib
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from dayrun.layers import sprint_of
from dayrun.objects import Prefix
from dayrun.recipe import Recipe
from dayrun.run_folder import ExportManifest, RunFolder
from trainer.card import card
from trainer.samples import stage_at
from trainer.trained import alone, load_trained, recipe_of, told_when_it_fails

DIFFUSERS = "0.42.0"
"""The first release whose PRX transformer and pixel pipeline have everything that is written here."""
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
SOURCE = Path(__file__).with_name("pipeline.py")
"""Standing alone, with settings that an export replaces by the run's own."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="trainer.export", description="Export a checkpoint of a run to a diffusers folder.")
    parser.add_argument("folder", help="the run's folder, a path or a URL")
    parser.add_argument("--id", required=True, help="name of the folder under exports/")
    parser.add_argument("--step", default="newest", type=lambda text: None if text == "newest" else int(text), help="default: newest")
    parser.add_argument("--dollars", type=float, help="what the run has cost, for the card")
    options = parser.parse_args()
    folder = RunFolder(Prefix(options.folder))
    return told_when_it_fails(folder, "exports", options.id, lambda: export(folder, options.id, options.step, options.dollars))


def export(folder: RunFolder, id: str, step: int | None, dollars: float | None) -> None:
    """Write exports/<id>/; complete.json, with the digest of every file, is the last."""
    recipe = recipe_of(folder)
    with alone(recipe.hardware) as world:
        trained = load_trained(folder, world, recipe, step, ema=None)
    step, pipeline = trained.manifest["step"], pipeline_of(recipe)
    of_stage, _ = stage_at(recipe, step)
    documents = {
        "transformer/config.json": as_json(transformer_config(recipe)),
        "scheduler/scheduler_config.json": as_json(scheduler_config(recipe)),
        "recipe.json": as_json(recipe.model_dump(mode="json")),
        "README.md": card(trained, losses_before(folder, step), dollars, pipeline, beyond_diffusers(recipe)).encode(),
    }
    if pipeline is not None:
        documents["model_index.json"] = as_json(model_index(recipe, pipeline))
    if pipeline == "PRXPixelPipeline" and of_stage.routing is not None:
        documents["pipeline.py"] = source(of_stage)
    if beyond_diffusers(recipe):
        documents["transformer/routed.py"] = source(of_stage)
    where = folder.export_key(id)
    folder.prefix.delete_all(where)  # what an earlier try has left
    files: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="dayrun-export-") as place:
        weights = Path(place) / "weights"
        save_file({name: tensor.cpu().contiguous() for name, tensor in trained.model.state_dict().items()}, weights, {"format": "pt"})
        with weights.open("rb") as file:
            files[WEIGHTS] = {"bytes": weights.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
        folder.prefix.put_file(f"{where}/{WEIGHTS}", weights)
    for name, data in documents.items():
        folder.prefix.put(f"{where}/{name}", data)
        files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    manifest = ExportManifest(step=step, checkpoint=trained.digest, ema=trained.ema, time=time.time(), files=files)
    folder.prefix.put(f"{where}/complete.json", as_json(manifest))
    print(f"step {step} exported to {folder.prefix.url}/{where}", flush=True)


def transformer_config(recipe: Recipe) -> dict[str, Any]:
    """What `PRXTransformer2DModel.from_pretrained` reads."""
    model, sprint = recipe.model, sprint_of(recipe)
    more = {
        "sprint_blocks": [sprint.start, sprint.end] if sprint else None,
        "resolution_tokens": model.resolution_conditioning == "token",
    }
    return (more if beyond_diffusers(recipe) else {}) | {
        "_class_name": "RoutedTransformer" if beyond_diffusers(recipe) else "PRXTransformer2DModel",
        "_diffusers_version": DIFFUSERS,
        "in_channels": model.in_channels,
        "patch_size": model.patch_size,
        "context_in_dim": model.text_width,
        "hidden_size": model.hidden_size,
        "mlp_ratio": model.mlp_ratio,
        "num_heads": model.heads,
        "depth": model.depth,
        "axes_dim": list(model.rotary_axes),
        "theta": model.rotary_theta,
        "bottleneck_size": model.bottleneck_size,
        "resolution_embeds": model.resolution_conditioning == "vec",
    }


def beyond_diffusers(recipe: Recipe) -> bool:
    """Whether the model has weights that diffusers' transformer has no place for."""
    return sprint_of(recipe) is not None or recipe.model.resolution_conditioning == "token"


def source(recipe: Recipe) -> bytes:
    """`pipeline.py` with the settings of the run, as its stage sees them."""
    samples, routing, shift = recipe.samples, recipe.routing, recipe.samples.shift or recipe.objective.times.shift
    settings = {"start": routing.start, "end": routing.end, "rate": routing.rate} if routing else {}
    settings |= {"steps": samples.steps, "guidance": samples.guidance, "shift": shift, "velocity_floor": recipe.objective.velocity_floor}
    text, replaced = re.subn(r"(?m)^SETTINGS: .*$", f"SETTINGS: dict[str, Any] = {settings}", SOURCE.read_text())
    assert replaced == 1
    return text.encode()


def scheduler_config(recipe: Recipe) -> dict[str, Any]:
    """What `FlowMatchEulerDiscreteScheduler.from_pretrained` reads: the grid that the run's own samples are drawn on."""
    return {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "_diffusers_version": DIFFUSERS,
        "num_train_timesteps": 1000,
        "shift": recipe.samples.shift or recipe.objective.times.shift,
        "use_dynamic_shifting": False,
    }


def pipeline_of(recipe: Recipe) -> str | None:
    """diffusers' pipeline for such a model: for pixels one that takes its output for x̂0, for latents one that takes it for a velocity."""
    if recipe.latents is None:
        return "PRXPixelPipeline" if recipe.objective.prediction == "x" else None
    return "PRXPipeline" if recipe.objective.prediction == "velocity" else None


def model_index(recipe: Recipe, pipeline: str) -> dict[str, Any]:
    """What the pipeline's `from_pretrained` reads. Tower, tokenizer and autoencoder are given to it by whoever loads it."""
    pixels = {"prompt_max_tokens": recipe.text.tokens, "noise_scale": recipe.objective.noise_scale}
    return {
        "_class_name": pipeline,
        "_diffusers_version": DIFFUSERS,
        "transformer": ["routed", "RoutedTransformer"] if beyond_diffusers(recipe) else ["diffusers", "PRXTransformer2DModel"],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": [None, None],
        "tokenizer": [None, None],
        "default_sample_size": recipe.stages[-1].pixels,
    } | (pixels if pipeline == "PRXPixelPipeline" else {"vae": [None, None]})


def losses_before(folder: RunFolder, step: int, most: int = 100) -> list[float]:
    """The losses of the last steps up to `step`; where a step was trained twice, the later attempt's."""
    by_step = {line["step"]: line["value"] for line in folder.metrics() if line["name"] == "loss" and line["step"] <= step}
    return [by_step[known] for known in sorted(by_step)[-most:]]


def as_json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
