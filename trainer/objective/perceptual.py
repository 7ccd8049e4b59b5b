"""Perceptual losses on the predicted picture against the clean one, after PixelGen: LPIPS with VGG16, and P-DINO.

Functions of tensors and the one small module that LPIPS needs. Which networks, weights and sizes, the recipe says and `parts.py` applies.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.objective.pictures import standardised

LEVELS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""Numbers of VGG16's convolutions in torchvision's `features`, by level; LPIPS looks at each level's last ReLU (relu1_2 … relu5_3)."""
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
"""LPIPS' own normalisation of pictures in [−1, 1] (Zhang et al. 2018, published code)."""


class Vgg16(nn.Module):
    """VGG16 up to relu5_3 (Simonyan & Zisserman 2015, column D) and LPIPS' five linear heads, built from their weights.

    weights: torchvision's names (`features.0.weight` …) and lpips' (`lin0.model.1.weight` …); widths follow from the shapes.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            [nn.ModuleList([convolution(weights, f"features.{number}") for number in numbers]) for numbers in LEVELS]
        )
        self.heads = nn.ParameterList([weights[f"lin{i}.model.1.weight"].flatten() for i in range(len(LEVELS))])

    def forward(self, x: Tensor) -> list[Tensor]:
        """(n, 3, h, w), standardised, → the five levels' features (n, width, h/2^i, w/2^i)."""
        found: list[Tensor] = []
        for level in self.levels:
            if found:
                x = F.max_pool2d(x, 2)
            for layer in level:  # pyright: ignore[reportGeneralTypeIssues]
                x = F.relu(layer(x))
            found.append(x)
        return found


def convolution(weights: dict[str, Tensor], name: str) -> nn.Conv2d:
    weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)  # pyright: ignore[reportOptionalMemberAccess]
    return layer


def to_unit_length(features: Tensor) -> Tensor:
    """Every place's channels to length 1, in float32; a place where all are zero stays zero."""
    features = features.float()
    length = features.square().sum(dim=1, keepdim=True).clamp(min=1e-30).sqrt()  # the clamp: a root's slope at zero has no end
    return features / (length + 1e-10)


def lpips(network: Vgg16, predicted: Tensor, clean: Tensor) -> Tensor:
    """LPIPS of each pair: (n, 3, h, w) in [−1, 1] twice → (n,) float32. Gradients flow into `predicted` alone.

    Features to unit length at each place, squared differences weighed by the heads, mean over places, sum over levels.
    Source: Zhang et al. 2018, eq. 1, with the heads of the published version 0.1.
    """
    dtype = network.heads[0].dtype
    with torch.no_grad():
        wanted = network(standardised(clean, SHIFT, SCALE).to(dtype))
    found = network(standardised(predicted, SHIFT, SCALE).to(dtype))
    total = torch.zeros(len(predicted), device=predicted.device)
    for ours, theirs, head in zip(found, wanted, network.heads, strict=True):
        difference = (to_unit_length(ours) - to_unit_length(theirs)).square()
        total = total + torch.einsum("nchw,c->nhw", difference, head.float()).mean(dim=(1, 2))
    return total


def p_dino(predicted: Tensor, clean: Tensor) -> Tensor:
    """1 − cosine of patch features, mean over patches: (n, patches, width) twice → (n,) float32. Source: PixelGen's P-DINO loss."""
    return (1 - F.cosine_similarity(predicted.float(), clean.float(), dim=-1)).mean(dim=1)


def mean_below(distances: Tensor, times: Tensor, below: float) -> Tensor:
    """Mean over the batch of the distances whose noise level is below `below`, others counting as 0; (n,) twice → scalar.

    Divided by the whole batch and not by those that count: the result must not depend on how a batch is spread over ranks.
    """
    return (distances * (times < below)).mean()
