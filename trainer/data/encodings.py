"""How the columns of MDS shards are encoded: values to bytes and back, by the encodings of mosaicml-streaming.

A picture's column (`jpeg`, `png`, `pil`) is its bytes here, in and out: whoever wants pixels decodes them. `pkl` is refused, since reading
it would run whatever the file says. Source: the format as mosaicml-streaming writes it.
"""

import json
import math
import struct
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

BYTES = ("bytes", "jpeg", "png", "pil")
TEXTS = {"str": str, "str_int": int, "str_float": float, "str_decimal": Decimal}
SCALARS = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64")
CODES = {
    8: "uint8",
    9: "int8",
    16: "uint16",
    17: "int16",
    18: "float16",
    32: "uint32",
    33: "int32",
    34: "float32",
    64: "uint64",
    65: "int64",
}
CODES |= {66: "float64"}
"""What stands for a dtype where the column does not fix it: bits, and 0, 1, 2 for unsigned, signed, float."""
SIDES = ("<u1", "<u2", "<u4", "<u8")
KNOWN = "bytes, str, int, json, ndarray[:DTYPE[:SIDE,SIDE,…]], (u)int8…64, float16…64, str_int, str_float, str_decimal, jpeg, png, pil"


class Array(NamedTuple):
    """What an ndarray column fixes for all samples; None is told by each."""

    dtype: str | None
    shape: tuple[int, ...] | None


@lru_cache
def array_of(encoding: str) -> Array | None:
    """What `ndarray[:DTYPE[:SHAPE]]` says; None for another encoding. Raises ValueError."""
    kind, *form = encoding.split(":")
    if kind != "ndarray":
        return None
    if len(form) > 2 or (form and form[0] not in SCALARS):
        raise ValueError(f"unknown encoding {encoding!r}; known: {KNOWN}")
    shape = tuple(int(side) for side in form[1].split(",")) if len(form) == 2 else None
    if shape and min(shape) < 1:
        raise ValueError(f"encoding {encoding!r}: sides are 1 or more")
    return Array(form[0] if form else None, shape)


@lru_cache
def width_of(encoding: str) -> int | None:
    """Bytes of a column with this encoding, or None where each sample has its own. Raises ValueError for an unknown encoding."""
    if encoding in (*BYTES, *TEXTS, "json") or (encoding.startswith("jpeg:") and encoding[5:].isdecimal()):
        return None
    if encoding == "int":
        return 8
    if encoding in SCALARS:
        return np.dtype(encoding).itemsize
    if array := array_of(encoding):
        return np.dtype(array.dtype).itemsize * math.prod(array.shape) if array.dtype and array.shape else None
    if encoding == "pkl":
        raise ValueError("encoding 'pkl' is not read: it runs what the file says; write the column as json or ndarray")
    raise ValueError(f"unknown encoding {encoding!r}; known: {KNOWN}")


def encode(encoding: str, value: Any) -> bytes:
    """Raises ValueError or TypeError for a value that the encoding cannot hold."""
    if encoding in BYTES or encoding.startswith("jpeg:"):
        return bytes(value)
    if encoding in TEXTS:
        return str(value).encode()
    if encoding == "json":
        return json.dumps(value).encode()
    if encoding == "int":
        return struct.pack("<q", value)
    if array := array_of(encoding):
        return encode_array(array, value, encoding)
    return np.dtype(encoding).type(value).tobytes()


def encode_array(column: Array, value: Any, encoding: str) -> bytes:
    array, parts = np.asarray(value, dtype=column.dtype), []
    if column.shape is not None and array.shape != column.shape:
        raise ValueError(f"an array of shape {array.shape} does not fit the column's encoding {encoding!r}")
    if column.dtype is None:
        codes = {name: code for code, name in CODES.items()}
        if array.dtype.name not in codes:
            raise ValueError(f"an array of {array.dtype.name} fits no ndarray column; nearest: {', '.join(codes)}")
        parts.append(bytes([codes[array.dtype.name]]))
    if column.shape is None:
        if not 1 <= array.ndim < 64 or min(array.shape) < 1:
            raise ValueError(f"an array of shape {array.shape} fits no ndarray column: it has no elements, or no or too many axes")
        size = next(i for i, kind in enumerate(SIDES) if max(array.shape) <= np.iinfo(kind).max)
        parts += [bytes([array.ndim << 2 | size]), np.array(array.shape, SIDES[size]).tobytes()]
    return b"".join([*parts, array.tobytes()])


def decode(encoding: str, data: bytes) -> Any:
    """Raises ValueError when the bytes are not what the encoding promises."""
    if encoding in BYTES or encoding.startswith("jpeg:"):
        return data
    if encoding in TEXTS:
        text = data.decode()
        try:
            return TEXTS[encoding](text)
        except ArithmeticError as error:  # what Decimal raises
            raise ValueError(f"{text!r} is no number") from error
    if encoding == "json":
        return json.loads(data)
    if encoding == "int":
        return struct.unpack("<q", data)[0]
    if array := array_of(encoding):
        return decode_array(array, data)
    return np.frombuffer(data, encoding)[0]


def decode_array(column: Array, data: bytes) -> np.ndarray:
    dtype, shape, place = column.dtype, column.shape, 0
    try:
        if dtype is None:
            dtype, place = CODES[data[0]], 1
        if shape is None:
            axes, size = data[place] >> 2, data[place] & 3
            end = place + 1 + (axes << size)
            shape, place = tuple(np.frombuffer(data[place + 1 : end], SIDES[size]).tolist()), end
    except (IndexError, KeyError) as error:
        raise ValueError(f"{data[:8].hex()}… does not start as an array does ({error})") from None
    return np.frombuffer(data, dtype, offset=min(place, len(data))).reshape(shape)
