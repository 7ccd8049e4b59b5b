"""A picture to draw on: boxes, lines, areas and text that is cut where its room ends.

Everything is drawn twice as large and scaled down at the end, since Pillow's lines have hard edges.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from PIL import Image, ImageDraw, ImageFont

SCALE = 2
BACK, PANEL, EDGE, GRID, TEXT, MUTED = "#111217", "#181b1f", "#2c2f36", "#292c32", "#ccccdc", "#8e8e9c"


@cache
def font(size: float, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu, which Chromium's tests need as well; elsewhere Pillow's own, which lacks some signs."""
    try:
        return ImageFont.truetype("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf", round(size * SCALE))
    except OSError:
        return ImageFont.load_default(size * SCALE)  # type: ignore[return-value]


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the picture."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    def inner(self, left: float = 0, top: float = 0, right: float = 0, bottom: float = 0) -> "Box":
        return Box(self.left + left, self.top + top, self.right - right, self.bottom - bottom)


class Canvas:
    """Pillow's drawing in pixels of the picture, with text that is cut where its room ends."""

    def __init__(self, width: float, height: float) -> None:
        self.image = Image.new("RGB", (round(width * SCALE), round(height * SCALE)), BACK)
        self._draw = ImageDraw.Draw(self.image, "RGBA")

    def box(self, box: Box, fill: str | tuple[int, ...] | None = None, edge: str | None = None, radius: float = 0) -> None:
        around = [box.left * SCALE, box.top * SCALE, max(box.left, box.right) * SCALE, max(box.top, box.bottom) * SCALE]
        self._draw.rounded_rectangle(around, radius * SCALE, fill, edge, SCALE if edge else 0)

    def line(self, points: Sequence[tuple[float, float]], colour: str | tuple[int, ...], width: float = 1.2, dash: float = 0) -> None:
        scaled = [(x * SCALE, y * SCALE) for x, y in points]
        if not dash:
            self._draw.line(scaled, colour, round(width * SCALE), joint="curve")
            return
        on, left = True, dash * SCALE  # the pattern runs on from piece to piece
        for (x, y), (to_x, to_y) in pairwise(scaled):
            length, done = math.dist((x, y), (to_x, to_y)), 0.0
            while done < length:
                end = min(length, done + left)
                if on:
                    a, b = done / length, end / length
                    piece = [(x + (to_x - x) * a, y + (to_y - y) * a), (x + (to_x - x) * b, y + (to_y - y) * b)]
                    self._draw.line(piece, colour, round(width * SCALE))
                left -= end - done
                done = end
                if left < 1e-6:  # what is left may be too little to get on by
                    on, left = not on, dash * SCALE

    def area(self, points: Sequence[tuple[float, float]], colour: str, opacity: float) -> None:
        if len(points) > 2:
            self._draw.polygon([(x * SCALE, y * SCALE) for x, y in points], see_through(colour, opacity))

    def dot(self, x: float, y: float, radius: float, colour: str) -> None:
        self._draw.ellipse([(x - radius) * SCALE, (y - radius) * SCALE, (x + radius) * SCALE, (y + radius) * SCALE], colour)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float = 11,
        colour: str = TEXT,
        room: float = math.inf,
        anchor: str = "lm",
        bold: bool = False,
    ) -> float:
        """Draws and returns the width. `anchor` as Pillow's: left, middle, right; then m for the middle of the line."""
        face = font(size, bold)
        while len(text) > 1 and face.getlength(text) / SCALE > room:
            text = text[:-2] + "…"
        self._draw.text((x * SCALE, y * SCALE), text, colour, face, anchor)
        return face.getlength(text) / SCALE

    def finished(self) -> Image.Image:
        """At its own size, with 256 colours."""
        size = (self.image.width // SCALE, self.image.height // SCALE)
        return self.image.resize(size, Image.Resampling.LANCZOS).quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


def see_through(colour: str, opacity: float) -> tuple[int, int, int, int]:
    """`colour` such as `#73bf69`, with an alpha of `opacity`."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return red, green, blue, round(opacity * 255)


def wide(text: str, size: float, bold: bool = False) -> float:
    """How many pixels `text` takes."""
    return font(size, bold).getlength(text) / SCALE
