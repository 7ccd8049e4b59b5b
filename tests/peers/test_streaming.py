"""Our shards against those of mosaicml-streaming, in both directions, byte for byte: it runs in an environment of its own."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.convert.sources import OPTIONS, mixed_tars
from tests.peers.streaming_sets import COLUMNS, COMPRESSIONS, SIZE_LIMIT, samples, told
from trainer.data.compression import decompress
from trainer.data.convert.conversion import convert
from trainer.data.shards import ShardSet, ShardWriter

pytestmark = pytest.mark.long
REQUIREMENTS = ROOT / "requirements" / "peers" / "shards.txt"


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


@pytest.fixture(scope="module")
def place(peer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same samples in every compression: `ours` and `theirs`; what was `converted`; and `read.json`, what they read of ours."""
    place = tmp_path_factory.mktemp("peers")
    for name, compression in COMPRESSIONS.items():
        with ShardWriter(place / "ours" / name, COLUMNS, SIZE_LIMIT, compression) as shards:
            for sample in samples():
                shards.write(sample)
    convert(str(mixed_tars(place / "tars")), str(place / "converted"), OPTIONS)
    line = [peer, ROOT / "tests" / "peers" / "streaming_sets.py", place]
    done = subprocess.run(line, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    (place / "read.json").write_text(done.stdout.splitlines()[-1])
    return place


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_same_samples_are_the_same_bytes(place: Path):
    ours, theirs = contents(place / "ours" / "none"), contents(place / "theirs" / "none")
    assert len(ours) > 5
    assert ours == theirs


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_what_it_wrote_is_read(place: Path, tmp_path: Path, name: str):
    shutil.copytree(place / "theirs" / name, tmp_path / "set")
    folder = tmp_path / "set"
    index = json.loads((folder / "index.json").read_bytes())
    for entry in index["shards"]:
        if compression := entry["compression"]:  # unpacked by hand, since only a cache does it
            packed = (folder / entry["zip_data"]["basename"]).read_bytes()
            (folder / entry["raw_data"]["basename"]).write_bytes(decompress(compression, packed, entry["raw_data"]["bytes"]))
            entry.update(compression=None, zip_data=None)
    (folder / "index.json").write_text(json.dumps(index))
    found = ShardSet(folder)
    assert list(found.verify()) == []
    assert list(map(told, found)) == list(map(told, samples()))


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_what_we_wrote_is_read_by_it(place: Path, name: str):
    assert json.loads((place / "read.json").read_text())[name] == list(map(told, samples()))


def test_what_was_converted_is_read_by_it(place: Path):
    read = json.loads((place / "read.json").read_text())["converted"]
    assert len(read) > 2  # buckets
    assert read == {bucket: list(map(told, ShardSet(place / "converted" / bucket))) for bucket in read}
