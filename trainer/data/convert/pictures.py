"""A picture's bytes in, a picture of its bucket's size out, or why not. Memory is bounded by the header, before a pixel is decoded.

What a file is follows from its first bytes, not from its name. What happens to odd pictures is the table in docs/data.md.
"""

import io
import math
from dataclasses import dataclass
from typing import Any

from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from trainer.data.buckets import Size, covered
from trainer.data.pictures import DECODING, ORIENTATION, PictureError, check_size, jpeg, rgb

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture of each EXIF orientation upright; from 5 on, width and height change places."""
PLAIN = ("RGB", "L")
NO_PIXELS = "not identified by this driver"
"""What Pillow says of a width or a height of 0."""
HASH_SIDE = 8


class Unusable(Exception):
    """A picture that is left out."""

    def __init__(self, reason: str, because: str) -> None:
        self.reason, self.because = reason, because
        super().__init__(because)


@dataclass(frozen=True)
class Stored:
    """A picture as it goes into a shard."""

    image: bytes
    width: int
    height: int
    kept: bool  # the source's own bytes
    enlarged: bool


class Picture:
    """A picture of which the header was read and found good. `size` is as it is looked at, that is, after EXIF's turn."""

    def __init__(self, data: bytes) -> None:
        """Raises Unusable."""
        self._data = data
        self._opened: Any = header(data)
        width, height = self._opened.size
        try:
            check_size(width, height)
        except PictureError as error:
            raise Unusable("bad_size", str(error)) from None
        if self._opened.format != "MPO" and getattr(self._opened, "is_animated", False):  # of a camera's MPO, the first is the picture
            raise Unusable("animated", f"animated: {self._opened.n_frames} frames")
        try:
            self._turn = TURNS.get(self._opened.getexif().get(ORIENTATION, 1))
        except DECODING:
            self._turn = None  # broken EXIF says nothing about the pixels
        self._on_its_side = self._turn in list(TURNS.values())[3:]
        self.size = Size(height, width) if self._on_its_side else Size(width, height)

    @property
    def plain(self) -> bool:
        """Whether a loader that knows nothing of turns, inks and transparency sees the picture as it is."""
        opened = self._opened
        return opened.mode in PLAIN and self._turn is None and "transparency" not in opened.info and opened.format != "MPO"

    def decoded(self, least: Size) -> Image.Image:
        """The pixels, RGB, turned, of at least the size `least` where the picture has it: a JPEG is scaled while it is decoded.

        Raises Unusable.
        """
        scale = max(least.width / self.size.width, least.height / self.size.height)
        wanted = [math.ceil(side * scale) for side in (self.size[::-1] if self._on_its_side else self.size)]
        try:
            self._opened.draft(None, tuple(wanted))
            self._opened.load()
            picture = rgb(self._opened)
        except DECODING as error:
            raise Unusable("undecodable", f"cannot be decoded: {error}") from None
        return picture if self._turn is None else picture.transpose(self._turn)

    def fitted(self, size: Size) -> Image.Image:
        """The middle of the picture in `size`, upright RGB; of a JPEG by the loader's own decoder. Raises Unusable."""
        if self._opened.format in ("JPEG", "MPO"):
            try:
                return Image.fromarray(jpeg(self._data, size))
            except PictureError as error:
                raise Unusable("undecodable", str(error)) from None
        picture = self.decoded(size)
        return picture.resize(size, Image.Resampling.LANCZOS, box=covered(picture.width, picture.height, size))

    def stored(self, size: Size, quality: int, keep: bool) -> Stored:
        """The picture for the bucket `size`: cut to its ratio and resized, unless it is of that size already or `keep` says to leave it.

        Decoded in any case: what cannot be is not stored. Raises Unusable.
        """
        if keep or (self.plain and self.size == size):
            self.decoded(Size(1, 1) if self.size != size else size)
            return Stored(self._data, *self.size, kept=True, enlarged=False)
        buffer = io.BytesIO()
        self.fitted(size).save(buffer, "JPEG", quality=quality)
        return Stored(buffer.getvalue(), *size, kept=False, enlarged=self.size.width < size.width or self.size.height < size.height)

    def hash(self) -> int:
        """64 bits that pictures of equal looks share: of 8 × 8 places, whether it gets brighter to the right (dHash). Raises Unusable."""
        small = self.decoded(Size(HASH_SIDE * 9, HASH_SIDE * 8)).convert("L").resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.LANCZOS)
        values = small.tobytes()
        bits = (values[i] < values[i + 1] for i in range(len(values)) if i % (HASH_SIDE + 1) != HASH_SIDE)
        return int("".join("1" if bit else "0" for bit in bits), 2)


def header(data: bytes) -> Any:
    """The opened picture, of which nothing is decoded yet. Raises Unusable.

    The formats' own classes, since `Image.open` refuses large pictures in words and at a limit of its own, for the whole process.
    """
    file = io.BytesIO(data)
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return JpegImagePlugin.jpeg_factory(file)
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return PngImagePlugin.PngImageFile(file)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return WebPImagePlugin.WebPImageFile(file)
    except DECODING as error:
        if str(error) == NO_PIXELS:
            raise Unusable("bad_size", "its header gives it no pixels, or no colours") from None
        raise Unusable("undecodable", f"its header cannot be read: {error}") from None
    begins = f"begins with {data[:8].hex(' ')}" if data else "is empty"
    raise Unusable("unknown_format", f"neither JPEG, PNG nor WebP: it {begins}")
