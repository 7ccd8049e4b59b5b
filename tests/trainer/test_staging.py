"""The temporary folder that checkpoints pass through: nothing stays, not even of a process that was killed."""

import fcntl
import tempfile
from pathlib import Path

import pytest

from dayrun.recipe import Hardware
from trainer.staging import staging
from trainer.trained import alone


def test_what_the_dead_left_is_removed_and_what_the_living_use_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("dead", "alive"):
        (tmp_path / f"dayrun-staging-{name}.lock").touch()
        (tmp_path / f"dayrun-staging-{name}").mkdir()
        (tmp_path / f"dayrun-staging-{name}" / "__0_0.distcp").write_bytes(b"...")
    with (tmp_path / "dayrun-staging-alive.lock").open() as held, alone(Hardware(accelerator="cpu", threads_per_process=1)) as world:
        fcntl.flock(held, fcntl.LOCK_EX)
        with staging(world) as folder:
            assert list(folder.iterdir()) == []
            assert not (tmp_path / "dayrun-staging-dead").exists()
            assert (tmp_path / "dayrun-staging-alive" / "__0_0.distcp").exists()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["dayrun-staging-alive", "dayrun-staging-alive.lock"]
