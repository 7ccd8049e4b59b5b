"""Runs whose data come from an object store through the cache: the same as from a folder, whatever is killed; limits that cannot work."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dayrun.objects import Prefix
from dayrun.recipe_errors import RecipeErrors
from dayrun.rules import load
from dayrun.run_folder import RunFolder
from tests.conftest import ROOT
from tests.tiny import tiny_recipe, write_data
from tests.trainer.here import train_here
from tests.trainer.test_shelves import upload
from trainer.data.cache import Cache
from trainer.data.loader import Loader
from trainer.data.sets import needed_bytes
from trainer.data.shards import ShardSet, ShardWriter

BATCH, STEPS = 8, 120


@pytest.fixture(scope="module")
def stored(bucket: str, tiny_data: Path) -> str:
    return upload(tiny_data, f"{bucket}/cached/tiny")


@pytest.fixture(scope="module")
def many_shards(bucket: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """480 samples in shards of two or three: they are read twice over in the steps of this file."""
    folder = tmp_path_factory.mktemp("many")
    whole = ShardSet(write_data(folder / "whole", samples=STEPS * BATCH // 2))
    with ShardWriter(folder / "set", whole.columns, size_limit=1024) as shards:
        for sample in whole:
            shards.write(sample)
    return upload(folder / "set", f"{bucket}/cached/many")


def events(folder: RunFolder, type: str) -> list[dict[str, Any]]:
    return [event for event in folder.events() if event["type"] == type]


def test_data_from_a_store_train_the_same_run(stored: str, tiny_data: Path, tmp_path: Path):
    runs = {}
    evaluation = {"every": 10, "metrics": ["validation_loss"], "validation_samples": 8, "guidance": 1.0}
    for name, url in (("folder", str(tiny_data)), ("store", stored)):
        data = {"sources": [{"url": url}], "threads": 2, "cache": {"folder": str(tmp_path / "cache")}}
        recipe = tiny_recipe(url, steps=20, processes=1, data=data, evaluation=evaluation | {"reference": url})
        folder = RunFolder(Prefix(tmp_path / name))
        assert train_here(recipe, folder) == 0, events(folder, "ended")
        runs[name] = {(m["step"], m["name"]): m["value"] for m in folder.metrics() if "loss" in m["name"]}
    assert runs["store"] == runs["folder"]
    assert any("validation" in name for _, name in runs["store"])
    shards = list(tiny_data.glob("*.mds"))
    assert len(Cache(tmp_path / "cache", 1 << 30).present()) == len(shards)
    told = {metric["name"]: metric["value"] for metric in RunFolder(Prefix(tmp_path / "store")).metrics()}
    assert told["cache_fetched_shards"] >= len(shards)
    assert told["cache_fetched_bytes"] >= sum(shard.stat().st_size for shard in shards)
    assert told["cache_hits"] + told["cache_waits"] >= len(shards)
    assert told["samples_read"] >= 20 * BATCH
    assert "bad_samples" not in told  # there was none


def test_a_cache_that_cannot_work_is_refused_with_the_number_that_would_and_that_one_works(stored: str, tmp_path: Path):
    def loader(limit: int, folder: str) -> Loader:
        cache = {"folder": str(tmp_path / folder), "bytes": limit}
        return Loader(load(tiny_recipe(stored, data={"sources": [{"url": stored}], "cache": cache, "shuffle_block": 16})), 8, batch_size=8)

    with pytest.raises(RecipeErrors) as error:
        loader(1000, "small")
    (refused,) = error.value.errors
    because = f"two blocks of 16 samples and what 2 processes hold take {refused.nearest[0]:,} bytes"
    assert str(refused) == f"/data/cache/bytes: 1000: {because}; nearest: {refused.nearest[0]}"
    enough = loader(refused.nearest[0], "enough")
    batches = enough.batches(0, 8, 8, 0, 1)
    assert [len(next(batches).positions) for _ in range(16)] == [8] * 16
    batches.close()
    assert enough.samples.cache().used() <= refused.nearest[0]


def test_the_room_that_is_needed_is_a_block_of_samples_and_what_is_held():
    recipe = load(tiny_recipe("x", processes=1, data={"sources": [{"url": "x"}], "shuffle_block": 100}))
    small = needed_bytes([[10] * 4], samples=40, keep=2, recipe=recipe)
    assert small == 4 * 10 + 2 * 10  # all of it, and what is on its way
    large = needed_bytes([[10] * 1000], samples=10_000, keep=2, recipe=recipe)
    assert large == 2 * 10 + 2 * (10_000 // 100 + 2 * 10) + 2 * 10  # held, two blocks with both ends, on its way
    wide = load(tiny_recipe("x", processes=2, data={"sources": [{"url": "x"}], "shuffle_block": 100}) | {"evaluation": {"guidance": 1.0}})
    assert needed_bytes([[10] * 1000], 10_000, 2, wide) == 4 * 2 * 10 + 2 * (100 + 2 * 10) + 2 * 2 * 10


def straight(recipe: dict[str, Any]) -> list[int]:
    """The samples of all steps, in order, as nobody disturbs them."""
    loader = Loader(load(recipe), 8, batch_size=BATCH)
    return [int(n) for first in range(0, STEPS * BATCH, BATCH) for n in loader.order.batch(first).numbers]


def read_with_kills(recipe: dict[str, Any], ranks: int, kills: int, chance: random.Random, folder: Path) -> list[int]:
    """The samples that `ranks` reading processes got, each step's from those who completed it, killed `kills` times at random moments."""
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.trainer.reading", json.dumps(recipe), str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert driver.stdin is not None
    assert driver.stdout is not None
    done = killed = 0
    got: dict[int, int] = {}
    while done < STEPS:
        driver.stdin.write(json.dumps({"ranks": ranks, "first": done, "steps": STEPS}) + "\n")
        driver.stdin.flush()
        pids = json.loads(driver.stdout.readline())
        lines, wanted = 0, chance.randrange(1, ranks * (STEPS - done) + 1) // 4 if killed < kills else 0
        steps: dict[int, dict[int, int]] = {}
        finished = 0
        while finished < ranks:
            line = driver.stdout.readline().split()
            if line[0] == "end":
                finished += 1
                continue
            step, pairs = int(line[0]), [pair.split(":") for pair in line[1:]]
            steps.setdefault(step, {}).update({int(position): int(number) for position, number in pairs})
            lines += 1
            if killed < kills and lines >= wanted and wanted >= 0:
                os.kill(chance.choice(pids), signal.SIGKILL)
                killed, wanted = killed + 1, -1
                # what torchrun does: the others have to go, too
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
        whole = [step for step in sorted(steps) if len(steps[step]) == BATCH]
        for step in whole:
            got |= steps[step]
        done = whole[-1] + 1 if whole else done
    driver.stdin.close()
    driver.wait()
    assert killed == kills
    return [got[position] for position in range(STEPS * BATCH)]


def recipe_on(url: str, folder: Path, ranks: int) -> dict[str, Any]:
    """Of a data set that is read in small blocks, through a cache that holds no more than it must."""
    data = {"sources": [{"url": url}], "threads": 2, "shuffle_block": 16}
    cache = {"folder": str(folder / "cache"), "bytes": 1}
    with pytest.raises(RecipeErrors) as error:
        Loader(load(tiny_recipe(url, processes=ranks, data=data | {"cache": cache})), 8)
    cache |= {"folder": str(folder / "just-enough"), "bytes": error.value.errors[0].nearest[0]}
    return tiny_recipe(url, processes=ranks, data=data | {"cache": cache})


def kill_and_compare(url: str, folder: Path, ranks: int, kills: int) -> None:
    recipe = recipe_on(url, folder, ranks)
    cache = recipe["data"]["cache"]
    assert read_with_kills(recipe, ranks, kills, random.Random(ranks), folder) == straight(recipe)
    left = Cache(Path(cache["folder"]), cache["bytes"])
    assert left.used() <= cache["bytes"]
    assert not list(left.folder.glob("*.part"))
    assert 0 < len(left.present()) < len(Loader(load(recipe), 8).samples.stretches[0].shards.entries)  # it was too small for all
    left.close()


@pytest.mark.long
def test_readers_that_are_killed_read_what_they_would_have_read(many_shards: str, tmp_path: Path):
    kill_and_compare(many_shards, tmp_path, ranks=2, kills=3)


@pytest.mark.long
@pytest.mark.parametrize(("ranks", "kills"), [(1, 16), (2, 17), (4, 17)])
def test_fifty_kills_change_nothing(many_shards: str, tmp_path: Path, ranks: int, kills: int):
    kill_and_compare(many_shards, tmp_path, ranks, kills)
