"""The frozen autoencoder of models that work on latents: pictures to what the denoiser learns from, and what it draws to pictures."""

import json
from typing import Any

import torch
from torch import Tensor

from dayrun.recipe import Latents, Recipe
from trainer.pretrained import files_of, first_line, load_strictly, refusal
from trainer.world import World

CLASSES = ("AutoencoderKL", "AutoencoderKLFlux2", "AutoencoderDC")
"""`_class_name` in the config.json of FLUX.1 and REPA-E, of FLUX.2, and of DC-AE: classes of diffusers."""
AT = "/latents/source"
CHUNK = 8
"""Pictures that are decoded at a time: full-size activations of many channels are what takes the memory."""


class Autoencoder:
    """Frozen, on this rank's device; float32 on a CPU, bfloat16 elsewhere. Latents are (z − shift) · scaling, as the recipe says."""

    def __init__(self, network: Any, fields: Latents) -> None:
        self._network, self._fields = network, fields

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """(n, 3, h, w) in [−1, 1] → (n, channels, h/downscale, w/downscale) float32.

        Where the autoencoder knows a distribution, its mode: the same picture has the same latents in every epoch and attempt.
        """
        encoded = self._network.encode(pictures.to(self._network.dtype))
        z = encoded.latent if hasattr(encoded, "latent") else encoded.latent_dist.mode()
        return (z.float() - self._fields.shift) * self._fields.scaling

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """The inverse, as far as there is one: (n, 3, h, w) float32, clamped to [−1, 1]."""
        z = (latents.float() / self._fields.scaling + self._fields.shift).to(self._network.dtype)
        return torch.cat([self._network.decode(part).sample.float() for part in z.split(CHUNK)]).clamp(-1, 1)


def autoencoder_of(recipe: Recipe, world: World) -> Autoencoder | None:
    """The recipe's autoencoder; None where it works on pixels. Every rank must call it.

    Raises RecipeErrors when it is not whole, not of a known class, or not of the shape that /model and /latents say.
    """
    if recipe.latents is None:
        return None
    import diffusers

    fields, source = recipe.latents, recipe.latents.source
    with files_of(source, AT, world) as place:
        try:
            kind = json.loads((place / "config.json").read_bytes()).get("_class_name")
        except (OSError, ValueError) as error:
            because = f"its config.json cannot be read: {first_line(error)}"
            raise refusal(AT, source, f"{because}; a folder as diffusers saves it is needed") from error
        if kind not in CLASSES:
            found = f"a {kind}" if kind else "its config.json has no _class_name: it"
            raise refusal(AT, source, f"{found} is no autoencoder that is known here", [*CLASSES])
        diffusers.utils.logging.set_verbosity_error()  # what is wrong is told by the errors
        network = load_strictly(getattr(diffusers, kind), place, AT, source, low_cpu_mem_usage=False)
    network.to(world.device, torch.float32 if world.device.type == "cpu" else torch.bfloat16)
    found = Autoencoder(network, fields)
    side = recipe.stages[0].pixels
    shape = tuple(found.encode(torch.zeros(1, 3, side, side, device=world.device)).shape[1:])
    wanted = (recipe.model.in_channels, side // fields.downscale, side // fields.downscale)
    if shape != wanted:
        because = (
            f"its latents of {side} × {side} pixels are {shape[0]} × {shape[1]} × {shape[2]}, /model/in_channels and /latents/downscale"
        )
        raise refusal(AT, source, f"{because} ask for {wanted[0]} × {wanted[1]} × {wanted[2]}")
    return found
