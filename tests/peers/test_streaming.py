"""Our shards against those of mosaicml-streaming, in both directions, byte for byte: it runs in an environment of its own."""

import hashlib
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.convert.sources import OPTIONS, mixed_tars
from tests.peers.streaming_sets import COLUMNS, SIZE_LIMIT, samples, told
from trainer.data.compression import decompress
from trainer.data.convert.conversion import convert
from trainer.data.shards import ShardSet, ShardWriter

pytestmark = pytest.mark.long
REQUIREMENTS = ROOT / "requirements" / "peers" / "shards.txt"
COMPRESSIONS = ["none", "gz", "bz2:1", "zstd", "zstd:7"]


@pytest.fixture(scope="module")
def peer() -> Path:
    """A Python that has mosaicml-streaming and what it needs of this one's packages; kept while the requirements are the same."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dayrun" / "peers"
    place = cache / hashlib.sha256(REQUIREMENTS.read_bytes() + sys.prefix.encode()).hexdigest()[:16]
    python = place / "bin" / "python"
    if not (place / "complete").exists():
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, place], check=True)
        packages = place / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
        (packages / "shared.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--python", python, "--no-deps", "--require-hashes", "-r", REQUIREMENTS], check=True
        )
        (place / "complete").touch()
    return python


def theirs(peer: Path, *words: object) -> str:
    line = [peer, ROOT / "tests" / "peers" / "streaming_sets.py", *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def write_ours(folder: Path, compression: str) -> Path:
    with ShardWriter(folder, COLUMNS, SIZE_LIMIT, None if compression == "none" else compression) as shards:
        for sample in samples():
            shards.write(sample)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_same_samples_are_the_same_bytes(peer: Path, tmp_path: Path):
    theirs(peer, "write", tmp_path / "theirs", "none")
    ours, others = contents(write_ours(tmp_path / "ours", "none")), contents(tmp_path / "theirs")
    assert len(ours) > 5
    assert ours == others


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_what_it_wrote_is_read(peer: Path, tmp_path: Path, compression: str):
    theirs(peer, "write", tmp_path, compression)
    index = json.loads((tmp_path / "index.json").read_bytes())
    for entry in index["shards"]:
        if entry["compression"]:  # a folder uses shards in place: unpack them first
            packed = (tmp_path / entry["zip_data"]["basename"]).read_bytes()
            (tmp_path / entry["raw_data"]["basename"]).write_bytes(decompress(compression, packed, entry["raw_data"]["bytes"]))
            entry.update(compression=None, zip_data=None)
    (tmp_path / "index.json").write_text(json.dumps(index))
    found = ShardSet(tmp_path)
    assert list(found.verify()) == []
    assert list(map(told, found)) == list(map(told, samples()))


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_what_we_wrote_is_read_by_it(peer: Path, tmp_path: Path, compression: str):
    write_ours(tmp_path / "ours", compression)
    assert json.loads(theirs(peer, "read", tmp_path / "ours", tmp_path / "local")) == list(map(told, samples()))


def test_what_was_converted_is_read_by_it(peer: Path, tmp_path: Path):
    made = convert(str(mixed_tars(tmp_path / "tars")), str(tmp_path / "ours"), OPTIONS)
    assert len(made.buckets) > 2
    for bucket in list(made.buckets)[:2]:
        found = ShardSet(tmp_path / "ours" / bucket)
        assert json.loads(theirs(peer, "read", tmp_path / "ours" / bucket, tmp_path / "local" / bucket)) == list(map(told, found))
