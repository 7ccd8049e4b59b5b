"""A picture's bytes in, pixels of its bucket's size out. Memory is bounded by the header, before a pixel is decoded.

JPEG is decoded by libjpeg-turbo and scaled in its DCT on the way: half of the side costs a fraction of decoding the whole. Everything else
is Pillow's. What a file is follows from its bytes, not from its name.
"""

import io
import math
from typing import Any

import numpy as np
from PIL import Image

from trainer.data.buckets import Size, covered

LONGEST_SIDE = 20_000
MOST_PIXELS = 100_000_000
"""A picture of that many takes 0.3 GB to decode."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
JPEG = b"\xff\xd8\xff"
APP1, START_OF_SCAN = 0xE1, 0xDA
EXIF, ORIENTATION = b"Exif\0\0", 0x0112
TURNS = {2: (1, -1, 0), 3: (-1, -1, 0), 4: (-1, 1, 0), 5: (1, 1, 1), 6: (-1, 1, 1), 7: (-1, -1, 1), 8: (1, -1, 1)}
"""What makes a picture of each EXIF orientation upright: the steps through its rows and columns, then whether the two change places."""
DECODING = (OSError, SyntaxError, ValueError, IndexError, TypeError, KeyError, OverflowError, Image.DecompressionBombError)
"""What Pillow raises for bytes that are no picture."""


class PictureError(ValueError):
    """Bytes of which no picture can be had; says why."""


def fitted(data: bytes, size: Size, into: np.ndarray | None = None) -> np.ndarray:
    """The middle of a picture, resized with antialiasing to `size`: (height, width, 3) uint8, upright, transparency on white.

    into: contiguous memory of that shape that may be used; what is returned lies there or not.
    Raises PictureError: what is no picture or cannot be decoded to its end, has no pixels or too many, or moves.
    """
    if data.startswith(JPEG):
        return jpeg(data, size, into)
    return cut(through_pillow(data, size), size)


def jpeg(data: bytes, size: Size, into: np.ndarray | None = None) -> np.ndarray:
    import simplejpeg

    try:
        height, width, inks, _ = simplejpeg.decode_jpeg_header(data)
        check_size(width, height)
        if inks in ("CMYK", "YCCK"):
            return cut(through_pillow(data, size), size)
        rows, columns, turned = turn = turn_of(data)
        size = Size(size.height, size.width) if turned else size
        scale = scale_of(width, height, size)
        least = Size(math.ceil(width * scale), math.ceil(height * scale))
        as_decoded = least == size and (8 * scale).is_integer() and turn == (1, 1, 0)  # the DCT scales by eighths
        buffer = into if as_decoded else None
        pixels = cut(simplejpeg.decode_jpeg(data, "RGB", min_width=least.width, min_height=least.height, buffer=buffer), size)
    except PictureError:
        raise
    except ValueError as error:
        raise PictureError(f"is no whole JPEG: {error}") from None
    if turn == (1, 1, 0):
        return pixels
    pixels = pixels[::rows, ::columns]
    return pixels.transpose(1, 0, 2) if turned else pixels


def through_pillow(data: bytes, size: Size) -> np.ndarray:
    """(height, width, 3) uint8, of `size` or larger where the picture is."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            check_size(*opened.size)
            if opened.format != "MPO" and getattr(opened, "is_animated", False):
                raise PictureError(f"is animated: {opened.n_frames} frames")  # pyright: ignore[reportAttributeAccessIssue]
            scale = scale_of(*opened.size, size)
            opened.draft(None, (math.ceil(opened.width * scale), math.ceil(opened.height * scale)))
            return np.asarray(rgb(opened))
    except PictureError:
        raise
    except DECODING as error:
        raise PictureError(f"is no whole picture: {error}" if str(error) else f"is no whole picture ({type(error).__name__})") from None


def check_size(width: int, height: int) -> None:
    """Raises PictureError."""
    if min(width, height) < 1:
        raise PictureError(f"has {width} × {height} pixels")
    if max(width, height) > LONGEST_SIDE:
        raise PictureError(f"has {width} × {height} pixels, and a side of at most {LONGEST_SIDE:,} is decoded")
    if width * height > MOST_PIXELS:
        raise PictureError(f"has {width} × {height} pixels, and at most {MOST_PIXELS / 1e6:.0f} million are decoded")


def scale_of(width: int, height: int, size: Size) -> float:
    """By how much the picture is made smaller so that it covers `size`; 1 where it is no larger."""
    return min(1.0, max(size.width / width, size.height / height))


def cut(pixels: np.ndarray, size: Size) -> np.ndarray:
    """(h, w, 3) uint8 → (size.height, size.width, 3): the middle, resized where it is not of that size."""
    height, width, _ = pixels.shape
    if (width, height) == size:
        return pixels
    picture = Image.fromarray(pixels)
    return np.asarray(picture.resize(size, Image.Resampling.LANCZOS, box=covered(width, height, size)))


def turn_of(data: bytes) -> tuple[int, int, int]:
    """How a JPEG has to be turned, by its EXIF; broken EXIF says nothing."""
    if not has_exif(data):
        return 1, 1, 0
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as opened:
            return TURNS.get(opened.getexif().get(ORIENTATION, 1), (1, 1, 0))
    except DECODING:
        return 1, 1, 0


def has_exif(data: bytes) -> bool:
    """Whether a segment before the JPEG's first scan is EXIF."""
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF and data[at + 1] != START_OF_SCAN:
        if data[at + 1] == APP1 and data.startswith(EXIF, at + 4):
            return True
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return False


def rgb(picture: Any) -> Image.Image:
    """Any mode as RGB: of 16 bits the upper 8, transparency on white, inks as Pillow converts them. Raises PictureError."""
    if picture.mode == "F":
        raise PictureError("has pixels of floating point, whose white is not known")
    if picture.mode.startswith("I"):  # Pillow's own conversion would clip at 255
        return Image.fromarray((np.asarray(picture).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        seen = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", seen.size, (255, 255, 255, 255)), seen).convert("RGB")
    return picture.convert("RGB")
