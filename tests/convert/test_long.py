"""Conversions at some length: thousands of real pictures, kills at random moments, Ray, and an object store on both ends."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from demo.data import default_cache, fetch
from tests.conftest import ROOT, until
from tests.convert.sources import OPTIONS, WidthsOf, bytes_of, mixed_tars, stored_in, tar
from trainer.data.convert.annotate import annotate
from trainer.data.convert.conversion import convert
from trainer.data.convert.executors import Here, OnRay
from trainer.data.convert.filters import Options
from trainer.data.convert.networks import CaptionsOf
from trainer.data.convert.output import ConversionError

pytestmark = pytest.mark.long
REAL = Options(pixels=128, patch=16, unique=True)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tars of all 3-D emoji of the demo's package, each with its code points as its caption."""
    place = tmp_path_factory.mktemp("real")
    files = sorted((fetch(default_cache()) / "lobehub_fluent-emoji-3d/package/assets").iterdir())
    for first in range(0, len(files), 250):
        some = [(f"{file.stem}{file.suffix}", file.read_bytes()) for file in files[first : first + 250]]
        tar(
            place / f"{first:05d}.tar",
            [each for name, data in some for each in ((name, data), (f"{name.split('.')[0]}.txt", name.encode()))],
        )
    return place


@pytest.fixture(scope="module")
def by_one(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("by-one") / "out"
    made = convert(str(real), str(out), REAL)
    assert made.samples + sum(made.rejects.values()) >= 3000
    return out


def test_thousands_of_real_pictures_give_the_same_bytes_by_other_numbers_of_workers(real: Path, by_one: Path, tmp_path: Path):
    convert(str(real), str(tmp_path / "out"), REAL, Here(3))
    assert bytes_of(tmp_path / "out") == bytes_of(by_one)


def test_kills_at_random_moments_leave_the_same_bytes(real: Path, by_one: Path, tmp_path: Path):
    out, chance, kills = tmp_path / "out", random.Random(0), 0
    command = [sys.executable, "-m", "trainer.data.convert", "convert", str(real), str(out), "--pixels", "128", "--patch", "16", "--unique"]

    def committed() -> int:
        return len([*out.glob("parts/*.json"), *out.glob("hashes/*.json")])

    while True:
        goal = committed() + chance.randint(1, 5)
        running = subprocess.Popen([*command, "--workers", "2"], cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL)
        until(lambda: running.poll() is not None or committed() >= goal, f"{goal} commits")  # noqa: B023 (called at once)
        if running.poll() is not None:
            break
        os.killpg(running.pid, signal.SIGKILL)  # its workers too
        running.wait()
        kills += 1
    assert running.returncode == 0
    assert kills >= 2
    assert bytes_of(out) == bytes_of(by_one)


def test_ray_gives_the_same_bytes(tmp_path: Path):
    import ray

    source = mixed_tars(tmp_path / "in")
    options = Options(pixels=64, patch=16, unique=True)
    convert(str(source), str(tmp_path / "here"), options)
    annotate(str(tmp_path / "here"), str(tmp_path / "here-more"), WidthsOf())
    try:
        convert(str(source), str(tmp_path / "ray"), options, OnRay("local", 2))
        annotate(str(tmp_path / "ray"), str(tmp_path / "ray-more"), WidthsOf(), executor=OnRay("local", 2, with_networks=True))
        lost = CaptionsOf(str(tmp_path / "lost"))
        with pytest.raises(ConversionError, match="there is no such folder"):
            annotate(str(tmp_path / "ray"), str(tmp_path / "refused"), lost, executor=OnRay("local", 2, with_networks=True))
    finally:
        ray.shutdown()
    assert bytes_of(tmp_path / "ray") == bytes_of(tmp_path / "here")
    assert bytes_of(tmp_path / "ray-more") == bytes_of(tmp_path / "here-more")


def test_an_object_store_on_both_ends_gives_the_same_bytes(bucket: str, tmp_path: Path):
    from dayrun.objects import Prefix

    s3 = f"{bucket}/converted"
    source = mixed_tars(tmp_path / "in")
    for file in source.iterdir():
        Prefix(f"{s3}/in").put_file(file.name, file)
    convert(f"{s3}/in", f"{s3}/out", OPTIONS, Here(2))
    annotate(f"{s3}/out", f"{s3}/more", WidthsOf())
    convert(str(source), str(tmp_path / "out"), OPTIONS)
    annotate(str(tmp_path / "out"), str(tmp_path / "more"), WidthsOf())
    for name in ("out", "more"):
        prefix = Prefix(f"{s3}/{name}")
        for info in prefix.objects():
            (tmp_path / "copy" / name / info.key).parent.mkdir(parents=True, exist_ok=True)
            prefix.get_file(info.key, tmp_path / "copy" / name / info.key)
        assert bytes_of(tmp_path / "copy" / name) == bytes_of(tmp_path / name)
    assert len(stored_in(tmp_path / "more")) == 3 * 8 - 3
