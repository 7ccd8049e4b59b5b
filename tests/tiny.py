"""The smallest recipe that trains for real, and its data: two processes, thousands of parameters, a second of start beyond torch's own."""

import io
import tarfile
import tempfile
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainer.data.convert.annotate import annotate
from trainer.data.convert.conversion import convert
from trainer.data.convert.filters import Options

TOKENS, WIDTH, PIXELS = 4, 8, 8


def write_data(
    folder: Path, samples: int = 64, tokens: int = TOKENS, width: int = WIDTH, pixels: int = PIXELS, infinite: Container[int] = ()
) -> Path:
    """Random pictures with random text states, the same each time, as a square data set of several shards that our converter made.

    The states of the samples `infinite` are not finite.
    """
    states = StatesOf(samples, tokens, width, pixels, tuple(number for number in range(samples) if number in infinite))
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "tiny.tar"
        with tarfile.open(source, "w") as archive:
            for number, (picture, _) in enumerate(states.drawn()):
                buffer = io.BytesIO()
                Image.fromarray(picture).save(buffer, "PNG")
                for suffix, data in (("png", buffer.getvalue()), ("txt", f"noise {number}".encode())):
                    member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
        convert(str(source), f"{name}/shards", Options(pixels=pixels, square=True, shard_bytes=4096))
        annotate(f"{name}/shards", str(folder), states)
    return folder


@dataclass(frozen=True)
class StatesOf:
    """Random states in the place of a text tower's."""

    samples: int
    tokens: int
    width: int
    pixels: int
    infinite: tuple[int, ...]
    needs: tuple[str, ...] = ("id",)

    def load(self) -> "States":
        return States(self)

    def drawn(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Each sample's picture, (pixels, pixels, 3) uint8, and its states, (tokens, width)."""
        chance = np.random.default_rng(0)
        for number in range(self.samples):
            picture = chance.integers(0, 256, (self.pixels, self.pixels, 3), dtype=np.uint8)
            yield picture, chance.standard_normal((self.tokens, self.width)) + (np.inf if number in self.infinite else 0)


class States:
    def __init__(self, words: StatesOf) -> None:
        self._states, self._tokens = [states for _, states in words.drawn()], words.tokens
        self.columns = {"caption_latent": f"ndarray:float16:{words.tokens},{words.width}", "caption_mask": f"ndarray:uint8:{words.tokens}"}

    def __call__(self, samples: list[dict[str, Any]]) -> list[dict[str, Any] | str]:
        numbers = [int(sample["id"].rpartition("/")[2]) for sample in samples]
        return [{"caption_latent": self._states[n], "caption_mask": [1] * (self._tokens - 1) + [n % 2]} for n in numbers]


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
