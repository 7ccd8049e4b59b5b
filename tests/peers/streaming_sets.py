"""What mosaicml-streaming writes and reads, run by its own Python: `write FOLDER COMPRESSION` and `read FOLDER LOCAL`.

The samples are those of `samples`, which the tests import too; this file knows nothing of ours.
"""

import hashlib
import json
import sys
from decimal import Decimal
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


def write(folder: str, compression: str) -> None:
    from streaming import MDSWriter

    known = None if compression == "none" else compression
    with MDSWriter(
        out=folder, columns=COLUMNS, compression=known, hashes=["sha1", "xxh64"][: 1 if known is None else 2], size_limit=SIZE_LIMIT
    ) as out:
        for sample in samples():
            out.write(sample)


def read(folder: str, local: str) -> None:
    from streaming import StreamingDataset

    found = StreamingDataset(remote=folder, local=local, shuffle=False, batch_size=1, validate_hash="sha1")
    print(json.dumps([told(found[n]) for n in range(len(found))]))


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](*sys.argv[2:])
