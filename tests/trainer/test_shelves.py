"""Shards from a real S3 server: the same samples as from a folder, whatever happens to the server, to the bytes and to the readers."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dayrun.objects import Prefix, StoreError, StoreRefused
from service.parts import S3
from service.stack import BUCKET, Stack
from tests.conftest import ROOT, until
from tests.trainer.wire import Wire
from trainer.data import fetching
from trainer.data.cache import Cache
from trainer.data.fetching import Origin
from trainer.data.shards import ShardError, ShardSet, ShardWriter
from trainer.data.shelves import CachedShelf, FolderShelf, cache_at, name_of, place_of, shelf
from trainer.faults import cause_of

COLUMNS = {"image": "bytes", "id": "str"}
ROOMY = 1 << 30


def write(folder: Path, samples: int = 60, compression: str | None = None) -> Path:
    with ShardWriter(folder, COLUMNS, size_limit=4096, compression=compression) as shards:
        for number in range(samples):
            shards.write({"image": bytes([number]) * 500, "id": f"s{number}"})
    return folder


def upload(folder: Path, url: str) -> str:
    prefix = Prefix(url)
    for file in folder.rglob("*"):
        if file.is_file():
            prefix.put(file.relative_to(folder).as_posix(), file.read_bytes())
    return url


def entries_at(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "index.json").read_bytes())["shards"]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("shards") / "set")


@pytest.fixture(scope="module")
def url(bucket: str, local: Path) -> str:
    return upload(local, f"{bucket}/shards/set")


@pytest.fixture
def wire(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """What the environment names as the store from now on."""
    relay = Wire(stack.s3.environment["AWS_ENDPOINT_URL"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", relay.url)
    yield relay
    relay.close()


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    opened = Cache(tmp_path / "cache", ROOMY, patience_seconds=60)
    yield opened
    opened.close()


@pytest.mark.parametrize("compression", [None, "gz:6", "bz2"])
def test_samples_from_a_store_are_those_of_a_folder(bucket: str, cache: Cache, tmp_path: Path, local: Path, compression: str | None):
    folder = write(tmp_path / "set", compression=compression)
    url = upload(folder, f"{bucket}/shards/as-{compression}")
    wanted = list(ShardSet(local))
    assert list(ShardSet(CachedShelf(url, cache))) == wanted
    again = list(ShardSet(FolderShelf(folder, lambda: cache)))
    assert again == wanted
    assert cache.counts.filled == len(entries_at(local))  # named by their content, unpacked: all three are the same


def test_each_byte_is_asked_for_once_by_all_processes_of_a_machine(wire: Wire, url: str, local: Path, tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from trainer.data.shards import ShardSet; from trainer.data.shelves import shelf\n"
        "shards = ShardSet(shelf(sys.argv[1], Path(sys.argv[2]), 1 << 30))\n"
        "shards.shelf.will_need(shards.entries)\n"
        "print(*(sample['id'] for sample in shards))"
    )
    command = [sys.executable, "-c", code, url, str(tmp_path / "cache")]
    readers = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [reader.communicate(timeout=120)[0] for reader in readers]
    assert said == [" ".join(f"s{number}" for number in range(60)) + "\n"] * 3
    names = [entry["raw_data"]["basename"] for entry in entries_at(local)]
    assert {name: wire.asked["GET", name] for name in names} == dict.fromkeys(names, 1)


def test_a_small_cache_reads_all_within_its_limit(url: str, local: Path, tmp_path: Path):
    largest = max(entry["raw_data"]["bytes"] for entry in entries_at(local))
    small = Cache(tmp_path / "cache", 2 * largest)
    shards = ShardSet(CachedShelf(url, small), keep=0)
    for _ in range(2):
        shards.shelf.will_need(shards.entries)
        for number in range(len(shards)):
            assert shards[number]["id"] == f"s{number}"
            assert small.used() <= small.limit
    assert small.counts.filled > len(shards.entries)  # it did not all fit
    small.close()


def test_bytes_spoiled_on_their_way_are_fetched_again(wire: Wire, url: str, local: Path, cache: Cache):
    entry = entries_at(local)[1]
    wire.spoil_next(entry["raw_data"]["basename"])
    with CachedShelf(url, cache).hold(entry) as path:
        assert path.read_bytes() == (local / entry["raw_data"]["basename"]).read_bytes()
    assert wire.asked["GET", entry["raw_data"]["basename"]] == 2


def test_a_slow_request_is_asked_again_and_the_first_answer_counts(wire: Wire, url: str, local: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fetching, "UNKNOWN_SECONDS", 0.05)
    entry = entries_at(local)[0]
    release = wire.hold_next(entry["raw_data"]["basename"])
    origin = Origin(url, patience_seconds=60)
    with open("/dev/shm/dayrun-hedged", "w+b") as file:
        Path(file.name).unlink()
        origin.fetch(entry, file)
        file.seek(0)
        assert file.read() == (local / entry["raw_data"]["basename"]).read_bytes()
    release.set()
    assert origin.pace.asked_again == 1
    assert wire.asked["GET", entry["raw_data"]["basename"]] == 2


def broken(bucket: str, local: Path, name: str) -> tuple[str, str]:
    """The URL of a copy of the set, and of a shard in it."""
    url = upload(local, f"{bucket}/shards/{name}")
    return url, f"{url}/shard.00001.mds"


def test_a_shard_damaged_in_the_store_is_named(bucket: str, local: Path, cache: Cache):
    url, shard = broken(bucket, local, "damaged")
    data = (local / "shard.00001.mds").read_bytes()
    Prefix(url).put("shard.00001.mds", data[:-1] + bytes([data[-1] ^ 1]))
    opened = ShardSet(CachedShelf(url, cache))  # the size is right
    entry = opened.entries[1]
    with pytest.raises(ShardError) as error, opened.shelf.hold(entry):
        pass
    digest = fetching.hashlib.sha1(data[:-1] + bytes([data[-1] ^ 1])).hexdigest()
    wanted = entry["raw_data"]["hashes"]["sha1"]
    assert str(error.value) == f"{shard}: its sha1 is {digest}, the index says {wanted}, in 3 downloads; upload it again"
    assert name_of(url, entry) not in [file.name for file in cache.present()]


def test_a_shard_cut_short_in_the_store_is_named_before_the_first_step(bucket: str, local: Path, cache: Cache):
    url, shard = broken(bucket, local, "short")
    data = (local / "shard.00001.mds").read_bytes()
    Prefix(url).put("shard.00001.mds", data[:1000])
    with pytest.raises(ShardError) as error:
        ShardSet(CachedShelf(url, cache))
    because = f"{shard} at byte 1000: has 1000 bytes, the index says {len(data)}; upload it again"
    assert str(error.value) == because
    with pytest.raises(ShardError) as error, CachedShelf(url, cache).hold(entries_at(local)[1]):
        pass
    assert str(error.value) == because


def test_a_shard_that_is_not_there_is_named(bucket: str, local: Path, cache: Cache):
    url, shard = broken(bucket, local, "gone")
    Prefix(url).delete("shard.00001.mds")
    because = f"{shard}: the index names it and it is not there; upload it again, or convert again"
    with pytest.raises(ShardError) as error:
        ShardSet(CachedShelf(url, cache))
    assert str(error.value) == because
    with pytest.raises(ShardError) as error, CachedShelf(url, cache).hold(entries_at(local)[1]):
        pass
    assert str(error.value) == because


def test_a_prefix_without_an_index_is_named(bucket: str, cache: Cache):
    with pytest.raises(ShardError, match=rf"^{bucket}/none/index\.json: there is no index; a prefix of MDS shards holds one"):
        ShardSet(CachedShelf(f"{bucket}/none", cache))


def test_who_may_not_read_is_told_at_once(url: str, cache: Cache, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(StoreRefused, match=r"index\.json"):
        ShardSet(CachedShelf(url, cache))


def test_a_store_that_is_away_for_too_long_is_a_fault_of_storage(wire: Wire, url: str, local: Path, tmp_path: Path):
    entry = entries_at(local)[0]
    wire.close()
    with pytest.raises(StoreError) as error, CachedShelf(url, Cache(tmp_path, ROOMY, patience_seconds=0.5)).hold(entry):
        pass
    assert str(error.value).startswith(f"{url}/shard.00000.mds: ")
    assert str(error.value).endswith("; waited 0.5 s for the store, as /data/cache/patience_seconds says")
    assert cause_of(error.value) == "storage"


def asked_for(cache: Cache) -> bool:
    return any(file.name.endswith(".part") for file in cache.folder.iterdir())


def test_a_store_that_is_away_is_waited_for(wire: Wire, url: str, cache: Cache):
    shards, found = ShardSet(CachedShelf(url, cache)), []
    wire.close()
    reading = threading.Thread(target=lambda: found.append(shards[0]))
    reading.start()
    until(lambda: asked_for(cache), "the first shard to be asked for")
    wire.open()
    reading.join()
    assert found[0]["id"] == "s0"


@pytest.mark.long
def test_a_server_that_is_killed_and_comes_back_is_waited_for(local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    server = S3(tmp_path)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.start()
    try:
        patient = Cache(tmp_path / "cache", ROOMY)
        shards = ShardSet(CachedShelf(upload(local, f"s3://{BUCKET}/away"), patient))
        found: list[str] = []
        reading = threading.Thread(target=lambda: found.extend(sample["id"] for sample in shards))
        server.kill()
        reading.start()
        until(lambda: asked_for(patient), "the first shard to be asked for")
        server.start()
        reading.join()
        assert found == [f"s{number}" for number in range(60)]
    finally:
        server.stop()


def test_relative_urls_start_at_a_folder_or_at_a_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert place_of("file:///data/my%20set") == "/data/my set"
    assert place_of("s3://b/set") == "s3://b/set"
    monkeypatch.setenv("DAYRUN_DATA", "/data")
    assert (place_of("set"), place_of("/set")) == ("/data/set", "/set")
    monkeypatch.setenv("DAYRUN_DATA", "s3://b/data/")
    assert place_of("set") == "s3://b/data/set"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_at(None, ROOMY).folder == tmp_path / "dayrun" / "shards"
    assert isinstance(shelf(str(tmp_path)), FolderShelf)


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path):
    with pytest.raises(ShardError, match="there is no such folder"):
        ShardSet(shelf(str(tmp_path / "none"), tmp_path / "cache", ROOMY))
    assert not (tmp_path / "none").exists()
    assert not (tmp_path / "cache").exists()
    shutil.rmtree(tmp_path)
