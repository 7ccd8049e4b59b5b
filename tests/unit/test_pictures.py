"""Pictures as they come: what is made of them, and the exact words about those of which nothing can be made."""

import io
import resource
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from trainer.data.buckets import Size
from trainer.data.pictures import PictureError, fitted

GRADIENT = np.stack(np.meshgrid(np.linspace(0, 255, 64), np.linspace(0, 255, 48)), -1)
PIXELS = np.dstack([GRADIENT, np.full((48, 64), 99)]).astype(np.uint8)  # red grows to the right, green downwards
HERE = Size(64, 48)


def saved(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, rows: bytes = b"", depth: int = 8, colour: int = 2) -> bytes:
    """A PNG by hand, of any size and with any pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def jpeg_of(width: int, height: int) -> bytes:
    """A small JPEG whose header says another size."""
    data = bytearray(saved(Image.fromarray(PIXELS), "JPEG"))
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">2H", height, width)
    return bytes(data)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_a_picture_of_its_buckets_size_is_what_it_was(kind: str):
    assert (fitted(saved(Image.fromarray(PIXELS), kind), HERE) == PIXELS).all()


def test_jpeg_is_decoded_as_pillow_does():
    data = saved(Image.fromarray(PIXELS), "JPEG", quality=95)
    assert (fitted(data, HERE) == np.asarray(Image.open(io.BytesIO(data)))).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_middle_is_kept_and_resized(kind: str):
    found = fitted(saved(Image.fromarray(PIXELS), kind, quality=95), Size(24, 24)).astype(float)
    assert found.shape == (24, 24, 3)
    left, right = found[:, 0, 0].mean(), found[:, -1, 0].mean()  # of 64 columns the 48 in the middle
    assert left == pytest.approx(255 * 8.5 / 63, abs=6)
    assert right == pytest.approx(255 * 54.5 / 63, abs=6)
    assert np.abs(found[:, :, 2] - 99).max() < 8


def test_a_jpeg_scaled_in_its_dct_looks_like_one_scaled_by_pillow():
    chance = np.random.default_rng(0)
    smooth = Image.fromarray(chance.integers(0, 256, (16, 16, 3), dtype=np.uint8)).resize((512, 512), Image.Resampling.BICUBIC)
    data = saved(smooth, "JPEG", quality=95)
    ours, theirs = (
        fitted(data, Size(128, 128)).astype(float),
        np.asarray(Image.open(io.BytesIO(data)).resize((128, 128), Image.Resampling.LANCZOS)),
    )
    assert np.abs(ours - theirs).mean() < 1
    assert fitted(data, Size(200, 100)).shape == (100, 200, 3)


def test_a_small_picture_is_enlarged():
    assert fitted(saved(Image.fromarray(PIXELS), "JPEG"), Size(128, 96)).shape == (96, 128, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_turned_as_its_exif_says(orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(PIXELS), "JPEG", quality=95, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))).astype(float)
    height, width, _ = upright.shape
    assert np.abs(fitted(data, Size(width, height)) - upright).max() < 3


def test_sixteen_bits_lose_their_lower_eight():
    grey = (np.arange(48 * 64, dtype=np.uint16) * 21).reshape(48, 64)
    found = fitted(saved(Image.fromarray(grey), "PNG"), HERE)
    assert (found == (grey >> 8)[:, :, None]).all()


def test_transparency_is_seen_on_white():
    half = np.dstack([PIXELS, np.full((48, 64), 0, np.uint8)])
    assert (fitted(saved(Image.fromarray(half), "PNG"), HERE) == 255).all()
    palette = Image.fromarray(PIXELS).convert("P")
    assert fitted(saved(palette, "PNG", transparency=0), HERE).shape == (48, 64, 3)


def test_inks_and_grey_become_rgb():
    inks = saved(Image.fromarray(PIXELS).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(fitted(inks, HERE).astype(int) - PIXELS).mean() < 4
    grey = fitted(saved(Image.fromarray(PIXELS).convert("L"), "JPEG"), HERE)
    assert (grey[..., 0] == grey[..., 1]).all()


def test_the_name_does_not_matter():
    assert fitted(saved(Image.fromarray(PIXELS), "WEBP", lossless=True), HERE).shape == (48, 64, 3)


WHOLE = saved(Image.fromarray(PIXELS), "JPEG", quality=95)
MOVING = saved(Image.fromarray(PIXELS), "WEBP", save_all=True, append_images=[Image.fromarray(255 - PIXELS)])
BAD = {
    "nothing": (b"", "is no whole picture: cannot identify image file"),
    "text": (b"<html>404</html>", "is no whole picture: cannot identify image file"),
    "JPEG cut short": (WHOLE[: len(WHOLE) // 2], "is no whole JPEG: "),
    "JPEG's header alone": (WHOLE[:30], "is no whole JPEG: "),
    "PNG cut short": (saved(Image.fromarray(PIXELS), "PNG")[:-40], "is no whole picture: "),
    "no pixels": (jpeg_of(0, 48), "is no whole JPEG: "),
    "20,001 pixels a side": (png(20_001, 1), "has 20001 × 1 pixels, and a side of at most 20,000 is decoded"),
    "a large JPEG": (jpeg_of(30_000, 10), "has 30000 × 10 pixels, and a side of at most 20,000 is decoded"),
    "too many pixels": (png(12_000, 12_000), "has 12000 × 12000 pixels, and at most 100 million are decoded"),
    "a bomb": (png(20_000, 20_000, bytes(10**6)), "is no whole picture: Image size (400000000 pixels) exceeds limit of 178956970 pixels"),
    "moving": (MOVING, "is animated: 2 frames"),
    "floating point": (
        saved(Image.fromarray(GRADIENT[..., 0].astype(np.float32)), "TIFF"),
        "has pixels of floating point, whose white is not",
    ),
}


@contextmanager
def no_more_memory_than(spare: int) -> Iterator[None]:
    """Whoever asks for more gets none, and a MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + spare, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", BAD)
def test_what_is_no_picture_is_refused_in_these_words_and_in_bounded_memory(name: str):
    data, said = BAD[name]
    with no_more_memory_than(150_000_000), pytest.raises(PictureError) as refused:
        fitted(data, HERE)
    assert str(refused.value).startswith(said)
