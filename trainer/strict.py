"""Frozen networks from files, strictly: one that lacks a weight or has one too many computes nonsense without a word, so it is refused."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class NetworkError(Exception):
    """A network that cannot be used; the message names the recipe's field, the source and what would work."""


def refuse_odd_keys(at: str, source: str, name: str, odd: dict[str, Iterable[str]], may_differ: Callable[[str], bool]) -> None:
    """Raises NetworkError when `odd`, kind of oddity → keys, holds a key that may not differ."""
    for kind, keys in odd.items():
        wrong = sorted(str(key) for key in keys if not may_differ(str(key)))
        if wrong:
            some = ", ".join(wrong[:3]) + (", …" if len(wrong) > 3 else "")
            because = f"{len(wrong)} {kind.replace('_', ' ')} of {name} ({some})"
            raise NetworkError(f"{at}: {source!r}: {because}: it would compute nonsense; point to a complete checkpoint of this class")


def load_transformers(at: str, source: str, kind: Any, may_differ: Callable[[str], bool] = lambda key: key.endswith("position_ids")) -> Any:
    """`kind.from_pretrained(source)` in float32, frozen; `kind` is a class of transformers, `source` a folder or a hub name.

    `may_differ`: keys that may be missing or too many, by default a buffer that old checkpoints saved. Raises NetworkError.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # it would fill the log with half-drawn lines
    try:
        model, report = kind.from_pretrained(source, local_files_only=local_only(at, source), output_loading_info=True, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise NetworkError(f"{at}: {source!r} cannot be loaded: {str(error).splitlines()[0]}") from error
    odd = {name: [str(key) for key in report.get(name) or ()] for name in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    refuse_odd_keys(at, source, type(model).__name__, odd, may_differ)
    return model.eval().requires_grad_(False)


def local_only(at: str, source: str) -> bool:
    """Whether `source` is a folder here. Raises NetworkError for a path that is none, which a hub would be asked for in vain."""
    if Path(source).is_dir():
        return True
    if source.startswith((".", "~", os.sep)) or source.count("/") > 1:
        raise NetworkError(f"{at}: {source!r}: there is no such folder; a folder here, or a hub name as OWNER/NAME")
    return False


def load_weights(at: str, file: Path, module: nn.Module, may_differ: Callable[[str], bool]) -> None:
    """Fill `module` from a file of weights by name (.safetensors, or a state that torch saved); shapes and names must fit."""
    weights = read_weights(at, file)
    own = module.state_dict()
    refuse_odd_keys(
        at,
        str(file),
        type(module).__name__,
        {"missing_keys": own.keys() - weights.keys(), "unexpected_keys": weights.keys() - own.keys()},
        may_differ,
    )
    for name in own.keys() & weights.keys():
        if own[name].shape != weights[name].shape:
            shapes = f"{tuple(weights[name].shape)} there, {tuple(own[name].shape)} needed"
            raise NetworkError(f"{at}: {str(file)!r}: {name} has another shape ({shapes}); point to weights of this network")
    module.load_state_dict({name: weights[name] for name in own.keys() & weights.keys()}, strict=False)


def read_weights(at: str, file: Path) -> dict[str, Tensor]:
    """Tensors by name. Only tensors are read: a file that would run code is refused."""
    if not file.is_file():
        because = "there is no such file; relative ones start at DAYRUN_DATA, or at the current folder"
        raise NetworkError(f"{at}: {str(file)!r}: {because}")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # every format has errors of its own
        raise NetworkError(f"{at}: {str(file)!r} holds no weights: {str(error).splitlines()[0]}") from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise NetworkError(f"{at}: {str(file)!r} holds no weights by name; a state_dict is needed")
    return found
