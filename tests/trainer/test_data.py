"""Tiny runs on data of several shapes and sources: what a batch holds, what a run's folder says of it, and what is left out and why."""

import io
import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dayrun.objects import Prefix
from dayrun.rules import load
from dayrun.run_folder import RunFolder
from tests.tiny import TOKENS, WIDTH, tiny_recipe
from tests.trainer.here import train_here
from trainer.data.buckets import Size, buckets
from trainer.data.loader import Loader
from trainer.data.records import RecordError, trained_on
from trainer.data.shards import ShardWriter
from trainer.evaluation.reference import Reference
from trainer.faults import DataFault

PIXELS, PATCH, BATCH = 16, 4, 4
SIZES = buckets(PIXELS, PATCH)
COUNTS = dict(zip(SIZES, (10, 23, 7), strict=True))


def write_bucket(folder: Path, size: Size, count: int, name: str = "", spoilt: range = range(0)) -> None:
    """Random pictures with ids `NAME/NUMBER`; those of `spoilt` are no pictures."""
    chance = np.random.default_rng(0)
    columns = {"image": "bytes", "id": "str", "caption": "str", "short": "str"}
    columns |= {"caption_latent": f"ndarray:float16:{TOKENS},{WIDTH}", "caption_mask": f"ndarray:uint8:{TOKENS}"}
    with ShardWriter(folder, columns, size_limit=5000) as shards:
        for number in range(count):
            buffer = io.BytesIO()
            Image.fromarray(chance.integers(0, 256, (size.height, size.width, 3), dtype=np.uint8)).save(buffer, "PNG")
            sample = {"image": b"no" if number in spoilt else buffer.getvalue(), "id": f"{name or size}/{number}"}
            states = chance.standard_normal((TOKENS, WIDTH))
            shards.write(sample | {"caption": f"noise {number}", "short": "s", "caption_latent": states, "caption_mask": [1] * TOKENS})


def write_buckets(folder: Path, counts: dict[Size, int], spoilt: range = range(0)) -> Path:
    for size, count in counts.items():
        write_bucket(folder / str(size), size, count, spoilt=spoilt)
    (folder / "dataset.json").write_text(json.dumps({"buckets": {str(size): {"samples": count} for size, count in counts.items()}}))
    return folder


def recipe_of(*folders: Path, **sections: Any) -> dict[str, Any]:
    data = {"sources": [{"url": str(folder)} for folder in folders], "buckets": "aspect", "threads": 2} | sections.pop("data", {})
    stages = [
        {"name": "one", "pixels": PIXELS, "steps": 14, "batch_size": BATCH},
        {"name": "two", "pixels": 2 * PIXELS, "steps": 6, "batch_size": 2, "micro_batch_size": 1},
    ]
    routing = {"kind": "tread", "start": 0, "end": 0}
    more = {"processes": 1, "checkpoints": {"every": 5, "keep_last": 10}, "routing": routing, "stages": stages}
    return tiny_recipe(folders[0], **(more | {"data": data} | sections))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_buckets(tmp_path_factory.mktemp("aspect"), COUNTS)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(Prefix(tmp_path_factory.mktemp("run")))
    evaluation = {"every": 100, "metrics": ["validation_loss"], "held_out": 0.1}
    assert (
        train_here(recipe_of(data, evaluation=evaluation, model=tiny_recipe(data)["model"] | {"resolution_conditioning": "token"}), folder)
        == 0
    )
    return folder


def everything(loader: Loader, first: int, steps: int, batch: int = BATCH) -> list[int]:
    return [number for k in range(steps) for number in loader.order.batch(first + k * batch).numbers.tolist()]


# batches


def test_every_batch_is_of_one_shape_and_each_sample_comes_once_an_epoch(data: Path):
    loader = Loader(load(recipe_of(data)), PIXELS, batch_size=BATCH)
    shapes = Counter(tuple(batch.images.shape) for batch in islice(loader.batches(0, BATCH, BATCH, 0, 1), 40))
    assert set(shapes) == {(BATCH, 3, size.height, size.width) for size in SIZES}
    for size, count in shapes.items():
        assert count * BATCH == pytest.approx(160 * COUNTS[Size(size[3], size[2])] / 40, abs=2 * BATCH)
    times = Counter(everything(loader, 0, 100))  # ten epochs
    assert set(times) == set(range(40))
    assert {9, 10, 11} >= set(times.values())


def test_ranks_see_one_stream_whatever_their_number_and_where_it_is_taken_up(data: Path):
    def seen(world: int, micro: int, first: int = 0) -> dict[int, tuple[Any, ...]]:
        loaders = [Loader(load(recipe_of(data, data={"shuffle_block": 8})), PIXELS, batch_size=BATCH) for _ in range(world)]
        streams = [islice(one.batches(first, BATCH, micro, rank, world), 12 * BATCH // world // micro) for rank, one in enumerate(loaders)]
        batches = [batch for stream in streams for batch in stream]
        return {p: (b.images[i], b.captions[i]) for b in batches for i, p in enumerate(b.positions)}

    alone = seen(1, 4)
    assert sorted(alone) == list(range(48))
    for world, micro, first in ((2, 1, 0), (4, 1, 0), (2, 2, 12), (1, 2, 40)):
        some = seen(world, micro, first)
        for position in alone.keys() & some.keys():
            assert (some[position][0] == alone[position][0]).all()
            assert some[position][1] == alone[position][1]


def test_captions_are_chosen_by_weight_for_each_draw(data: Path):
    captions = [{"weight": 3.0}, {"column": "short", "weight": 1.0}]
    loader = Loader(
        load(recipe_of(data, data={"captions": captions}, text={"encoder": "transformers", "source": "x", "precomputed": False})), PIXELS
    )
    drawn = [caption for batch in islice(loader.batches(0, 8, 8, 0, 1), 100) for caption in batch.captions]
    assert sum(caption == "s" for caption in drawn) / 800 == pytest.approx(1 / 4, abs=0.05)
    again = [caption for batch in islice(loader.batches(0, 8, 4, 0, 1), 20) for caption in batch.captions]
    assert again == drawn[:80]


def test_a_source_has_its_share_of_the_draws(data: Path, tmp_path: Path):
    write_bucket(tmp_path / "few", Size(PIXELS, PIXELS), 5)
    sources = [{"url": str(data), "weight": 1.0}, {"url": str(tmp_path / "few"), "weight": 3.0}]
    loader = Loader(load(recipe_of(data, data={"sources": sources})), PIXELS, batch_size=BATCH)
    numbers = everything(loader, 0, 1000)
    assert sum(number >= 40 for number in numbers) / 4000 == pytest.approx(3 / 4, abs=0.01)
    assert {loader.order.batch(k * BATCH).size for k in range(1000)} == set(SIZES)


def test_a_stage_of_other_pixels_trains_each_bucket_at_its_own_shape_there(data: Path):
    loader = Loader(load(recipe_of(data)), 2 * PIXELS, batch_size=2)
    assert {group.size for group in loader.order.groups} == {Size(24, 40), Size(32, 32), Size(40, 24)}
    batches = islice(loader.batches(0, 2, 2, 0, 1), 20)
    assert {tuple(batch.images.shape[2:]) for batch in batches} == {(40, 24), (32, 32), (24, 40)}


def test_square_takes_the_middle_of_every_bucket(data: Path):
    loader = Loader(load(recipe_of(data, data={"buckets": "square"})), PIXELS)
    assert next(loader.batches(0, 8, 8, 0, 1)).images.shape == (8, 3, PIXELS, PIXELS)
    assert len(loader.order.groups) == 1


def test_more_ranks_than_samples_of_a_bucket_still_have_a_sample_each(tmp_path: Path):
    counts = dict(zip(SIZES, (2, 30, 1), strict=True))
    loader = Loader(load(recipe_of(write_buckets(tmp_path, counts))), PIXELS, batch_size=8)
    assert set(loader.order.joined.values()) == {Size(PIXELS, PIXELS)}
    shares = [next(loader.batches(0, 8, 1, rank, 8)) for rank in range(8)]
    assert [len(share.positions) for share in shares] == [1] * 8
    assert set(everything(loader, 0, 20, 8)) == set(range(33))


# what cannot be used


def test_bad_pictures_are_replaced_by_others_of_their_shape_and_listed_with_the_reason(tmp_path: Path):
    data = write_buckets(tmp_path / "data", COUNTS, spoilt=range(1))
    run = RunFolder(Prefix(tmp_path / "run"))
    assert train_here(recipe_of(data), run) == 0
    lines = list(run.bad_samples())
    assert {line["number"] for line in lines} == {0, 10, 33}  # the first of each bucket
    for line in lines:
        assert line["because"] == "column 'image' is no picture: it is no whole picture: " + line["because"].rsplit(": ", 1)[1]
        assert (line["stage"], line["sample"]) in {(0, 0), (1, 0)}
        bucket = next(size for size, start in zip(SIZES, (0, 10, 33), strict=True) if start == line["number"])
        assert line["file"] == f"{data}/{bucket}/shard.00000.mds"
        assert line["instead"] != line["number"]
        assert line["instead"] - line["number"] in range(COUNTS[bucket])
    (told, *_) = [event for event in run.events() if event["type"] == "bad_samples"]
    assert told["data"]["count"] == 1
    (one,) = trained_on(run, f"{SIZES[1]}/0")
    assert one.positions == []
    assert set(one.could_not_be_read) <= {line["position"] for line in lines if line["number"] == 10}
    assert one.could_not_be_read
    stood_in = next(line for line in lines if line["stage"] == 0 and line["position"] < 14 * BATCH)
    bucket = next(size for size, start in zip(SIZES, (0, 10, 33), strict=True) if start == stood_in["number"])
    (other,) = trained_on(run, f"{bucket}/{stood_in['instead'] - stood_in['number']}")
    assert stood_in["position"] in other.instead_of_others


def test_a_caption_that_is_no_text_is_a_bad_sample(tmp_path: Path):
    with ShardWriter(tmp_path, {"image": "bytes", "caption": "json"}) as shards:
        for _ in range(30):
            shards.write({"image": b"", "caption": ["a", "list"]})
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    with ShardWriter(tmp_path, {"image": "bytes", "caption": "json"}) as shards:
        for _ in range(30):
            shards.write({"image": buffer.getvalue(), "caption": ["a", "list"]})
    recipe = recipe_of(tmp_path, text={"encoder": "transformers", "source": "x", "precomputed": False})
    with pytest.raises(DataFault, match=r"column 'caption' is no caption: list \['a', 'list'\]"):
        next(Loader(load(recipe), PIXELS).batches(0, 4, 4, 0, 1))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "does not say which buckets there are (JSONDecodeError"),
        ('{"buckets": {"wide": {"samples": 1}}}', "'wide' is not the name of a bucket; expected WIDTHxHEIGHT in pixels, e.g. 1024x768"),
        ('{"buckets": {"16x16": {"samples": 0}}}', "names no bucket with samples; convert at least one picture"),
        ('{"buckets": {"16x16": {"samples": 1}}}', "16x16: there is no such folder"),
    ],
)
def test_a_data_set_whose_buckets_cannot_be_read_is_told(tmp_path: Path, text: str, said: str):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataFault) as refused:
        Loader(load(recipe_of(tmp_path)), PIXELS)
    assert said in str(refused.value)


# runs


def test_a_run_on_several_shapes_trains_through_all_its_stages(run: RunFolder):
    losses = [metric["value"] for metric in run.metrics() if metric["name"] == "loss"]
    assert len(losses) == 20
    assert np.isfinite(losses).all()
    (evaluated,) = [event for event in run.events() if event["type"] == "evaluated"]
    assert evaluated["data"]["metrics"]


def test_held_out_samples_are_seen_as_squares_whatever_their_bucket(run: RunFolder):
    reference = Reference(load(run.recipe()), PIXELS, None)
    assert reference.some(list(range(len(reference)))).images.shape == (len(reference), 3, PIXELS, PIXELS)


def test_what_was_trained_on_is_told_for_every_sample(run: RunFolder):
    recipe = load(run.recipe())
    one, two = Loader(recipe.at_stage(0), PIXELS, batch_size=BATCH), Loader(recipe.at_stage(1), 2 * PIXELS, batch_size=2)
    times = Counter(everything(one, 0, 14)) + Counter(everything(two, 14 * BATCH, 6, 2))
    held = set(one.held_out)
    assert held
    assert not held & set(times)
    names = [f"{size}/{i}" for size, count in COUNTS.items() for i in range(count)]
    for number in (0, 10, 33, *held):
        (found,) = trained_on(run, names[number])
        assert found.number == number
        assert found.held_out == (number in held)
        assert found.times == times[number]
        for position in found.positions:
            at = one.order.sample_at(position) if position < 14 * BATCH else two.order.sample_at(position)
            assert at == number


def test_the_records_are_a_chain_that_ends_at_the_newest_checkpoint(run: RunFolder):
    records = list(run.trained())
    assert [(r["stage"], r["first"], r["end"]) for r in records] == [(0, 0, 20), (0, 20, 40), (0, 40, 56), (1, 56, 58), (1, 58, 68)]
    assert [r["previous"] for r in records] == [None, *(r["digest"] for r in records[:-1])]
    assert run.checkpoint_manifest(run.checkpoints()[-1])["trained"] == records[-1]["digest"]


def test_an_unknown_sample_and_changed_data_are_told(run: RunFolder, data: Path):
    with pytest.raises(RecordError, match=r"'nobody/1': no sample of .* has this id"):
        trained_on(run, "nobody/1")
    with pytest.raises(RecordError, match=r"has no column 'key' to find 'x' by; it has \['caption'"):
        trained_on(run, "x", column="key")
    index = data / str(SIZES[0]) / "index.json"
    before = index.read_bytes()
    index.write_bytes(before + b" ")
    try:
        with pytest.raises(RecordError, match=r"are not the data that .* was trained on: their indexes have changed"):
            trained_on(run, f"{SIZES[1]}/0")
    finally:
        index.write_bytes(before)


def test_a_record_that_was_changed_or_is_gone_is_told(run: RunFolder):
    key = next(info.key for info in run.prefix.objects("trained"))
    before = run.prefix.get(key)
    lines = before.splitlines(keepends=True)
    changed = json.dumps(json.loads(lines[0]) | {"end": 24}).encode() + b"\n"
    try:
        run.prefix.put(key, b"".join([changed, *lines[1:]]))
        with pytest.raises(RecordError, match=r"was changed: its SHA-256 is"):
            trained_on(run, f"{SIZES[1]}/0")
        run.prefix.put(key, b"".join(lines[1:]))
        with pytest.raises(RecordError, match=r"is not there, which a later one or a checkpoint names"):
            trained_on(run, f"{SIZES[1]}/0")
    finally:
        run.prefix.put(key, before)


def test_a_resumed_run_goes_on_with_the_chain_of_its_checkpoint(data: Path, tmp_path: Path):
    straight, broken = (RunFolder(Prefix(tmp_path / name)) for name in ("straight", "broken"))
    recipe = recipe_of(data)
    assert train_here(recipe, straight) == 0
    assert train_here(recipe, broken) == 0
    for step in broken.checkpoints():
        if step > 10:  # as if the run had been killed after the checkpoint of step 10
            broken.delete_checkpoint(step)
    assert train_here(recipe, broken) == 0
    ends = [run.checkpoint_manifest(run.checkpoints()[-1])["trained"] for run in (straight, broken)]
    assert ends[0] == ends[1]
    assert trained_on(broken, f"{SIZES[1]}/3") == trained_on(straight, f"{SIZES[1]}/3")
