"""Aspect buckets: which shapes pictures are trained at, which of them one goes to, and what of it is cut off on the way. Pure functions.

A bucket is a grid of patches with about as many patches as the square. Source: the reference recipe's data, whose 1024 px with patches of
32 px give 27 of them.
"""

import math
from functools import lru_cache
from typing import NamedTuple

WIDEST = 2
"""Width over height, and height over width, that buckets reach to."""


class Size(NamedTuple):
    """Of a picture, in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        """The name of a bucket's folder."""
        return f"{self.width}x{self.height}"

    @classmethod
    def of(cls, name: str) -> "Size":
        """The size that a bucket's folder is named by. Raises ValueError."""
        width, times, height = name.partition("x")
        if not (times and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
            raise ValueError(f"{name!r} is not the name of a bucket; expected WIDTHxHEIGHT in pixels, e.g. 1024x768")
        return cls(int(width), int(height))


@lru_cache
def buckets(pixels: int, patch: int) -> tuple[Size, ...]:
    """All buckets whose area is about that of a square of `pixels`, from tall to wide.

    patch: side of a patch in pixels; with latents, a latent patch's. For each width of the grid the greatest height that keeps within the
    square's number of patches, and the converse. The limits on the ratio hold before that height is rounded down: at 1024 px with patches
    of 32 px the widest grid is 45 × 22. Raises ValueError when the patches do not divide the square.
    """
    if pixels < 1 or patch < 1 or pixels % patch:
        raise ValueError(f"patches of {patch} px do not divide a square of {pixels} px; nearest: {max(1, round(pixels / patch)) * patch}")
    area = (pixels // patch) ** 2
    # a side s with s² ≤ 2·area and 2·s² ≥ area: the whole numbers between side/√2 and side·√2, without a root of anything
    sides = [side for side in range(1, math.isqrt(WIDEST * area) + 1) if WIDEST * side * side >= area]
    grids = {grid for side in sides for grid in ((side, area // side), (area // side, side))}
    return tuple(Size(width * patch, height * patch) for width, height in sorted(grids, key=lambda grid: grid[0] / grid[1]))


def nearest(width: int, height: int, among: tuple[Size, ...]) -> Size:
    """The size of the ratio nearest to width/height: the one for which least is cut off. Tall and wide pictures are treated alike."""

    def away(size: Size) -> tuple[float, int, Size]:
        one, other = width * size.height, height * size.width
        return max(one, other) / min(one, other), max(size), size

    return min(among, key=away)


def at(size: Size, pixels: int, patch: int) -> Size:
    """The bucket that pictures of the bucket `size` are trained at in a stage of `pixels`: several may come together where it has fewer."""
    return nearest(*size, buckets(pixels, patch))


def covered(width: int, height: int, size: Size) -> tuple[int, int, int, int]:
    """The middle of a picture that is resized to `size`: (left, top, right, bottom) in the picture's pixels, as large as its ratio allows.

    In whole pixels, so that the ratio changes by half a pixel at most.
    """
    if width * size.height >= height * size.width:
        wide = min(width, max(1, round(height * size.width / size.height)))
        left = (width - wide) // 2
        return left, 0, left + wide, height
    tall = min(height, max(1, round(width * size.height / size.width)))
    top = (height - tall) // 2
    return 0, top, width, top + tall
