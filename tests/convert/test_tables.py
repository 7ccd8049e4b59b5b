"""Pictures from parquet tables."""

from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tests.convert.sources import OPTIONS, bytes_of, folder, picture, rejects_in, stored_in
from trainer.data.convert.conversion import convert
from trainer.data.convert.executors import Here
from trainer.data.convert.filters import Options
from trainer.data.convert.sources import Reading, SourceError, parts_of


def table(path: Path, rows: list[dict[str, Any]], group: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=group)
    return path


def test_rows_become_samples_in_parts_of_row_groups(tmp_path: Path):
    rows = [{"image": picture(seed=i), "caption": f"row {i}", "score": float(i)} for i in range(8)]
    table(tmp_path / "in" / "a.parquet", rows)
    options = Options(pixels=64, patch=16, at_least=(("score", 2),), reading=Reading(slice=4))
    assert [(part.name, part.groups, part.first_row) for part in parts_of(str(tmp_path / "in"), options.reading)] == [
        ("a-00000", (0, 2), 0),
        ("a-00002", (2, 3), 6),
    ]
    convert(str(tmp_path / "in"), str(tmp_path / "out"), options)
    assert {id: sample["caption"] for id, sample in stored_in(tmp_path / "out").items()} == {f"a/{i}": f"row {i}" for i in range(2, 8)}
    assert rejects_in(tmp_path / "out") == {f"a/{i}": ("below_least", f"score is {i}, less than 2") for i in range(2)}
    convert(str(tmp_path / "in"), str(tmp_path / "two"), options, Here(2))
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "two")


def test_pictures_may_be_structs_and_samples_named_by_a_column(tmp_path: Path):
    rows = [{"picture": {"bytes": picture(seed=i), "path": None}, "text": "t", "key": key} for i, key in enumerate(["x", "y", "x"])]
    rows.append({"picture": {"bytes": None, "path": "gone.jpg"}, "text": "t", "key": "z"})
    table(tmp_path / "a.parquet", rows)
    reading = Reading(image_column="picture", id_column="key")
    convert(str(tmp_path / "a.parquet"), str(tmp_path / "out"), Options(pixels=64, patch=16, reading=reading))
    assert set(stored_in(tmp_path / "out")) == {"a/x", "a/y"}
    assert rejects_in(tmp_path / "out") == {
        "a/x": ("duplicate_key", "the key 'x' is there twice; the first one is kept"),
        "a/z": ("no_picture", "column 'picture' holds no bytes"),
    }


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path: Path):
    table(tmp_path / "a.parquet", [{"jpg": picture(), "caption": "c"}])
    with pytest.raises(SourceError, match=r"--image-column image: is not a column of .*a.parquet; it has jpg, caption"):
        convert(str(tmp_path / "a.parquet"), str(tmp_path / "out"), OPTIONS)


def test_a_broken_table_is_one_record(tmp_path: Path):
    whole = table(tmp_path / "in" / "a.parquet", [{"image": picture(), "caption": "c"}]).read_bytes()
    folder(tmp_path / "in", {"b.parquet": whole[:-20]})
    convert(str(tmp_path / "in"), str(tmp_path / "out"), OPTIONS)
    reason, because = rejects_in(tmp_path / "out")["b"]
    assert reason == "unreadable_table"
    assert because.startswith("no parquet: Parquet magic bytes not found in footer")


def test_a_row_group_that_is_spoilt_is_one_record_and_the_others_are_read(tmp_path: Path):
    rows = [{"image": picture(seed=i), "caption": f"row {i}"} for i in range(6)]
    file = table(tmp_path / "a.parquet", rows)
    with pyarrow.parquet.ParquetFile(file) as opened:
        chunk = opened.metadata.row_group(0).column(0)
        start, size = chunk.data_page_offset, chunk.total_compressed_size
        if chunk.dictionary_page_offset is not None:
            start = chunk.dictionary_page_offset
    data = bytearray(file.read_bytes())
    data[start : start + min(size, 64)] = b"\xff" * min(size, 64)
    file.write_bytes(data)
    convert(str(file), str(tmp_path / "out"), OPTIONS)
    assert set(stored_in(tmp_path / "out")) == {"a/3", "a/4", "a/5"}
    ((id, (reason, because)),) = rejects_in(tmp_path / "out").items()
    assert (id, reason) == ("a/0", "unreadable_table")
    assert because.startswith("row group 0 with 3 rows cannot be read: ")
