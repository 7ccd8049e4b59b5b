"""Where the files of a frozen network lie, and loading them strictly: a network with random weights trains without a word.

A source is a folder, an object-store prefix (`s3://bucket/vits/base`, see dayrun/objects.py) or a hub name (`owner/name`). What is refused
is told as an error of the recipe: the field, its value, which keys, and what would work. It knows no network by name.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from dayrun.objects import Prefix
from dayrun.recipe_errors import RecipeError, RecipeErrors
from trainer.staging import staging
from trainer.world import World

WEIGHTS = (".safetensors", ".pth", ".pt")
HUB_FILES = ["*.json", "*.safetensors", "*.pth", "*.model", "*.txt"]
"""What is fetched of a hub repository: not the same weights once more for other frameworks."""
SHOWN = 3
"""Keys that an error names; the rest is counted."""


def refusal(at: str, value: Any, because: str, nearest: list[Any] | None = None) -> RecipeErrors:
    """The error for a network that cannot be used: `at` is the field, most often that of its source."""
    return RecipeErrors([RecipeError(at, value, because, nearest or [])])


def is_hub_name(source: str) -> bool:
    """Whether `source` may be owner/name of a hub; a folder of that name goes first."""
    owner, slash, name = source.partition("/")
    return bool(slash and owner and name) and "/" not in name and not source.startswith((".", "~"))


@contextmanager
def files_of(source: str, at: str, world: World | None) -> Iterator[Path]:
    """The files of `source` on this machine: its folder (or the one file), valid inside the block.

    Every rank of `world` must enter and leave it; with None, this process does it alone. Raises RecipeErrors when there is no such place,
    StoreError when an object store does not answer.
    """
    if "://" in source and not source.startswith("file://"):
        if world is None:
            with tempfile.TemporaryDirectory(prefix="dayrun-network-") as name:
                fetch(source, at, Path(name))
                yield Path(name)
            return
        with staging(world) as folder:
            world.together(lambda: fetch(source, at, folder) if world.leads_node else None)
            yield folder
            world.barrier()  # the folder goes when its leader leaves: others may still read
        return
    place = Path(source.removeprefix("file://"))
    if place.exists():
        yield place
    elif is_hub_name(source):
        if world is not None:  # one rank fetches, the others find it
            world.together(lambda: from_hub(source, at) if world.leads_node else None)
        yield from_hub(source, at)
    else:
        raise refusal(at, source, "there is no such folder; a folder, s3://bucket/prefix or a hub's owner/name would do")


def fetch(source: str, at: str, folder: Path) -> None:
    """Copy every object under the prefix `source` into `folder`."""
    prefix = Prefix(source)
    found = prefix.objects()
    if not found:
        raise refusal(at, source, "nothing lies under this prefix; upload the network's files there")
    for info in found:
        file = folder / info.key
        file.parent.mkdir(parents=True, exist_ok=True)
        prefix.get_file(info.key, file)


def from_hub(source: str, at: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, allow_patterns=HUB_FILES))
    except (OSError, ValueError) as error:
        because = f"neither a folder nor to be had from the hub: {first_line(error)}"
        raise refusal(at, source, f"{because}; put its files into a folder or an object store and name that") from error


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def tensors_in(place: Path, at: str, source: str) -> dict[str, Tensor]:
    """Every tensor of the weight files right under `place` (or of the one file `place`), by name, on the CPU.

    Raises RecipeErrors when there are no weight files, when one cannot be read, or when two hold the same name.
    """
    files = [place] if place.is_file() else sorted(file for file in place.iterdir() if file.suffix in WEIGHTS)
    if not files:
        raise refusal(at, source, f"no weights there: a file that ends in {', '.join(WEIGHTS)} is needed")
    found: dict[str, Tensor] = {}
    for file in files:
        try:
            read = load_file(file) if file.suffix == ".safetensors" else torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # each format has errors of its own
            raise refusal(at, source, f"{file.name} cannot be read: {first_line(error)}") from error
        if twice := sorted(found.keys() & read.keys()):
            raise refusal(at, source, f"{file.name} holds {named(twice)} once more: only one file may")
        found |= read
    return found


def named(keys: list[str]) -> str:
    """Some keys by name, the others counted."""
    more = len(keys) - SHOWN
    return ", ".join(keys[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def load_strictly(kind: Any, place: Path | str, at: str, source: str, ignored: tuple[str, ...] = (), **options: Any) -> Any:
    """The model of transformers' class `kind` at `place`, float32, eval, without gradients.

    `ignored`: beginnings of the names that may be missing or too many. Raises RecipeErrors when any other key is missing, unexpected or of
    another shape.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()  # it would fill the log with half-drawn lines
    logging.set_verbosity_error()  # what is wrong is told below
    try:
        # mismatched sizes are let through to be refused by name here
        model, report = kind.from_pretrained(place, output_loading_info=True, ignore_mismatched_sizes=True, dtype=torch.float32, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise refusal(at, source, f"cannot be loaded as {kind.__name__}: {first_line(error)}") from error
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        keys = sorted(" ".join(map(str, key)) if isinstance(key, tuple) else str(key) for key in report.get(what) or ())
        wrong = [key for key in keys if not key.startswith(ignored)] if ignored else keys
        if wrong:
            because = f"{len(wrong)} {what.replace('_', ' ')} of {type(model).__name__} ({named(wrong)})"
            raise refusal(at, source, f"{because}: it would run with random weights; point to a complete checkpoint of this class")
    return model.eval().requires_grad_(False)
