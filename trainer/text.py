"""Frozen text towers: captions in, token states and a mask out. Loading is strict, since a tower with random weights trains without a word.

It knows nothing of the denoiser. The towers' own library is imported only when one is loaded.
"""

import html
import importlib
import unicodedata
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor

from dayrun.recipe import Recipe
from dayrun.recipe_errors import RecipeErrors
from trainer.cleaning import deepfloyd
from trainer.pretrained import files_of, first_line, load_strictly
from trainer.world import World

PACKAGE = "package:"
AT = "/text/source"
UNUSED = ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias")
"""Keys that may be there or not: buffers that old checkpoints saved, and a pooler whose output is not used here."""
DECODER = ("model.decoder.", "decoder.", "lm_head.", "model.lm_head.")
"""The half of a T5Gemma checkpoint that writes text."""

Encoder = Literal["t5gemma", "qwen3_vl", "transformers"]
Cleaning = Literal["deepfloyd", "light", "none"]


class TowerError(Exception):
    """A text tower that cannot be used; the message names the source and what would work."""


class TextEncoder:
    """A loaded tower: captions to states, and nothing else."""

    def __init__(self, model: Any, tokenizer: Any, tokens: int, cleaning: Cleaning = "none") -> None:
        self._model, self._tokenizer, self._tokens, self._cleaning = model, tokenizer, tokens, cleaning
        self._tokenizer.padding_side = "right"  # a caption's states must not depend on how far it is from the end
        self.width: int = model.config.hidden_size

    def to(self, device: torch.device, dtype: torch.dtype) -> Self:
        self._model.to(device, dtype)
        return self

    @torch.no_grad()
    def states(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """The last hidden states on the tower's device: (n, tokens, width) float32, and which tokens are real: (n, tokens) bool on the CPU.

        Longer captions are cut. Padding is zero, so that shards compress and compare.
        """
        cleaned = [clean(caption, self._cleaning) for caption in captions]
        found = self._tokenizer(cleaned, padding="max_length", truncation=True, max_length=self._tokens, return_tensors="pt")
        mask, device = found["attention_mask"].bool(), next(self._model.parameters()).device
        output = self._model(**{name: tensor.to(device) for name, tensor in found.items()}).last_hidden_state
        # chosen and not multiplied: a caption without tokens may have states that are no numbers
        return torch.where(mask.to(device)[..., None], output.float(), 0.0), mask

    def encode(self, captions: list[str], batch: int = 64) -> tuple[Tensor, Tensor]:
        """`states` of many captions, `batch` at a time, all on the CPU."""
        chunks = [self.states(captions[first : first + batch]) for first in range(0, len(captions), batch)]
        return torch.cat([states.cpu() for states, _ in chunks]), torch.cat([masks for _, masks in chunks])


def load_text_encoder(
    source: str, tokens: int, encoder: Encoder = "transformers", world: World | None = None, cleaning: Cleaning = "none"
) -> TextEncoder:
    """The tower at `source`: `package:NAME` (weights inside an installed Python package), a folder, an object-store prefix or a hub name.

    Without `world`, this process loads it alone, on the CPU in float32. With it, every rank must call, and gets it on its own device, in
    bfloat16 where that is an accelerator. Raises TowerError when it is not there, or when its checkpoint lacks a weight or has one that the
    architecture does not know.
    """
    import transformers

    place = str(folder_in_package(source.removeprefix(PACKAGE))) if source.startswith(PACKAGE) else source
    try:
        with files_of(place, AT, world) as folder:
            try:
                tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            except (OSError, ValueError) as error:
                raise TowerError(f"{AT}: {source!r}: its tokenizer cannot be loaded: {first_line(error)}") from error
            model = LOADERS[encoder](folder, source)
    except RecipeErrors as error:
        raise TowerError(str(error)) from error
    if world is not None:
        model.to(world.device, torch.float32 if world.device.type == "cpu" else torch.bfloat16)
    return TextEncoder(model, tokenizer, tokens, cleaning)


def tower_of(recipe: Recipe, world: World) -> TextEncoder | None:
    """The tower that cleans and encodes captions while a run trains, on every rank; None where their states come from the shards."""
    text = recipe.text
    if text.precomputed:
        return None
    tower = load_text_encoder(text.source, text.tokens, text.encoder, world, text.cleaning)
    if tower.width != recipe.model.text_width:
        raise TowerError(f"/model/text_width: {recipe.model.text_width}: the states of {text.source} are {tower.width} wide")
    return tower


def load_any(folder: Path, source: str) -> Any:
    """Whatever encoder the folder's config.json names."""
    import transformers

    return load_strictly(transformers.AutoModel, folder, AT, source, ignored=UNUSED)


def load_t5gemma(folder: Path, source: str) -> Any:
    """The encoder of a T5Gemma checkpoint, which holds a decoder too."""
    import transformers

    config = config_of(folder, source, "t5gemma")
    config.is_encoder_decoder = False  # transformers' encoder class asks for it
    return load_strictly(transformers.T5GemmaEncoderModel, folder, AT, source, ignored=DECODER, config=config).encoder


def load_qwen3_vl(folder: Path, source: str) -> Any:
    """The language model of a Qwen3-VL checkpoint: loaded as what was saved, since its bare class finds no weight under its own names."""
    import transformers

    config_of(folder, source, "qwen3_vl")
    model = load_strictly(transformers.Qwen3VLForConditionalGeneration, folder, AT, source).model.language_model
    model.config.use_cache = False
    return model


LOADERS = {"t5gemma": load_t5gemma, "qwen3_vl": load_qwen3_vl, "transformers": load_any}


def config_of(folder: Path, source: str, kind: str) -> Any:
    """The folder's config.json. Raises TowerError when it is not of the model type `kind`."""
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise TowerError(f"{AT}: {source!r}: its config.json cannot be read: {first_line(error)}") from error
    if config.model_type != kind:
        raise TowerError(f"{AT}: {source!r} is a {config.model_type!r} and /text/encoder says {kind!r}: they must name the same tower")
    return config


def folder_in_package(name: str) -> Path:
    """Where an installed package keeps its model."""
    try:
        package = importlib.import_module(name)
    except ImportError as error:
        raise TowerError(f"{AT}: package:{name}: no such package is installed; pip install {name.replace('_', '-')}") from error
    return Path(package.get_model_path())


def clean(caption: str, how: Cleaning) -> str:
    """A caption as the tower should see it. `light`: unicode to its composed form, HTML entities twice undone, white space collapsed."""
    if how == "deepfloyd":
        return deepfloyd(caption)
    if how == "light":
        return " ".join(html.unescape(html.unescape(unicodedata.normalize("NFC", caption))).split())
    return caption
