"""How pictures reach a frozen network: cropped, resized and normalised. Functions of tensors; a crop follows from (seed, position)."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.flow import mix

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


@lru_cache(maxsize=64)  # one entry a size, a few sizes a bucket
def resizing_matrix(before: int, after: int, antialias: bool, device: torch.device) -> Tensor:
    """Rows of bilinear weights: (after, before) float32, each sums to 1.

    Pixel i of the result lies at (i + ½)·before/after; weights are a triangle around it, one source pixel to each side, or, with
    antialias where the result is smaller, one result pixel to each side. Equal to `F.interpolate(mode="bilinear", antialias=antialias)`.
    """
    scale = before / after
    reach = max(scale, 1.0) if antialias else 1.0
    centres = (torch.arange(after, dtype=torch.float64, device=device) + 0.5) * scale
    distance = (torch.arange(before, dtype=torch.float64, device=device) + 0.5 - centres[:, None]).abs()
    weights = (1 - distance / reach).clamp(min=0)
    return (weights / weights.sum(dim=1, keepdim=True)).float()


def resized(pictures: Tensor, height: int, width: int, antialias: bool = True) -> Tensor:
    """Bilinear: (n, c, h, w) float32 → (n, c, height, width).

    As two matrix products and not `F.interpolate`, whose backward pass adds in any order on a GPU: a resume would not be exact.
    """
    h, w = pictures.shape[-2:]
    if (h, w) == (height, width):
        return pictures
    rows = resizing_matrix(h, height, antialias, pictures.device)
    columns = resizing_matrix(w, width, antialias, pictures.device)
    return rows @ pictures @ columns.T


def crop_places(seed: int, positions: list[int], salt: int, height: int, width: int, side: int) -> list[tuple[int, int]]:
    """(top, left) of a random square of `side` for each sample: a function of (seed, position, salt) and of the sizes alone."""
    places = []
    for position in positions:
        generator = torch.Generator().manual_seed(mix(mix(seed, position), salt))
        top = int(torch.randint(height - side + 1, (), generator=generator))
        left = int(torch.randint(width - side + 1, (), generator=generator))
        places.append((top, left))
    return places


def cropped(pictures: Tensor, places: list[tuple[int, int]], side: int) -> Tensor:
    """The square of `side` at (top, left) of each picture: (n, c, h, w) → (n, c, side, side)."""
    return torch.stack([picture[:, top : top + side, left : left + side] for picture, (top, left) in zip(pictures, places, strict=True)])


@lru_cache(maxsize=16)  # made anew, each would make the host wait for the device
def by_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """One value a channel, to go with (n, c, h, w)."""
    return torch.tensor(values, device=device)[:, None, None]


def standardised(pictures: Tensor, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Tensor:
    """(n, c, h, w) less a mean, over a deviation, of each channel."""
    return (pictures - by_channel(mean, pictures.device)) / by_channel(deviation, pictures.device)


def for_imagenet(pictures: Tensor) -> Tensor:
    """Pictures in [−1, 1] → clamped to [0, 1], less ImageNet's mean, over its deviation; (n, 3, h, w)."""
    return standardised(((pictures + 1) / 2).clamp(0, 1), IMAGENET_MEAN, IMAGENET_DEVIATION)


def nearest(pictures: Tensor, height: int, width: int) -> Tensor:
    """Nearest-neighbour resizing, as PRX feeds its teacher: no antialiasing."""
    return F.interpolate(pictures, size=(height, width), mode="nearest")
