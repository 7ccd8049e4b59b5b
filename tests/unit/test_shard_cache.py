"""The cache of shards on one machine: its limit, what goes first, and what a kill leaves behind."""

import os
import signal
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT, until
from trainer.data.cache import Cache, CacheFull, Item, Present, free_for, leaving

SIZE = 1000


class Made:
    """Items of a thousand bytes, and how often each was made."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def item(self, name: str, size: int = SIZE) -> Item:
        def fill(file) -> None:
            self.names.append(name)
            file.write(name.encode()[:1] * size)

        return Item(name, size, fill)


@pytest.fixture
def made() -> Made:
    return Made()


def names(cache: Cache) -> list[str]:
    return sorted(file.name for file in cache.present())


def read(cache: Cache, item: Item) -> bytes:
    with cache.hold(item) as path:
        return path.read_bytes()


def test_a_file_is_made_once_and_stays(tmp_path: Path, made: Made):
    for _ in range(2):
        assert read(Cache(tmp_path, 10 * SIZE), made.item("a")) == b"a" * SIZE
    assert made.names == ["a"]


def test_threads_that_want_one_file_make_it_once(tmp_path: Path, made: Made):
    cache, together = Cache(tmp_path, 10 * SIZE), threading.Barrier(8)
    found: list[bytes] = []

    def work() -> None:
        together.wait()
        found.append(read(cache, made.item("a")))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"a" * SIZE] * 8
    assert made.names == ["a"]


def test_the_longest_unused_goes_where_nobody_says_what_comes(tmp_path: Path, made: Made):
    cache = Cache(tmp_path, 3 * SIZE)
    for moment, name in enumerate("abcabd"):
        read(cache, made.item(name))
        os.utime(tmp_path / name, (moment, moment))
    assert names(cache) == ["a", "b", "d"]


def test_what_is_needed_last_goes_first(tmp_path: Path, made: Made, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Cache, "_fetched_one", lambda *_: False)  # what has gone would come back
    mine, other = Cache(tmp_path, 3 * SIZE), Cache(tmp_path, 3 * SIZE)
    for name in "abc":
        read(mine, made.item(name))
    other.will_need("set", [(0.0, made.item("a")), (9.0, made.item("b"))])
    mine.will_need("set", [(1.0, made.item("b")), (2.0, made.item("c"))])
    until(lambda: mine.due() == {"a": 0.0, "b": 0.0, "c": 1.0}, "both to have looked at what comes")
    read(mine, made.item("d"))
    assert names(mine) == ["a", "b", "d"]
    other.close()
    read(mine, made.item("e"))  # of those that nobody needs any more, the longest unused
    assert names(mine) == ["b", "d", "e"]
    mine.close()


def test_a_full_cache_says_the_limit_that_would_do_and_that_one_does(tmp_path: Path, made: Made):
    cache = Cache(tmp_path, 2 * SIZE + 500, patience_seconds=0.1)
    with cache.hold(made.item("a")), cache.hold(made.item("b")):
        with pytest.raises(CacheFull) as error:
            read(cache, made.item("c"))
        assert str(error.value) == (
            f"/data/cache/bytes: 2500: {tmp_path} is full of files in use, and c needs 500 bytes more; nearest: {3 * SIZE}"
        )
        assert names(cache) == ["a", "b"]
        assert read(Cache(tmp_path, 3 * SIZE), made.item("c")) == b"c" * SIZE
    assert read(cache, made.item("d")) == b"d" * SIZE  # the others are free again


def test_what_comes_is_fetched_ahead_in_order_until_the_cache_is_full(tmp_path: Path, made: Made):
    cache = Cache(tmp_path, 3 * SIZE)
    read(cache, made.item("z"))
    cache.will_need("set", [(float(i), made.item(name)) for i, name in enumerate("abcde")])
    until(lambda: names(cache) == ["a", "b", "c"], "three files")
    with cache.hold(made.item("a")):
        cache.will_need("set", [(float(i), made.item(name)) for i, name in enumerate("bcde")])
        assert read(cache, made.item("b")) == b"b" * SIZE
    until(lambda: names(cache) == ["b", "c", "d"], "the next one in the place of what is over")
    cache.close()
    assert sorted(made.names) == ["a", "b", "c", "d", "z"]  # each once, and no room was made for what is needed later


def test_what_is_in_use_stays_until_its_span_is_over(tmp_path: Path, made: Made):
    cache = Cache(tmp_path, 3 * SIZE)
    cache.will_need("set", [(float(i), made.item(name)) for i, name in enumerate("abcdef")], span=2.0)
    until(lambda: names(cache) == ["a", "b", "c"], "three files")

    def hold(name: str) -> None:
        with cache.hold(made.item(name)):
            cache.passed("set", made.item(name))

    hold("a")
    hold("b")
    until(lambda: cache.due() == {"a": 0.0, "b": 0.0, "c": 0.0, "d": 1.0, "e": 2.0, "f": 3.0}, "both to be in use")
    assert names(cache) == ["a", "b", "c"]  # what comes later has no room
    hold("c")
    until(lambda: names(cache) == ["b", "c", "d"], "the first to go and the fourth to come")
    cache.close()


def test_a_failure_ahead_is_told_to_whoever_needs_the_file(tmp_path: Path, made: Made):
    tried = threading.Event()

    def fill(_file) -> None:
        tried.set()
        raise ValueError("no such thing")

    cache, bad = Cache(tmp_path, 3 * SIZE), Item("bad", SIZE, fill)
    cache.will_need("set", [(0.0, bad), (1.0, made.item("a"))])
    until(lambda: names(cache) == ["a"], "the one after it")
    assert tried.is_set()
    with pytest.raises(ValueError, match="no such thing"):
        read(cache, bad)
    cache.close()
    assert [file.name for file in tmp_path.iterdir() if file.name.endswith(".part")] == []


def test_a_file_that_lost_bytes_is_made_again(tmp_path: Path, made: Made):
    cache = Cache(tmp_path, 3 * SIZE)
    read(cache, made.item("a"))
    os.truncate(tmp_path / "a", 10)
    assert read(cache, made.item("a")) == b"a" * SIZE
    assert made.names == ["a", "a"]


def test_whoever_waited_for_a_file_gets_it_while_others_hold_it(tmp_path: Path, made: Made):
    """It must not wait for the file itself: whoever made it holds it for as long as it likes."""
    go_on, waiting = threading.Event(), threading.Event()

    def fill(file) -> None:
        go_on.wait()
        made.item("a").fill(file)

    slow, found = Item("a", SIZE, fill), []
    first, second = Cache(tmp_path, 10 * SIZE), Cache(tmp_path, 10 * SIZE)

    def work() -> None:
        with second.hold(slow) as path:
            found.append(path.read_bytes())
            waiting.set()

    def release() -> None:
        until(lambda: waits_for(tmp_path / "claims" / "a"), "the other to wait")
        go_on.set()

    threads = [threading.Thread(target=work), threading.Thread(target=release)]

    def meet(file) -> None:
        for thread in threads:
            thread.start()
        fill(file)

    with first.hold(Item("a", SIZE, meet)):
        assert waiting.wait(60)
    for thread in threads:
        thread.join()
    assert found == [b"a" * SIZE]
    assert made.names == ["a"]


def waits_for(path: Path) -> bool:
    """Whether somebody waits for the lock of the file at `path`."""
    inode = f":{path.stat().st_ino} "
    return any("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())


STUCK = """
import sys, time
from pathlib import Path
from trainer.data.cache import Cache, Item

def fill(file):
    file.write(b"half")
    file.flush()
    print("filling", flush=True)
    time.sleep(600)

cache = Cache(Path(sys.argv[1]), 10_000)
cache.will_need("set", [(0.0, Item("kept", 1000, fill))])
with cache.hold(Item("kept", 1000, fill)):
    pass
"""


@pytest.fixture
def stuck(tmp_path: Path):
    """A process that fills the file `kept` and does not come to an end."""
    process = subprocess.Popen([sys.executable, "-c", STUCK, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "filling\n"
    yield process
    process.kill()
    process.wait()


def test_what_a_killed_process_left_half_is_removed(tmp_path: Path, stuck: subprocess.Popen, made: Made):
    cache = Cache(tmp_path, 3 * SIZE)
    assert (tmp_path / "kept.part").exists()
    assert len(list((tmp_path / "needs").iterdir())) == 2
    stuck.send_signal(signal.SIGKILL)
    stuck.wait()
    for name in "abcd":
        assert read(cache, made.item(name)) == name.encode() * SIZE
    assert not (tmp_path / "kept.part").exists()
    assert list((tmp_path / "claims").iterdir()) == []
    assert len(list((tmp_path / "needs").iterdir())) == 1
    assert names(cache) == ["b", "c", "d"]


def test_whoever_waits_for_a_killed_process_goes_on_itself(tmp_path: Path, stuck: subprocess.Popen, made: Made):
    found: list[bytes] = []
    waiting = threading.Thread(target=lambda: found.append(read(Cache(tmp_path, 10 * SIZE), made.item("kept"))))
    waiting.start()
    until(lambda: waits_for(tmp_path / "claims" / "kept"), "it to wait")
    stuck.send_signal(signal.SIGKILL)
    waiting.join()
    assert found == [b"k" * SIZE]


def test_a_limit_nobody_set_leaves_room_on_the_disk(tmp_path: Path):
    statistics = os.statvfs(tmp_path)
    assert 0 < free_for(tmp_path / "new") < statistics.f_bavail * statistics.f_frsize * 1.01


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(1, 3))
def test_no_other_order_would_need_fewer_downloads(uses: list[int], room: int):
    def due_at(place: int) -> dict[str, float]:
        return {str(one): float(uses.index(one, place)) for one in set(uses[place:])}

    held: set[str] = set()
    misses = 0
    for place, use in enumerate(uses):
        if str(use) not in held:
            misses += 1
            if len(held) == room:
                held.remove(leaving([Present(name, 1, 0.0) for name in held], due_at(place), -1.0)[0].name)
            held.add(str(use))

    @cache
    def fewest(place: int, held: frozenset[int]) -> int:
        if place == len(uses):
            return 0
        use = uses[place]
        if use in held:
            return fewest(place + 1, held)
        if len(held) < room:
            return 1 + fewest(place + 1, held | {use})
        return 1 + min(fewest(place + 1, held - {gone} | {use}) for gone in held)

    assert misses == fewest(0, frozenset())
