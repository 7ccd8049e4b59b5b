"""Forks, draws, exports and cancelling many from the command line, against a running service."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from dayrun.client import Run
from tests.conftest import ROOT, Service


@pytest.fixture
def dayrun(service: Service, tmp_path: Path):
    """Run one command in an empty folder; returns (exit code, stdout, stderr)."""

    def call(*words: str) -> tuple[int, str, str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DAYRUN_")}
        environment |= {"DAYRUN_URL": service.url, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", "from dayrun.cli import main; main()", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout, done.stderr

    return call


def test_a_fork_says_what_it_changes_and_many_are_cancelled_together(dayrun, trained: Run):
    words = ("fork", f"{trained.id}@10", "--set", "/optimizer/learning_rate=0.001", "--weights", "ema", "--label", "by=cli", "--detach")
    code, out, err = dayrun(*words)
    assert code == 0, err
    fork, *said = out.splitlines()
    assert said == [f"from step 10 of {trained.id} (ema)", "  /optimizer/learning_rate: 0.002 → 0.001"]
    assert fork.split()[0] in dayrun("list", "--label", "by=cli", "--recipe", "/optimizer/learning_rate=0.001")[1]
    code, out, _ = dayrun("cancel", "--all", "--label", "by=cli")
    assert (code, out.split()[0]) == (0, fork.split()[0])
    assert dayrun("list", "--label", "by=cli", "--state", "queued")[1] == "no run fits\n"


@pytest.mark.long
def test_prompts_are_drawn_into_a_file(dayrun, trained: Run, tmp_path: Path):
    code, out, err = dayrun("draw", trained.id, "a pear", "a red apple", "--step", "5", "--out", "drawn.png")
    assert (code, out) == (0, "drawn.png: 2 drawn from step 5\n"), err
    with Image.open(tmp_path / "drawn.png") as page:
        assert page.width > 2 * 128


@pytest.mark.long
def test_an_export_is_downloaded_into_a_folder(dayrun, trained: Run, tmp_path: Path):
    code, out, err = dayrun("export", trained.id, "--out", "model")
    assert code == 0, err
    assert out.startswith("model: step 10, ")
    assert json.loads((tmp_path / "model" / "transformer" / "config.json").read_text())["_class_name"] == "PRXTransformer2DModel"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("fork", "RUN@7"), 1, "dayrun: /step: 7: the run has no complete checkpoint of step 7; nearest: 5, 10"),
        (("fork", "RUN@last"), 2, "after @ comes a step, e.g. "),
        (("fork", "RUN", "--set", "/model/depth=3"), 1, "dayrun: /overrides/model/depth: 3: "),
        (("draw", "RUN", "x", "--step", "7"), 1, "nearest: 5, 10"),
        (("cancel", "--label", "a=b"), 2, "dayrun: --state, --label and --project choose among many: add --all"),
        (("list", "--recipe", "seed=7"), 2, "dayrun: --recipe 'seed=7': write /pointer=value"),
    ],
)
def test_errors_say_what_to_type_next(dayrun, trained: Run, words: tuple[str, ...], code: int, said: str):
    found, _, err = dayrun(*(word.replace("RUN", trained.id) for word in words))
    assert found == code
    assert said in err
    assert "Traceback" not in err
