"""Compressed shard files, by the names that mosaicml-streaming gives them: gz, bz2 and zstd, each with `:LEVEL` or without.

Its `br` and `snappy` are refused by name. Unpacking never makes more bytes than the index promised.
"""

import bz2
import zlib

LEVELS = {"gz": (0, 9, 9), "bz2": (1, 9, 9), "zstd": (1, 22, 3)}
"""Lowest, highest and usual level of each."""


def extension_of(compression: str) -> str:
    """What is appended to a shard's name. Raises ValueError for a compression that is not known."""
    name, _, level = compression.partition(":")
    if name not in LEVELS:
        raise ValueError(f"compression {compression!r} is not known; nearest: {', '.join(LEVELS)}")
    lowest, highest, _ = LEVELS[name]
    if level and not (level.isdecimal() and lowest <= int(level) <= highest):
        raise ValueError(f"compression {compression!r}: levels of {name} are {lowest} to {highest}")
    return name


def compress(compression: str, data: bytes) -> bytes:
    """The same data give the same bytes, for one version of the compressor. Raises ValueError for a compression that is not known."""
    name = extension_of(compression)
    level = int(compression.partition(":")[2] or LEVELS[name][2])
    if name == "gz":
        packer = zlib.compressobj(level, wbits=31)  # gzip's own function would write the time of day
        return packer.compress(data) + packer.flush()
    if name == "bz2":
        return bz2.compress(data, level)
    import zstandard

    return zstandard.ZstdCompressor(level=level).compress(data)


def decompress(compression: str, data: bytes, size: int) -> bytes:
    """The `size` bytes that were compressed. Raises ValueError when `data` are not that."""
    name = extension_of(compression)
    if name == "zstd":
        import zstandard

        try:
            unpacked = zstandard.ZstdDecompressor().stream_reader(data).read(size + 1)
        except zstandard.ZstdError as error:
            raise ValueError(f"is no zstd: {error}") from None
    else:
        unpacker = bz2.BZ2Decompressor() if name == "bz2" else zlib.decompressobj(wbits=31)
        try:
            unpacked = unpacker.decompress(data, size + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"is no {name}: {error}") from None
    if len(unpacked) != size:
        raise ValueError(f"holds {'more' if len(unpacked) > size else 'less'} than the {size} bytes that the index says")
    return unpacked
