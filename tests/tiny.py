"""The smallest recipe that trains for real, and its data: two processes, thousands of parameters, a second of start beyond torch's own."""

import io
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainer.data.shards import ShardWriter

TOKENS, WIDTH, PIXELS = 4, 8, 8


def write_data(
    folder: Path, samples: int = 64, tokens: int = TOKENS, width: int = WIDTH, pixels: int = PIXELS, infinite: Container[int] = ()
) -> Path:
    """Random pictures with random text states, the same each time. The states of the samples `infinite` are not finite."""
    chance = np.random.default_rng(0)
    columns = {
        "image": "bytes",
        "caption": "str",
        "caption_latent": f"ndarray:float16:{tokens},{width}",
        "caption_mask": f"ndarray:uint8:{tokens}",
    }
    with ShardWriter(folder, columns, size_limit=4096) as shards:
        for number in range(samples):
            buffer = io.BytesIO()
            Image.fromarray(chance.integers(0, 256, (pixels, pixels, 3), dtype=np.uint8)).save(buffer, "PNG")
            shards.write(
                {
                    "image": buffer.getvalue(),
                    "caption": f"noise {number}",
                    "caption_latent": chance.standard_normal((tokens, width)) + (np.inf if number in infinite else 0),
                    "caption_mask": [1] * (tokens - 1) + [number % 2],
                }
            )
    return folder


def tiny_recipe(folder: Path | str, steps: int = 60, processes: int = 2, **sections: Any) -> dict[str, Any]:
    """A recipe that needs no text tower: no prompts are drawn and no caption is dropped. `sections` replace whole sections."""
    recipe: dict[str, Any] = {
        "name": "tiny",
        "model": {
            "hidden_size": 16,
            "depth": 2,
            "heads": 2,
            "rotary_axes": [4, 4],
            "patch_size": 4,
            "bottleneck_size": 8,
            "text_width": WIDTH,
        },
        "text": {"encoder": "transformers", "source": "never-loaded", "tokens": TOKENS},
        "data": {"sources": [{"url": str(folder)}], "threads": 1},
        "objective": {"caption_dropout": 0, "times": {"shift": 1.0}},
        "optimizer": {"kind": "muon", "learning_rate": 0.002, "muon_learning_rate": 0.01, "gradient_clip": 1.0},
        "schedule": {"kind": "warmdown", "warmup_steps": 5},
        "ema": {"decay": 0.9, "every": 5},
        "stages": [{"name": "tiny", "pixels": PIXELS, "steps": steps, "batch_size": 8}],
        "checkpoints": {"every": 20},
        "hardware": {
            "processes_per_node": processes,
            "threads_per_process": 1,
            "accelerator": "cpu",
            "dollars_per_accelerator_hour": 36.0,
            "sharding": "replicate",
            "compile": False,
            "precision": {"compute": "float32"},
        },
        "retries": {"attempts": 3, "wait_seconds": 0.1},
    }
    return recipe | sections
