"""A prefix behaves the same in a folder and on an S3 server."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dayrun import objects
from dayrun.objects import Prefix, StoreError, read_url


@pytest.fixture(params=["folder", "s3"])
def prefix(request: pytest.FixtureRequest, tmp_path: Path) -> Prefix:
    if request.param == "folder":
        return Prefix(tmp_path / "store")
    return Prefix(f"{request.getfixturevalue('bucket')}/{tmp_path.name}")


def test_what_was_put_is_listed_and_read_in_pieces(prefix: Prefix):
    prefix.put("a/two.json", b"22")
    prefix.put("a/b/one", b"0123456789")
    assert [(info.key, info.bytes) for info in prefix.objects()] == [("a/b/one", 10), ("a/two.json", 2)]
    assert prefix.folders("") == ["a"]
    assert prefix.folders("a") == ["b"]
    assert [prefix.get_from("a/b/one", start, most) for start, most in ((3, None), (3, 2), (10, None), (99, 5))] == [
        b"3456789",
        b"34",
        b"",
        b"",
    ]
    assert read_url(f"{prefix.url}/a/two.json") == b"22"


def test_what_is_not_there_is_absent_and_not_a_fault(prefix: Prefix):
    for read in (prefix.get, prefix.size, lambda key: prefix.get_from(key, 0), lambda key: prefix.get_file(key, Path(os.devnull))):
        with pytest.raises(FileNotFoundError, match="/none"):
            read("none")
    assert not prefix.exists("none")
    prefix.delete("none")
    prefix.delete_all("none")
    assert prefix.objects("none") == []


def test_a_file_larger_than_a_piece_travels_whole(prefix: Prefix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(objects, "PIECE_BYTES", 5 * 2**20)  # the least that S3 takes as a part
    data = os.urandom(11 * 2**20 + 3)
    (tmp_path / "up").write_bytes(data)
    prefix.put_file("large", tmp_path / "up")
    assert prefix.size("large") == len(data)
    assert prefix.get_file("large", tmp_path / "down") == hashlib.sha256(data).hexdigest()
    assert (tmp_path / "down").read_bytes() == data


def test_create_never_replaces(prefix: Prefix):
    prefix.create("marker", b"mine")
    prefix.create("marker", b"mine")  # as a request that is sent twice
    with pytest.raises(FileExistsError, match="/marker"):
        prefix.create("marker", b"theirs")
    assert prefix.get("marker") == b"mine"


def test_a_whole_folder_is_deleted_and_its_neighbour_stays(prefix: Prefix):
    for key in ("steps/1/a", "steps/1/b/c", "steps/10/a"):
        prefix.put(key, b"")
    prefix.delete_all("steps/1")
    assert [info.key for info in prefix.objects()] == ["steps/10/a"]


@pytest.mark.parametrize(
    "use",
    [lambda p: p.get("a"), lambda p: p.put("a", b""), lambda p: p.objects(), lambda p: p.delete("a"), lambda p: p.create("a", b"")],
)
def test_a_store_that_does_not_answer_is_away_and_nothing_is_absent(use: Callable[[Prefix], object], monkeypatch: pytest.MonkeyPatch):
    for name, value in {"ENDPOINT_URL": "http://127.0.0.1:9", "ALLOW_HTTP": "true", "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with pytest.raises(StoreError, match="s3://bucket/runs/1/"):
        use(Prefix("s3://bucket/runs/1", patience_seconds=0.1))
