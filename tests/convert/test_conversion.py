"""A conversion as a whole: the same bytes by any number of workers and after any end, and what it refuses to mix."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dayrun.objects import Prefix
from tests.convert.sources import OPTIONS, bytes_of, folder, mixed_tars, picture, rejects_in, stored_in, tar
from trainer.data.buckets import Size, nearest
from trainer.data.convert.__main__ import main
from trainer.data.convert.conversion import Progress, convert
from trainer.data.convert.executors import Here
from trainer.data.convert.filters import Options
from trainer.data.convert.forecast import forecast
from trainer.data.convert.output import ConversionError
from trainer.data.convert.sources import Reading

UNIQUE = Options(pixels=64, patch=16, unique=True)


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixed_tars(tmp_path_factory.mktemp("tars"))


@pytest.fixture(scope="module")
def undisturbed(tars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    convert(str(tars), str(out), UNIQUE)
    return out


def test_every_picture_is_in_the_bucket_nearest_to_its_ratio_and_of_its_size(undisturbed: Path):
    stored = stored_in(undisturbed)
    assert len(stored) == 3 * 8 - 2
    for sample in stored.values():
        assert sample["bucket"] == f"{sample['width']}x{sample['height']}"
        assert Size.of(sample["bucket"]) in UNIQUE.buckets()
    assert nearest(90, 60, UNIQUE.buckets()) == Size(80, 48)


def test_of_pictures_that_look_the_same_the_first_in_the_source_is_kept(undisturbed: Path):
    assert rejects_in(undisturbed) == {
        f"0000{number}/0007": ("repeated", "looks the same as 00000/0007, which is kept") for number in (1, 2)
    }


@pytest.mark.parametrize("workers", [2, 3])
def test_the_bytes_are_the_same_by_any_number_of_workers(undisturbed: Path, tars: Path, tmp_path: Path, workers: int):
    convert(str(tars), str(tmp_path / "out"), UNIQUE, Here(workers))
    assert bytes_of(tmp_path / "out") == bytes_of(undisturbed)


def test_a_conversion_that_was_killed_goes_on_to_the_same_bytes(undisturbed: Path, tars: Path, tmp_path: Path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "trainer.data.convert", "convert", str(tars), str(out), "--pixels", "64", "--patch", "16", "--unique"]
    running = subprocess.Popen([*command, "--workers", "1"], stderr=subprocess.DEVNULL)
    while running.poll() is None and not list(out.glob("parts/*.json")):
        time.sleep(0.001)
    running.send_signal(signal.SIGKILL)
    running.wait()
    begun = len(list(out.glob("parts/*.json")))
    (out / ".writing" / "00001").mkdir(parents=True, exist_ok=True)
    (out / ".writing" / "00001" / "half").write_bytes(b"what a task that died leaves")
    (out / "64x64").mkdir(exist_ok=True)
    (out / "64x64" / "00002.00000.mds").write_bytes(b"what an earlier try left, and nothing names")
    told: list[Progress] = []
    convert(str(tars), str(out), UNIQUE, tell=lambda progress: told.append(Progress(**vars(progress))))
    assert bytes_of(out) == bytes_of(undisturbed)
    first = next(progress for progress in told if progress.what == "converting")
    assert first.done == begun >= 1


def test_what_is_committed_is_not_done_again_and_what_was_lost_is(undisturbed: Path, tars: Path, tmp_path: Path):
    out = tmp_path / "out"
    convert(str(tars), str(out), UNIQUE)
    times = {file: file.stat().st_mtime_ns for file in out.rglob("*.mds")}
    lost = next(file for file in times if file.name.startswith("00001."))
    lost.unlink()
    convert(str(tars), str(out), UNIQUE)
    assert bytes_of(out) == bytes_of(undisturbed)
    assert {file for file in times if file.stat().st_mtime_ns != times[file]} == {f for f in times if f.name.startswith("00001.")}


def test_more_tars_are_added_and_tars_that_are_gone_leave(tars: Path, tmp_path: Path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("00000", "00001", "00002"):
        if name != "00001":
            os.link(tars / f"{name}.tar", source / f"{name}.tar")
    convert(str(source), str(out), OPTIONS)
    before = {file.name: file.stat().st_mtime_ns for file in out.rglob("*.mds")}
    os.link(tars / "00001.tar", source / "00001.tar")
    (source / "00002.tar").unlink()
    made = convert(str(source), str(out), OPTIONS)
    after = {file.name: file.stat().st_mtime_ns for file in out.rglob("*.mds")}
    assert made.samples == 16
    assert {name[:5] for name in after} == {"00000", "00001"}
    assert all(after[name] == before[name] for name in before if name.startswith("00000."))
    convert(str(source), str(tmp_path / "anew"), OPTIONS)
    assert bytes_of(out) == bytes_of(tmp_path / "anew")


def test_other_options_are_not_mixed_in(undisturbed: Path, tars: Path):
    with pytest.raises(ConversionError, match="was begun with other options: quality was 92 and is 80; give the same, name another place"):
        convert(str(tars), str(undisturbed), Options(pixels=64, patch=16, unique=True, quality=80))


def test_shards_of_another_origin_are_not_written_over(tars: Path, tmp_path: Path):
    folder(tmp_path / "out", {"index.json": b"{}"})
    with pytest.raises(ConversionError, match="holds shards of another origin; name an empty place"):
        convert(str(tars), str(tmp_path / "out"), OPTIONS)


def test_a_square_data_set_is_one_folder(tmp_path: Path):
    tar(tmp_path / "x.tar", [("a.jpg", picture(90, 60)), ("a.txt", b"a"), ("b.jpg", picture(60, 90)), ("b.txt", b"b")])
    made = convert(str(tmp_path / "x.tar"), str(tmp_path / "out"), Options(pixels=48, patch=16, square=True))
    assert list(made.buckets) == ["."]
    assert {(s["width"], s["height"]) for s in stored_in(tmp_path / "out").values()} == {(48, 48)}
    assert (tmp_path / "out" / "index.json").is_file()


def test_kept_pictures_keep_bytes_and_size(tmp_path: Path):
    data = picture(201, 100)
    tar(tmp_path / "x.tar", [("a.jpg", data), ("a.txt", b"a")])
    convert(str(tmp_path / "x.tar"), str(tmp_path / "out"), Options(pixels=64, patch=16, keep=True))
    sample = stored_in(tmp_path / "out")["x/a"]
    assert (sample["image"], sample["width"], sample["height"]) == (data, 201, 100)
    assert sample["bucket"] == str(nearest(201, 100, OPTIONS.buckets()))


def test_a_folder_is_cut_into_parts(tmp_path: Path):
    folder(tmp_path / "set", {f"{i}.{kind}": data for i in range(5) for kind, data in (("jpg", picture(seed=i)), ("txt", b"text"))})
    options = Options(pixels=64, patch=16, reading=Reading(slice=2))
    convert(str(tmp_path / "set"), str(tmp_path / "out"), options)
    assert sorted(file.stem for file in (tmp_path / "out" / "parts").iterdir()) == ["set-00000", "set-00001", "set-00002"]
    assert sorted(stored_in(tmp_path / "out")) == [f"set/{i}" for i in range(5)]


def test_captions_and_further_columns_come_from_the_fields_that_are_named(tmp_path: Path):
    tar(tmp_path / "x.tar", [("a.jpg", picture()), ("a.txt", b"short"), ("a.json", b'{"long": "a long one", "colour": "red", "n": 3}')])
    options = Options(pixels=64, patch=16, captions=(("caption", "txt"), ("detailed", "long")), columns=(("colour", "str"), ("n", "int")))
    made = convert(str(tmp_path / "x.tar"), str(tmp_path / "out"), options)
    sample = stored_in(tmp_path / "out")["x/a"]
    assert (sample["caption"], sample["detailed"], sample["colour"], sample["n"]) == ("short", "a long one", "red", 3)
    assert made.columns["n"] == "int"


def test_a_forecast_of_all_samples_is_what_the_conversion_gives(tars: Path, tmp_path: Path):
    told = forecast(str(tars), OPTIONS, workers=2, dollars_per_core_hour=0.05)
    made = convert(str(tars), str(tmp_path / "out"), OPTIONS)
    assert (told.samples, told.stored) == (24, 24)
    assert told.buckets == {bucket: about["samples"] for bucket, about in made.buckets.items()}
    assert told.bytes == pytest.approx(sum(about["bytes"] for about in made.buckets.values()), rel=0.15)
    assert told.hours * 2 == pytest.approx(told.core_hours)
    assert told.dollars == pytest.approx(told.core_hours * 0.05)
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_the_command_line_converts_and_goes_on(tars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["convert", str(tars), str(tmp_path / "out"), "--pixels", "64", "--patch", "16", "--workers", "1"]
    assert main([*arguments, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stored"] == 24
    assert not (tmp_path / "out").exists()
    assert main(arguments) == 0
    assert "24 samples in" in capsys.readouterr().out
    assert main([*arguments, "--quality", "50"]) == 1
    assert "quality was 92 and is 50" in capsys.readouterr().err
    assert main([*arguments[:-4], "--patch", "15"]) == 1
    assert "patches of 15 px do not divide a square of 64 px; nearest: 60" in capsys.readouterr().err


def test_a_recipe_says_sizes_and_shape(tars: Path, tmp_path: Path):
    assert main(["convert", str(tars), str(tmp_path / "out"), "--recipe", "demo", "--workers", "1"]) == 0
    told = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert list(told["buckets"]) == ["."]
    assert {s["width"] for s in stored_in(tmp_path / "out").values()} == {told["reference_pixels"]}


def test_a_prefix_stands_for_a_folder(tars: Path, tmp_path: Path):
    """The local store goes the same way as S3's, but for what is copied: `tests/convert/test_long.py` has the real one."""
    convert(f"file://{tars}", str(tmp_path / "out"), OPTIONS)
    assert Prefix(tmp_path / "out").exists("dataset.json")
