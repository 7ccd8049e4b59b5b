"""Shards and the loader: what goes in comes out; what is broken is named by file and offset."""

import hashlib
import json
import os
import re
import struct
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from dayrun.rules import load
from tests.tiny import tiny_recipe, write_data
from trainer.data.compression import compress, decompress
from trainer.data.loader import Loader
from trainer.data.shards import BadSample, ShardError, ShardSet, ShardWriter
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


# encodings, compression, hashes

EVERYTHING = {
    "b": ("bytes", b"\0\1"),
    "s": ("str", "é"),
    "i": ("int", -(2**40)),
    "j": ("json", {"a": [1, None]}),
    "u8": ("uint8", 255),
    "f16": ("float16", 1.5),
    "f64": ("float64", 1e-300),
    "digits": ("str_int", 2**100),
    "decimal": ("str_decimal", Decimal("1.10")),
    "jpeg": ("jpeg", b"\xff\xd8 as it is"),
    "fixed": ("ndarray:float16:2,3", np.arange(6, dtype=np.float16).reshape(2, 3)),
    "shaped": ("ndarray:uint8", np.arange(300, dtype=np.uint8).reshape(300, 1)),
    "free": ("ndarray", np.arange(6, dtype=np.int64).reshape(1, 2, 3)),
}


@pytest.mark.parametrize("compression", [None, "gz", "gz:1", "bz2:1"])
def test_every_encoding_comes_back_from_any_shard(tmp_path: Path, compression: str | None):
    columns = {name: encoding for name, (encoding, _) in EVERYTHING.items()}
    with ShardWriter(tmp_path, columns, size_limit=2000, compression=compression, hashes=["sha256", "md5"]) as shards:
        for _ in range(5):
            shards.write({name: value for name, (_, value) in EVERYTHING.items()})
    entries = json.loads((tmp_path / "index.json").read_bytes())["shards"]
    assert len(entries) > 1
    assert {frozenset(entry["raw_data"]["hashes"]) for entry in entries} == {frozenset({"md5", "sha256"})}
    if compression:  # unpacked by hand: a folder uses shards in place
        for entry in entries:
            packed = (tmp_path / entry["zip_data"]["basename"]).read_bytes()
            assert hashlib.sha256(packed).hexdigest() == entry["zip_data"]["hashes"]["sha256"]
            (tmp_path / entry["raw_data"]["basename"]).write_bytes(decompress(compression, packed, entry["raw_data"]["bytes"]))
            entry.update(compression=None, zip_data=None)
        (tmp_path / "index.json").write_text(json.dumps({"shards": entries, "version": 2}))
    found = ShardSet(tmp_path)
    assert list(found.verify()) == []
    for sample in found:
        for name, (_, value) in EVERYTHING.items():
            assert np.array_equal(sample[name], value), name
            assert type(sample[name]) is type(value) or np.isscalar(sample[name])
    assert found.read(3, ["s", "u8"]) == {"s": "é", "u8": 255}


def test_the_same_samples_give_the_same_bytes(tmp_path: Path):
    for folder in ("a", "b"):
        with ShardWriter(tmp_path / folder, {"b": "bytes"}, size_limit=400, compression="gz") as shards:
            for n in range(40):
                shards.write({"b": bytes([n]) * n})
    ours, theirs = ({file.name: file.read_bytes() for file in (tmp_path / folder).iterdir()} for folder in ("a", "b"))
    assert ours == theirs


@pytest.mark.parametrize(
    ("compression", "data", "said"),
    [
        ("gz", b"no", "is no gz: "),
        ("bz2", b"no", "is no bz2: "),
        ("gz", compress("gz", bytes(99)), "holds more than the 98 bytes that the index says"),
        ("gz", compress("gz", bytes(97)), "holds less than the 98 bytes that the index says"),
        ("gz", compress("gz", os.urandom(98))[:-20], "holds less than the 98 bytes that the index says"),
        ("br", b"", "compression 'br' is not known; nearest: gz, bz2, zstd"),
        ("gz:12", b"", "compression 'gz:12': levels of gz are 0 to 9"),
    ],
)
def test_what_was_not_compressed_so_is_refused(compression: str, data: bytes, said: str):
    with pytest.raises(ValueError, match=re.escape(said)):
        decompress(compression, data, 98)


def test_a_compressed_bomb_takes_no_more_than_what_was_promised():
    bomb = compress("bz2", bytes(50_000_000))
    with pytest.raises(ValueError, match="holds more than the 1000 bytes"):
        decompress("bz2", bomb, 1000)


@pytest.mark.parametrize("encoding", ["ndarray:complex64", "ndarray:uint8:0", "tensor", "jpeg:high", "pkl"])
def test_a_column_of_an_unknown_encoding_is_refused(tmp_path: Path, encoding: str):
    with pytest.raises(ValueError, match="encoding"):
        ShardWriter(tmp_path, {"a": encoding})


@pytest.mark.parametrize(
    ("encoding", "data", "said"),
    [
        ("ndarray", b"", "does not start as an array does"),
        ("ndarray", b"\7\5\3", "does not start as an array does"),
        ("ndarray", bytes([8, 1 << 2, 200, 1]), "cannot reshape"),
        ("str_int", b"x", "invalid literal"),
        ("str_decimal", b"x", "is no number"),
        ("json", b"{", "Expecting property name"),
        ("str", b"\xff", "can't decode"),
    ],
)
def test_bytes_that_are_no_value_are_a_bad_sample(tmp_path: Path, encoding: str, data: bytes, said: str):
    with ShardWriter(tmp_path, {"a": "bytes"}) as shards:
        shards.write({"a": data})
    index = tmp_path / "index.json"
    index.write_text(index.read_text().replace('"bytes"]', f'"{encoding}"]'))
    with pytest.raises(BadSample, match=rf"shard\.00000\.mds at byte \d+: sample 0: column 'a' is no {encoding}: .*{said}"):
        ShardSet(tmp_path)[0]


# sets that cannot be used


def written(folder: Path, shards: int = 3) -> Path:
    with ShardWriter(folder, {"s": "str"}, size_limit=300) as writer:
        for _ in range(2 * shards):
            writer.write({"s": "x" * 20})
    return folder


def test_an_empty_folder_is_told(tmp_path: Path):
    with pytest.raises(
        ShardError, match=r"index\.json: there is no index; a folder of MDS shards holds one; is a conversion still running\?"
    ):
        ShardSet(tmp_path)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ('{"shards": [], "version": 2}', "the index names no shards; convert at least one picture"),
        ("[]", "not an MDS index"),
        ('{"shards": [{"samples": 1}]}', "not an MDS index ('raw_data' is missing); expected {'shards': [...], 'version': 2}"),
    ],
)
def test_an_index_that_names_no_shards_is_told(tmp_path: Path, index: str, said: str):
    (tmp_path / "index.json").write_text(index)
    with pytest.raises(ShardError, match=re.escape(said)):
        ShardSet(tmp_path)


def edited(folder: Path, **changes) -> Path:
    """The last shard's entry of the index with other values."""
    index = json.loads((folder / "index.json").read_bytes())
    index["shards"][-1].update(changes)
    (folder / "index.json").write_text(json.dumps(index))
    return folder


def test_mixed_columns_are_told(tmp_path: Path):
    with pytest.raises(
        ShardError, match=r"has columns \{'t': 'str'\}, the first shard has \{'s': 'str'\}; convert both to one folder each"
    ):
        ShardSet(edited(written(tmp_path), column_names=["t"]))


def test_a_shard_that_is_not_there_is_told_before_anything_is_read(tmp_path: Path):
    written(tmp_path)
    shard_files(tmp_path)[-1].unlink()
    with pytest.raises(ShardError, match="the index names it and it is not there; copy it again, or convert again"):
        ShardSet(tmp_path)


def test_a_wrong_hash_is_found_by_verifying(tmp_path: Path):
    victim = shard_files(written(tmp_path))[1]
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    (trouble,) = ShardSet(tmp_path).verify()
    assert re.fullmatch(rf"{victim}: sha1 is [0-9a-f]{{40}}, the index says [0-9a-f]{{40}}", trouble)


def test_a_broken_shard_is_bad_samples_and_the_others_are_read(tmp_path: Path):
    victim = shard_files(written(tmp_path))[1]
    data = bytearray(victim.read_bytes())
    data[4:8] = b"\xff\xff\xff\x7f"  # of the table of offsets
    victim.write_bytes(data)
    found = ShardSet(tmp_path)
    for number in range(len(found)):
        which, local = found.place(number)
        if which != 1:
            assert found[number] == {"s": "x" * 20}
            continue
        with pytest.raises(BadSample) as bad:
            found[number]
        assert str(bad.value) == (
            f"{victim} at byte 4: sample {local}: its shard cannot be used: its table of offsets does not fit the file"
        )


def test_many_threads_read_more_shards_than_stay_open(tmp_path: Path):
    with ShardWriter(tmp_path, {"i": "int"}, size_limit=300) as shards:
        for n in range(400):
            shards.write({"i": n})
    found = ShardSet(tmp_path, keep=3)
    assert len(found.entries) == 40
    numbers = np.random.default_rng(0).permutation(np.repeat(np.arange(400), 5)).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert [sample["i"] for sample in pool.map(found.__getitem__, numbers)] == numbers
    assert len(found._open) <= 3
