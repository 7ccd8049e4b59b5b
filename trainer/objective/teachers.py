"""Loading the frozen networks of the objective: VGG16 with LPIPS' heads, and vision transformers. Strict, frozen, in eval mode.

Each comes back ready for its device: bfloat16 on accelerators, compiled where the recipe compiles. They are no part of the model: never in
an optimizer or a checkpoint.
"""

import re
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from dayrun.recipe import Hardware
from trainer.objective.perceptual import LEVELS, Vgg16
from trainer.pretrained import files_of, first_line, load_strictly, named, refusal, tensors_in
from trainer.world import World

Network = TypeVar("Network", bound=nn.Module)

VITS = {
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
    "dinov3_vit": "DINOv3ViTModel",
}
"""`model_type` in a checkpoint's config.json, and transformers' class for it."""
CLASSIFIER = re.compile(r"classifier\.[036]\.(weight|bias)")
"""What torchvision's VGG16 has after its convolutions: may be there, is not used."""


@dataclass(frozen=True)
class Vit:
    """A vision transformer and what there is to know of its shape."""

    model: Any
    patch: int
    prefix: int
    """Class token and registers, which come before the patches."""
    width: int

    def features(self, pictures: Tensor) -> Tensor:
        """Patch features after the last norm: (n, 3, h, w), normalised as ImageNet, → (n, patches, width), row by row."""
        return self.model(pictures.to(self.model.dtype)).last_hidden_state[:, self.prefix :]


def settled(network: Network, hardware: Hardware, world: World) -> Network:
    """The network frozen on its device, in the precision it runs in, compiled where the recipe compiles."""
    network.eval().requires_grad_(False)
    network.to(world.device, torch.float32 if world.device.type == "cpu" else torch.bfloat16)
    if hardware.compile:
        network.compile()
    return network


def load_vgg(source: str, at: str, hardware: Hardware, world: World) -> Vgg16:
    """LPIPS' network: `source` holds torchvision's VGG16 and lpips' heads, in one file or several. Widths follow from the weights.

    Raises RecipeErrors at the field `at` for a key that is missing, unexpected or of a shape that does not fit its neighbour.
    """
    with files_of(source, at, world) as place:
        weights = tensors_in(place, at, source)
    convolutions = [f"features.{number}" for level in LEVELS for number in level]
    heads = [f"lin{i}.model.1.weight" for i in range(len(LEVELS))]
    wanted = [f"{name}.{kind}" for name in convolutions for kind in ("weight", "bias")] + heads
    if missing := [key for key in wanted if key not in weights]:
        because = f"{len(missing)} missing keys ({named(missing)}): VGG16 in torchvision's names and LPIPS' five heads are needed"
        raise refusal(at, source, f"{because}; without them it would run with random weights")
    if unexpected := sorted(key for key in weights.keys() - set(wanted) if not CLASSIFIER.fullmatch(key)):
        because = f"{len(unexpected)} unexpected keys ({named(unexpected)}): this is no VGG16 without batch norm"
        raise refusal(at, source, f"{because}; point to torchvision's vgg16 and LPIPS' heads for it")
    width, shapes = 3, {}
    for level, numbers in enumerate(LEVELS):
        for number in numbers:
            found = weights[f"features.{number}.weight"].shape
            shapes |= {f"features.{number}.weight": (found[0], width, 3, 3), f"features.{number}.bias": (found[0],)}
            width = found[0]
        shapes[heads[level]] = (1, width, 1, 1)
    for key, shape in shapes.items():
        if tuple(weights[key].shape) != shape:
            raise refusal(at, source, f"{key} is of shape {list(weights[key].shape)}, the layer before it asks for {list(shape)}")
    return settled(Vgg16({key: weights[key].float() for key in wanted}), hardware, world)


def load_vit(source: str, at: str, hardware: Hardware, world: World) -> Vit:
    """A DINOv2 (with registers or without) or DINOv3 vision transformer. Raises RecipeErrors at the field `at` when it is not whole."""
    import transformers

    with files_of(source, at, world) as place:
        try:
            config = transformers.AutoConfig.from_pretrained(place)
        except (OSError, ValueError, KeyError) as error:
            because = f"its config.json cannot be read: {first_line(error)}"
            raise refusal(at, source, f"{because}; a folder as transformers saves it is needed") from error
        if config.model_type not in VITS:
            raise refusal(at, source, f"a {config.model_type!r} has no patch features that are known here", sorted(VITS))
        model = load_strictly(getattr(transformers, VITS[config.model_type]), place, at, source)
    patch = config.patch_size
    if not isinstance(patch, int):
        raise refusal(at, source, f"its patches are {patch}; square ones are needed")
    prefix = 1 + getattr(config, "num_register_tokens", 0)
    return Vit(settled(model, hardware, world), patch, prefix, config.hidden_size)
