"""A checkpoint as a folder that diffusers loads.

    python -m trainer.export RUN_FOLDER --id EXPORT [--step N|newest] [--dollars D]

The averaged weights, when the run keeps any, in float32 safetensors under exports/<id>/transformer; parameter names are diffusers' own,
so that this is a copy. The text tower is not copied: the card says where it comes from. Exit codes: 0 exported; 70 failed, for the cause
that exports/<id>/error.json names; 2 wrong usage.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from dayrun.objects import Prefix
from dayrun.recipe import Recipe
from dayrun.run_folder import ExportManifest, RunFolder
from trainer.card import card
from trainer.trained import alone, load_trained, recipe_of, told_when_it_fails

DIFFUSERS = "0.42.0"
"""The first release whose PRX transformer and pixel pipeline have everything that is written here."""
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


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
    documents = {
        "transformer/config.json": as_json(transformer_config(recipe)),
        "scheduler/scheduler_config.json": as_json(scheduler_config(recipe)),
        "recipe.json": as_json(recipe.model_dump(mode="json")),
        "README.md": card(trained, losses_before(folder, trained.manifest["step"]), dollars).encode(),
    }
    if recipe.objective.prediction == "x":  # diffusers' pixel pipeline takes the model's output for x̂0
        documents["model_index.json"] = as_json(model_index(recipe))
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
    step = trained.manifest["step"]
    manifest = ExportManifest(step=step, checkpoint=trained.digest, ema=trained.ema, time=time.time(), files=files)
    folder.prefix.put(f"{where}/complete.json", as_json(manifest))
    print(f"step {step} exported to {folder.prefix.url}/{where}", flush=True)


def transformer_config(recipe: Recipe) -> dict[str, Any]:
    """What `PRXTransformer2DModel.from_pretrained` reads."""
    model = recipe.model
    return {
        "_class_name": "PRXTransformer2DModel",
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


def scheduler_config(recipe: Recipe) -> dict[str, Any]:
    """What `FlowMatchEulerDiscreteScheduler.from_pretrained` reads: the grid that the run's own samples are drawn on."""
    return {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "_diffusers_version": DIFFUSERS,
        "num_train_timesteps": 1000,
        "shift": recipe.samples.shift or recipe.objective.times.shift,
        "use_dynamic_shifting": False,
    }


def model_index(recipe: Recipe) -> dict[str, Any]:
    """What `PRXPixelPipeline.from_pretrained` reads. The tower and its tokenizer are given to it by whoever loads it."""
    return {
        "_class_name": "PRXPixelPipeline",
        "_diffusers_version": DIFFUSERS,
        "transformer": ["diffusers", "PRXTransformer2DModel"],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": [None, None],
        "tokenizer": [None, None],
        "default_sample_size": recipe.stages[-1].pixels,
        "prompt_max_tokens": recipe.text.tokens,
        "noise_scale": recipe.objective.noise_scale,
    }


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
