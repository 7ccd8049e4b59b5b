"""What mosaicml-streaming writes to PLACE/theirs, and reads from PLACE/ours and prints; run by its own Python, once: it starts slowly.

The samples are those of `samples`, which the tests import too; this file knows nothing of our reader and writer.
"""

import hashlib
import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

COLUMNS = {
    "bytes": "bytes",
    "text": "str",
    "int": "int",
    "json": "json",
    "u8": "uint8",
    "i32": "int32",
    "f16": "float16",
    "f64": "float64",
    "digits": "str_int",
    "number": "str_float",
    "decimal": "str_decimal",
    "fixed": "ndarray:float16:2,3",
    "shaped": "ndarray:uint8",
    "free": "ndarray",
}
SIZE_LIMIT = 20_000
COMPRESSIONS = {"none": None, "gz": "gz", "bz2": "bz2:1", "zstd": "zstd", "zstd7": "zstd:7"}


def samples() -> list[dict[str, Any]]:
    chance = np.random.default_rng(0)
    return [
        {
            "bytes": chance.bytes(int(chance.integers(0, 900))),
            "text": "é" * (n % 7),
            "int": n - 50,
            "json": {"n": [n, None, "é"]},
            "u8": np.uint8(n),
            "i32": np.int32(-n),
            "f16": np.float16(n / 3),
            "f64": np.float64(n / 3),
            "digits": 7**n,
            "number": n / 7,
            "decimal": Decimal(n) / 8,
            "fixed": chance.standard_normal((2, 3)).astype(np.float16),
            "shaped": np.full((300, 1 + n % 3), n, np.uint8),
            "free": chance.standard_normal((1 + n % 4, 2)).astype([np.float32, np.float64][n % 2]),
        }
        for n in range(100)
    ]


def told(sample: dict[str, Any]) -> str:
    """A digest of everything in a sample, with its types."""
    parts = []
    for name in sorted(sample):
        value = sample[name]
        is_array = isinstance(value, np.ndarray | np.generic)
        parts.append(
            [name, str(value.dtype), list(value.shape), value.tobytes().hex()] if is_array else [name, type(value).__name__, repr(value)]
        )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def write(folder: str, compression: str | None) -> None:
    from streaming import MDSWriter

    hashes = ["sha1", "xxh64"] if compression else ["sha1"]
    with MDSWriter(out=folder, columns=COLUMNS, compression=compression, hashes=hashes, size_limit=SIZE_LIMIT) as out:
        for sample in samples():
            out.write(sample)


def read(folder: str, local: str) -> list[str]:
    from streaming import StreamingDataset

    found = StreamingDataset(remote=folder, local=local, shuffle=False, batch_size=1, validate_hash="sha1")
    return [told(found[n]) for n in range(len(found))]


def main(place: Path) -> None:
    for name, compression in COMPRESSIONS.items():
        write(str(place / "theirs" / name), compression)
    found: dict[str, Any] = {name: read(str(place / "ours" / name), str(place / "local" / name)) for name in COMPRESSIONS}
    buckets = sorted(index.parent.name for index in (place / "converted").glob("*/index.json"))
    found["converted"] = {
        bucket: read(str(place / "converted" / bucket), str(place / "local" / "converted" / bucket)) for bucket in buckets
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
