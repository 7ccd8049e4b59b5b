"""Samples that are rows of parquet tables: the picture's bytes in one column (or in its field `bytes`, as Hugging Face's datasets have it).

A part is a run of row groups: they are what a table can be read by. A table in an object store is one part, since each task copies it.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dayrun.objects import Prefix
from trainer.data.convert.sources import File, Found, Part, Reading, Reject, SourceError, local, slug, stem

TAIL = 2**20
"""Bytes at the end of a table that are read first for its footer."""


def arrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise SourceError("reading parquet needs pyarrow: pip install -r requirements/data.txt") from None
    return pyarrow.parquet


def table_parts(source: str, file: File, reading: Reading) -> list[Part]:
    """The parts of one table. One that is broken is a part of nothing but a reject. Raises SourceError when a column is not there."""
    parquet, name = arrow(), slug(stem(file.key))
    folder = local(source)
    try:
        if folder is None:
            metadata, schema = remote_footer(parquet, source, file)
        else:
            with parquet.ParquetFile(folder / file.key) as table:
                metadata, schema = table.metadata, table.schema_arrow
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        because = f"no parquet: {str(error).splitlines()[0]}"
        return [Part(name, "parquet", source, (file,), rejects=(Reject(stem(file.key), "unreadable_table", because),))]
    for flag, column in (("--image-column", reading.image_column), ("--id-column", reading.id_column)):
        if column is not None and column not in schema.names:
            raise SourceError(f"{flag} {column}: is not a column of {source}/{file.key}; it has {', '.join(schema.names)}")
    counts = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    if folder is None:
        return [Part(name, "parquet", source, (file,), (0, len(counts)))]
    parts: list[Part] = []
    first, row = 0, 0
    for group in range(len(counts)):
        rows = sum(counts[first : group + 1])
        if rows >= reading.slice or group == len(counts) - 1:
            parts.append(Part(f"{name}-{first:05d}", "parquet", source, (file,), (first, group + 1), row))
            first, row = group + 1, row + rows
    return parts


def remote_footer(parquet: Any, source: str, file: File) -> tuple[Any, Any]:
    """Metadata and schema of a table in an object store, from its last bytes alone."""
    prefix, wanted = Prefix(source), TAIL
    while True:
        tail = prefix.get_from(file.key, max(0, file.bytes - wanted))
        needed = int.from_bytes(tail[-8:-4], "little") + 8
        if tail[-4:] != b"PAR1" or needed <= len(tail) or len(tail) == file.bytes:
            table = parquet.ParquetFile(io.BytesIO(tail))
            return table.metadata, table.schema_arrow
        wanted = needed


def table_samples(path: Path, part: Part, reading: Reading) -> Iterator[Found | Reject]:
    """The rows of a part. Row groups that cannot be read are one Reject each."""
    with arrow().ParquetFile(path) as table:
        number, seen = part.first_row, set[str]()
        for group in range(*part.groups):
            rows = table.metadata.row_group(group).num_rows
            try:
                batches = list(table.iter_batches(64, row_groups=[group])) if rows else []
            except (OSError, ValueError) as error:
                because = f"row group {group} with {rows} rows cannot be read: {str(error).splitlines()[0]}"
                yield Reject(f"{part.title}/{number}", "unreadable_table", because)
                number += rows
                continue
            for batch in batches:
                for row in batch.to_pylist():
                    yield sample(row, number, part, reading, seen)
                    number += 1


def sample(row: dict[str, Any], number: int, part: Part, reading: Reading, seen: set[str]) -> Found | Reject:
    key = str(row[reading.id_column]) if reading.id_column else str(number)
    id = f"{part.title}/{key}"
    if key in seen:
        return Reject(id, "duplicate_key", f"the key {key!r} is there twice; the first one is kept")
    seen.add(key)
    image = row.pop(reading.image_column)
    if isinstance(image, dict):
        image = image.get("bytes")
    if not isinstance(image, bytes) or not image:
        return Reject(id, "no_picture", f"column {reading.image_column!r} holds no bytes")
    return Found(id, image, row)
