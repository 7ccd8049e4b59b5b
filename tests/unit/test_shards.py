"""Shards and the loader: what goes in comes out; what is broken is named by file and offset."""

import struct
from pathlib import Path

import numpy as np
import pytest

from dayrun.rules import load
from tests.tiny import tiny_recipe, write_data
from trainer.data.loader import Loader
from trainer.data.shards import ShardSet, ShardWriter
from trainer.faults import DataFault


def loader(data: Path, **sections) -> Loader:
    return Loader(load(tiny_recipe(data, **sections)), pixels=8)


def shard_files(data: Path) -> list[Path]:
    return sorted(data.glob("*.mds"))


def test_samples_come_back_as_they_were_written(tmp_path: Path):
    columns = {"b": "bytes", "s": "str", "j": "json", "i": "int", "a": "ndarray:float16:2,3"}
    rows = [{"b": bytes([n] * n), "s": f"é{n}", "j": {"n": [n]}, "i": -n, "a": np.full((2, 3), n)} for n in range(50)]
    with ShardWriter(tmp_path, columns, size_limit=500) as shards:
        for row in rows:
            shards.write(row)
    read = ShardSet(tmp_path)
    assert len(read) == 50
    assert len(shard_files(tmp_path)) > 3
    for row, sample in zip(rows, (read[i] for i in range(50)), strict=True):
        assert {k: sample[k] for k in "bsji"} == {k: row[k] for k in "bsji"}
        assert (sample["a"] == row["a"]).all()


def test_ranks_share_one_stream(tiny_data: Path):
    whole = next(loader(tiny_data).batches(16, 8, 8, rank=0, world_size=1))
    parts = [next(loader(tiny_data).batches(16, 8, 4, rank=rank, world_size=2)) for rank in (0, 1)]
    assert whole.positions == parts[0].positions + parts[1].positions == list(range(16, 24))
    assert whole.images.shape == (8, 3, 8, 8)
    assert (whole.images[:4] == parts[0].images).all()
    assert (whole.images[4:] == parts[1].images).all()


def test_a_missing_folder_is_named(tmp_path: Path):
    with pytest.raises(DataFault, match=f"{tmp_path}/none"):
        loader(tmp_path / "none")


def test_a_shard_cut_short_is_named_with_its_offset(tmp_path: Path):
    data = write_data(tmp_path)
    victim = shard_files(data)[1]
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-10])
    with pytest.raises(DataFault, match=rf"{victim.name} at byte {len(whole) - 10}"):
        loader(data)


def test_an_index_that_is_not_json_is_named_with_its_offset(tmp_path: Path):
    data = write_data(tmp_path)
    (data / "index.json").write_text('{"shards": [}')
    with pytest.raises(DataFault, match=r"index\.json at byte 12"):
        loader(data)


def test_a_column_that_is_not_there_is_named_with_those_that_are(tiny_data: Path):
    recipe = tiny_recipe(tiny_data, data={"sources": [{"url": str(tiny_data)}], "captions": [{"latent_column": "text"}]})
    with pytest.raises(DataFault, match=r"'text' is not a column.*caption_latent"):
        Loader(load(recipe), pixels=8)


def spoil(data: Path, samples: int) -> None:
    """Overwrite the pictures' first bytes of the first `samples` samples of the first shard."""
    victim = shard_files(data)[0]
    whole = bytearray(victim.read_bytes())
    (count,) = struct.unpack_from("<I", whole)
    offsets = struct.unpack_from(f"<{count + 1}I", whole, 4)
    for start in offsets[:samples]:
        place = whole.index(b"\x89PNG", start)
        whole[place : place + 4] = b"\0\0\0\0"
    victim.write_bytes(whole)


def test_a_bad_sample_in_a_good_shard_is_replaced_counted_and_told(tmp_path: Path):
    data = write_data(tmp_path)
    spoil(data, samples=1)
    told = []
    reader = Loader(load(tiny_recipe(data)), 8, on_bad=lambda bad: told.append((bad.count, *bad.first)))
    batches = reader.batches(0, 64, 64, 0, 1)
    assert len(next(batches).images) == 64
    count, first = told[0]  # by now the loader may be at the next batch, where it meets the same sample again
    assert count == 1
    assert first["file"].endswith(shard_files(data)[0].name)
    assert first["offset"] > 0
    assert "is no picture" in first["because"]


def test_too_many_bad_samples_end_the_run(tmp_path: Path):
    data = write_data(tmp_path, samples=30)
    for victim in shard_files(data):
        victim.write_bytes(victim.read_bytes().replace(b"\x89PNG", b"\0\0\0\0"))
    with pytest.raises(DataFault, match="cannot be read"):
        next(loader(data).batches(0, 8, 8, 0, 1))
