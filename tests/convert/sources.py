"""Sources to convert, made here: pictures, and tars and folders of them."""

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainer.data.convert.filters import Options
from trainer.data.shards import ShardSet

OPTIONS = Options(pixels=64, patch=16)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth picture of random colours."""
    values = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC)


def encoded(picture: Image.Image, form: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def picture(width: int = 90, height: int = 60, seed: int = 0, form: str = "JPEG") -> bytes:
    return encoded(noise(width, height, seed), form)


def tar(path: Path, files: list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def mixed_tars(path: Path, tars: int = 3, samples: int = 8) -> Path:
    """Tars of JPEGs and PNGs of many shapes, with captions; the same each time. The last of each looks like the first tar's first."""
    chance = np.random.default_rng(1)
    for number in range(tars):
        files: list[tuple[str, bytes]] = []
        for i in range(samples):
            width, height = (int(side) for side in chance.integers(40, 200, 2))
            data = picture(80, 80, 0) if i == samples - 1 else picture(width, height, 100 * number + i + 1, "PNG" if i % 3 == 0 else "JPEG")
            files += [(f"{i:04d}.jpg", data), (f"{i:04d}.txt", f"picture {i} of {number}".encode())]
        tar(path / f"{number:05d}.tar", files)
    return path


def bytes_of(place: Path) -> dict[str, str]:
    """Every file below `place` with its hash."""
    return {
        str(file.relative_to(place)): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(place.rglob("*")) if file.is_file()
    }


def rejects_in(out: Path) -> dict[str, tuple[str, str]]:
    """What `rejects.jsonl` says: id → (reason, because)."""
    rows = [json.loads(line) for line in (out / "rejects.jsonl").read_text().splitlines()]
    return {row["id"]: (row["reason"], row["because"]) for row in rows}


def stored_in(out: Path) -> dict[str, dict[str, Any]]:
    """Every sample of a data set by its id, with its bucket."""
    buckets = json.loads((out / "dataset.json").read_text())["buckets"]
    return {sample["id"]: sample | {"bucket": bucket} for bucket in buckets for sample in ShardSet(out / bucket)}


@dataclass(frozen=True)
class WidthsOf:
    """What stands where a network does, in a module that starts without torch."""

    needs: tuple[str, ...] = ("width",)

    def load(self) -> "Widths":
        return Widths()


class Widths:
    columns = {"double": "int"}  # noqa: RUF012

    def __call__(self, samples: list[dict[str, Any]]) -> list[dict[str, Any] | str]:
        return [{"double": 2 * sample["width"]} if not sample["id"].endswith("3") else "its number ends with 3" for sample in samples]
