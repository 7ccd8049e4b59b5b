"""What a person types to look into data: what is printed, exit codes, and errors that say what to do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.tiny import tiny_recipe
from tests.trainer.here import train_here
from tests.trainer.test_shelves import upload
from trainer.data.__main__ import main
from trainer.data.shards import ShardWriter

COLUMNS = {"caption": "str", "id": "str", "image": "bytes"}


def png(number: int, side: int = 16) -> bytes:
    import io

    out = io.BytesIO()
    Image.fromarray(np.full((side, 2 * side, 3), number, np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Nine good samples of which two share their bytes and two their id, and one that is no picture."""
    with ShardWriter(tmp_path / "set", COLUMNS, size_limit=600) as shards:
        for number in range(9):
            shards.write({"caption": " ".join(["word"] * number), "id": f"s{min(number, 7)}", "image": png(max(1, number))})
        shards.write({"caption": "none", "id": "bad", "image": b"no picture"})
    return tmp_path / "set"


@pytest.fixture
def data(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Run one command; returns (exit code, stdout, stderr)."""

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["trainer.data", *words])
        capsys.readouterr()
        code = main()
        return (code, *capsys.readouterr())

    return call


def test_dayrun_data_starts_the_trainers_part(pictures: Path, tmp_path: Path):
    code = "from dayrun.cli import main; main()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DAYRUN_DATA": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code, "data", "inspect", "set"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "10 samples in " in done.stdout


def test_inspect_tells_what_the_indexes_say(data, pictures: Path, bucket: str):
    code, out, _ = data("inspect", str(pictures))
    assert code == 0
    assert "hashes   sha1\ncolumn   caption  str\ncolumn   id  str\ncolumn   image  bytes\n" in out
    told = json.loads(data("inspect", upload(pictures, f"{bucket}/cli/set"), "--json")[1])
    assert told["columns"] == COLUMNS
    assert [(one["name"], one["samples"]) for one in told["buckets"]] == [(".", 10)]


def test_inspect_lists_buckets(data, pictures: Path, tmp_path: Path):
    whole = tmp_path / "buckets"
    whole.mkdir()
    pictures.rename(whole / "64x32")
    (whole / "dataset.json").write_text(
        json.dumps({"buckets": {"64x32": {"samples": 10}, "32x32": {"samples": 0}}, "rejects": {"small": 3}})
    )
    told = json.loads(data("inspect", str(whole), "--json")[1])
    assert [one["name"] for one in told["buckets"]] == ["64x32"]
    assert told["rejects"] == {"small": 3}
    assert "10 samples" in data("inspect", str(whole))[1]
    (whole / "dataset.json").write_text(json.dumps({"buckets": {"64x32": {"samples": 11, "sha256": "0" * 64}}}))
    code, _, err = data("verify", str(whole))
    assert code == 1
    assert f"{whole}/64x32/index.json: names 10 samples, dataset.json says 11" in err
    assert f"dataset.json says {'0' * 64}" in err


def test_verify_reads_every_byte(data, pictures: Path, bucket: str):
    assert "every byte is as its index says" in data("verify", upload(pictures, f"{bucket}/cli/whole"))[1]
    victim = pictures / "shard.00001.mds"
    spoiled = bytearray(victim.read_bytes())
    spoiled[-1] ^= 1
    victim.write_bytes(spoiled)
    code, out, err = data("verify", str(pictures))
    assert code == 1
    assert err.startswith(f"{victim}: sha1 is ")
    assert out.endswith(": 1 things are wrong\n")


def test_stats_tell_of_captions_pictures_and_doubles(data, pictures: Path, tmp_path: Path):
    code, out, _ = data("stats", str(pictures), "--all", "--sheet", str(tmp_path / "sheet.png"))
    assert code == 0
    assert "looked at 10 of 10 samples\n" in out
    assert "caption  caption: 0 to 8 (half 4 at most" in out
    assert ", 1 empty\n" in out
    assert "picture  9 PNG\npicture  width 32 to 32 " in out
    assert "double   1 pictures are another's, byte for byte\n         s0, s1\n" in out
    assert "double   1 ids name several samples: s7\n" in out
    assert "unusable 1\n" in out
    assert "column 'image' is no picture: cannot identify image file" in out
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 8 * 128
    told = json.loads(data("stats", str(pictures), "--samples", "3", "--json")[1])
    assert 3 <= told["seen"] < 10
    code, _, err = data("stats", str(pictures), "--sheet", str(tmp_path / "none" / "sheet.png"))
    assert (code, err) == (1, f"dayrun: --sheet {tmp_path}/none/sheet.png: No such file or directory\n")


def test_a_data_set_that_is_not_there_is_named(data, tmp_path: Path):
    code, _, err = data("inspect", str(tmp_path / "none"))
    assert code == 1
    assert err.startswith(f"dayrun: {tmp_path}/none: there is no such folder; ")


def test_trained_on_tells_when_a_run_saw_a_sample(data, tmp_path: Path):
    from dayrun.objects import Prefix
    from dayrun.run_folder import RunFolder
    from tests.tiny import TOKENS, WIDTH

    columns = COLUMNS | {"caption_latent": f"ndarray:float16:{TOKENS},{WIDTH}", "caption_mask": f"ndarray:uint8:{TOKENS}"}
    with ShardWriter(tmp_path / "trained", columns) as shards:
        for number in range(12):
            latents = {"caption_latent": np.zeros((TOKENS, WIDTH)), "caption_mask": [1] * TOKENS}
            shards.write({"caption": "a", "id": f"s{number}", "image": png(number), **latents})
    run = tmp_path / "run"
    assert train_here(tiny_recipe(tmp_path / "trained", steps=12, processes=1), RunFolder(Prefix(run))) == 0
    told = [json.loads(data("trained-on", f"s{number}", "--run", str(run), "--json")[1])[0] for number in range(12)]
    assert sorted(position for one in told for position in one["positions"]) == list(range(12 * 8))
    assert {one["times"] for one in told} == {8}
    assert (
        f"s3: sample 3 was trained on 8 times, at positions {', '.join(map(str, told[3]['positions']))}\n"
        == (data("trained-on", "s3", "--run", str(run))[1])
    )
    code, _, err = data("trained-on", "s99", "--run", str(run))
    assert code == 1
    assert "no sample of " in err
    code, _, err = data("trained-on", "s3", "--run", str(tmp_path / "none"))
    assert code == 2
    assert err == (f"dayrun: --run {tmp_path}/none: no run in {tmp_path}/none; give its folder, or DAYRUN_RUNS as the service has it\n")
    assert not (tmp_path / "none").exists()
