"""What a conversion may be told, and which samples it leaves out. Pure functions of a sample and the options."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

from trainer.data.buckets import Size, buckets, nearest
from trainer.data.convert.pictures import Picture, Unusable
from trainer.data.convert.sources import Found, Reading

CODECS = {name: version(name) for name in ("pillow", "simplejpeg")}
"""What the bytes of a stored picture follow from, beside the options."""
VERSION = 1
"""Part of every digest: a change of what is written makes what was committed stale."""
CAPTION = "caption"
OWN_COLUMNS = {"image": "bytes", "width": "int", "height": "int", "id": "str"}
CASTS: dict[str, Callable[[Any], Any]] = {"str": str, "int": int, "float64": float, "json": lambda value: value}
"""Encodings of further columns, and what a field goes through."""
FALLBACKS = ("txt", "caption", "text")
"""Where a caption is looked for when nothing else is said: the .txt file, then these fields."""


@dataclass(frozen=True)
class Options:
    """What decides which samples are stored, and how."""

    pixels: int = 1024
    patch: int = 32
    square: bool = False
    quality: int = 92
    keep: bool = False
    captions: tuple[tuple[str, str], ...] = ((CAPTION, ""),)  # column → field; "": the first of FALLBACKS that is there
    columns: tuple[tuple[str, str], ...] = ()  # more fields that become columns → encoding
    min_side: int = 0
    max_ratio: float = math.inf
    at_least: tuple[tuple[str, float], ...] = ()  # field → the least number
    unique: bool = False
    shard_bytes: int = 1 << 26
    reading: Reading = field(default_factory=Reading)

    def __post_init__(self) -> None:
        """Raises ValueError for options that cannot go together."""
        self.buckets()
        names = [*OWN_COLUMNS, *(column for column, _ in self.captions), *(name for name, _ in self.columns)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the column {twice[0]!r} is there twice: {', '.join(OWN_COLUMNS)} are the converter's own")
        if unknown := [encoding for _, encoding in self.columns if encoding not in CASTS]:
            raise ValueError(f"encoding {unknown[0]!r}: further columns are {', '.join(CASTS)}")

    def buckets(self) -> tuple[Size, ...]:
        return (Size(self.pixels, self.pixels),) if self.square else buckets(self.pixels, self.patch)

    def encodings(self) -> dict[str, str]:
        """Columns of the shards with their encodings."""
        captions = {column: "str" for column, _ in self.captions}
        return OWN_COLUMNS | captions | dict(self.columns)

    def digest(self) -> str:
        """Of everything that the bytes of a shard follow from, beside the source."""
        told = [VERSION, CODECS, {**asdict(self), "max_ratio": repr(self.max_ratio)}]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def captions_of(found: Found, options: Options) -> dict[str, str]:
    """Column → caption. Raises Unusable when one is missing or empty."""
    captions: dict[str, str] = {}
    for column, named in options.captions:
        value = next((found.fields[name] for name in ((named,) if named else FALLBACKS) if found.fields.get(name)), None)
        if not isinstance(value, str) or not value.strip():
            where = f"a field {named!r}" if named else "a .txt file, nor a field 'caption' or 'text'"
            because = f"it has no {where}" if named else f"it has neither {where}"
            raise Unusable("no_caption", f"no caption for the column {column!r}: {because}")
        captions[column] = value.strip()
    return captions


def columns_of(found: Found, options: Options) -> dict[str, Any]:
    """The further columns. Raises Unusable when a field is missing or of another kind."""
    columns: dict[str, Any] = {}
    for name, encoding in options.columns:
        if name not in found.fields:
            raise Unusable("bad_field", f"no field {name!r} for the column of that name")
        try:
            columns[name] = CASTS[encoding](found.fields[name])
        except (TypeError, ValueError):
            raise Unusable("bad_field", f"the field {name!r} is no {encoding}: {found.fields[name]!r}") from None
    return columns


def refuse_by_fields(found: Found, options: Options) -> None:
    """Raises Unusable when a number that is asked for is not there or too small."""
    for name, least in options.at_least:
        try:
            value = float(found.fields[name])
        except (KeyError, TypeError, ValueError):
            raise Unusable("below_least", f"{name} is no number: {found.fields.get(name)!r}") from None
        if not value >= least:  # NaN is not
            raise Unusable("below_least", f"{name} is {value:g}, less than {least:g}")


def refuse_by_size(size: Size, options: Options) -> None:
    """Raises Unusable when the picture is too small or too long."""
    if min(size) < options.min_side:
        raise Unusable("too_small", f"{size.width} × {size.height} pixels: its shorter side is less than {options.min_side}")
    ratio = max(size) / min(size)
    if ratio > options.max_ratio:
        raise Unusable("too_long", f"{size.width} × {size.height} pixels: its sides are 1 to {ratio:.2f}, more than {options.max_ratio:g}")


def passing(found: Found, options: Options) -> Picture:
    """The picture of a sample that no filter refuses. Raises Unusable."""
    captions_of(found, options)
    columns_of(found, options)
    refuse_by_fields(found, options)
    picture = Picture(found.image)
    refuse_by_size(picture.size, options)
    return picture


def bucket_of(picture: Picture, options: Options) -> Size:
    return nearest(*picture.size, options.buckets())
