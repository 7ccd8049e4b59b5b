"""How fast the converter is against its own limit: decoding and encoding the same pictures and nothing else, in turns, in one run.

Counts CPU seconds of one process, which other work on the machine does not change much. The pictures are made here, of noise in octaves, so
that their spectrum and the size of their files are about those of photographs. Prints images a core-second, the share of the limit, and
what 8.7 million images would take.
"""

import argparse
import io
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import simplejpeg  # noqa: E402
from PIL import Image  # noqa: E402

from trainer.data.buckets import Size, covered, nearest  # noqa: E402
from trainer.data.convert.conversion import convert  # noqa: E402
from trainer.data.convert.filters import Options  # noqa: E402

IMAGES = 8_700_000
CORES = 64
OPTIONS = Options(pixels=1024, patch=32)
SIZES = {"somewhat larger": Size(1600, 1200), "twice as large": Size(2304, 1728)}
"""What is converted to the buckets of 1024 px."""


def photograph(size: Size, seed: int) -> bytes:
    """A JPEG of noise whose amplitude falls with its frequency."""
    chance, whole = np.random.default_rng(seed), Image.new("RGB", size, "grey")
    for octave in range(9, -1, -1):  # the finest first: each coarser one is laid over it
        side = 3 * 2**octave
        layer = Image.fromarray(chance.integers(0, 256, (side, side, 3), dtype=np.uint8))
        whole = Image.blend(whole, layer.resize(size, Image.Resampling.BILINEAR), 0.35)
    buffer = io.BytesIO()
    whole.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def tar_of(pictures: list[bytes], file: Path) -> Path:
    with tarfile.open(file, "w") as archive:
        for number, data in enumerate(pictures):
            for suffix, content in (("jpg", data), ("txt", b"noise")):
                member = tarfile.TarInfo(f"{number:05d}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return file


def decoded(data: bytes, size: Size) -> Image.Image:
    """By libjpeg-turbo, scaled to `size` or somewhat more on the way: the best that there is."""
    return Image.fromarray(simplejpeg.decode_jpeg(data, "RGB", min_width=size.width, min_height=size.height))


def seconds(act: Callable[[], object]) -> float:
    begun = time.process_time()
    act()
    return time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=16, help="of each size (default 16)")
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    for name, size in SIZES.items():
        pictures = [photograph(size, seed) for seed in range(given.pictures)]
        bucket = nearest(*size, OPTIONS.buckets())
        box = covered(*decoded(pictures[0], bucket).size, bucket)

        def fitted(data: bytes, bucket: Size = bucket, box: tuple[int, int, int, int] = box) -> Image.Image:
            return decoded(data, bucket).resize(bucket, Image.Resampling.LANCZOS, box=box)

        small = [fitted(data) for data in pictures]
        ours: list[float] = []
        limits: list[float] = []
        resized: list[float] = []
        with tempfile.TemporaryDirectory() as place:
            source = tar_of(pictures, Path(place) / "x.tar")
            for turn in range(given.turns):
                out = f"{place}/{turn}"
                ours.append(seconds(lambda out=out, source=source: convert(str(source), out, OPTIONS)))
                decoding = seconds(lambda pictures=pictures, bucket=bucket: [decoded(data, bucket) for data in pictures])
                encoding = seconds(lambda small=small: [one.save(io.BytesIO(), "JPEG", quality=OPTIONS.quality) for one in small])
                limits.append(decoding + encoding)
                resized.append(seconds(lambda pictures=pictures: [fitted(data) for data in pictures]) + encoding)
            written = sum(file.stat().st_size for file in Path(f"{place}/0").rglob("*.mds"))
        n = given.pictures
        read, kept = sum(map(len, pictures)) / n, written / n
        rate = n / statistics.median(ours)
        share = statistics.median(limit / mine for limit, mine in zip(limits, ours, strict=True))
        with_resize = statistics.median(each / mine for each, mine in zip(resized, ours, strict=True))
        print(f"{name}: {size} ({read / 1e3:.0f} kB) → {bucket} ({kept / 1e3:.0f} kB)")
        print(
            f"  {rate:.1f} images a core-second, decoding and encoding alone {n / statistics.median(limits):.1f}: {share:.2f} of it; ",
            end="",
        )
        print(f"with resizing {n / statistics.median(resized):.1f}: {with_resize:.2f}")
        print(f"  8.7 million: {IMAGES / rate / 3600:,.0f} core-hours, {IMAGES / rate / 3600 / CORES:.1f} h on {CORES} cores; ", end="")
        print(f"{IMAGES * read / 1e12:.2f} TB read, {IMAGES * kept / 1e12:.2f} TB written", flush=True)


if __name__ == "__main__":
    main()
