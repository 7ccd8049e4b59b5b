"""A folder of diffusers as the start of a run: the weights of its transformer, our own exports and published models alike.

It is forked like a run, by a `fork.json` whose `from` is the folder; the run begins at step 0. Its configuration is compared with the
recipe before a tensor is read, and nothing may be missing or left over.
"""

import hashlib
import json
from typing import Any

import torch.distributed.checkpoint as dcp
from torch import nn

from dayrun.objects import Prefix
from dayrun.recipe import Recipe
from dayrun.recipe_errors import RecipeError, RecipeErrors
from dayrun.run_folder import Fork
from trainer.checkpoint import digest, quiet
from trainer.export import transformer_config
from trainer.objective.representation import PROJECTOR
from trainer.pretrained import files_of
from trainer.world import World

CONFIG = "transformer/config.json"
FIELDS = {
    "in_channels": "/model/in_channels",
    "patch_size": "/model/patch_size",
    "context_in_dim": "/model/text_width",
    "hidden_size": "/model/hidden_size",
    "mlp_ratio": "/model/mlp_ratio",
    "num_heads": "/model/heads",
    "depth": "/model/depth",
    "axes_dim": "/model/rotary_axes",
    "theta": "/model/rotary_theta",
    "bottleneck_size": "/model/bottleneck_size",
    # the rest says it in other words
    "resolution_embeds": "/model/resolution_conditioning",
    "resolution_tokens": "/model/resolution_conditioning",
    "sprint_blocks": "/routing",
}
"""What a configuration says, and the field of the recipe that says the same."""
DIRECT = list(FIELDS)[:-3]
DEFAULTS = {"axes_dim": [32, 32], "theta": 10_000, "bottleneck_size": None, "resolution_embeds": False}
"""What diffusers takes for what a configuration does not say."""


def configuration(url: str, world: World) -> dict[str, Any] | None:
    """What the folder at `url` says of its transformer; None when it is no folder of diffusers. Every rank calls it."""

    def read() -> dict[str, Any] | None:
        folder = Prefix(url)
        return json.loads(folder.get(CONFIG)) if folder.exists(CONFIG) else None

    return world.together(lambda: read() if world.leads else None)[0]


def conflicts(config: dict[str, Any], recipe: Recipe) -> list[RecipeError]:
    """Why a model of `recipe` cannot start from one with this configuration; places are in the recipe. Pure."""
    ours, errors = transformer_config(recipe), []
    for name, at in FIELDS.items():
        theirs, own = (given.get(name, DEFAULTS.get(name)) or None for given in (config, ours))
        if theirs != own:
            nearest = [theirs] if name in DIRECT else []
            errors.append(RecipeError(at, own, f"the folder's transformer says {name} {json.dumps(theirs)}", nearest))
    return errors


def take_over(fork: Fork, config: dict[str, Any], recipe: Recipe, world: World, model: nn.Module) -> tuple[dict[str, Any], str]:
    """Fill `model` from the folder; where it stands (step 0) and the SHA-256 of its weights. Every rank calls it.

    Raises RecipeErrors (cause `spec`) when it does not fit.
    """
    if fork["weights"] == "all":
        raise RecipeErrors([RecipeError("", None, f"fork.json: {fork['from']} holds weights alone: take 'model' of it, not 'all'")])
    if errors := conflicts(config, recipe):
        raise RecipeErrors(errors)
    with files_of(f"{fork['from']}/transformer", "", world) as path, quiet():
        reader = dcp.HuggingFaceStorageReader(str(path))
        there = {name: tuple(entry.size) for name, entry in reader.read_metadata().state_dict_metadata.items()}
        state = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(PROJECTOR)}
        refuse_what_does_not_fit(there, {name: tuple(tensor.shape) for name, tensor in state.items()}, fork["from"])
        dcp.load(state, storage_reader=reader)
        digests = world.together(lambda: [digest(file) for file in sorted(path.glob("*.safetensors"))] if world.leads else [])[0]
    return {"step": 0, "position": 0}, digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def refuse_what_does_not_fit(there: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]], url: str) -> None:
    """Raises RecipeErrors with the first weights that are missing, left over or of another shape."""
    wrong = [name for name in sorted(there.keys() | wanted.keys()) if there.get(name) != wanted.get(name)]
    if wrong:
        pairs = [(name, list(there.get(name, ())), list(wanted.get(name, ()))) for name in wrong[:3]]
        told = ", ".join(f"{name} is {theirs or 'not there'}, the model's {own or 'not there'}" for name, theirs, own in pairs)
        raise RecipeErrors([RecipeError("", None, f"fork.json: {len(wrong)} weights of {url} do not fit: {told}")])
