"""`dayrun report` of real runs: its figures are the API's, it stands alone whatever names say, and Chromium prints it on A4."""

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dayrun.client import Run
from tests.conftest import ROOT, Service
from tests.reports import Read
from tests.tiny import tiny_recipe, write_data

PROMPTS = ["a red apple", "<script>alert(1)</script> a pear", '"><img src=x onerror=alert(1)>']


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A recipe of a few steps that draws prompts, some of which would like to be markup, and promises a limit."""
    from dayrun import builtin

    data = write_data(tmp_path_factory.mktemp("data") / "wide", tokens=16, width=384)
    sets = [{"name": "preview", "prompts": PROMPTS, "every": 5, "at_start": True}]
    recipe = tiny_recipe(data, steps=10, processes=1, samples={"sets": sets, "steps": 2, "guidance": 1.0}, limits={"dollars": 40.0})
    return recipe | {"model": recipe["model"] | {"text_width": 384}, "text": builtin.get("demo")["text"], "schedule": {"warmup_steps": 1}}


@pytest.fixture(scope="module")
def trained(service: Service, drawing: dict[str, Any]) -> Run:
    """A run of it that is over."""
    made = service.client.create_run(drawing, labels={"</style><script>": "alert(1)"})
    ended = service.end(made)
    assert ended.state == "succeeded", ended.evidence
    return ended


def report(service: Service, folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DAYRUN_")}
    kept |= {"DAYRUN_URL": service.url, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-c", "from dayrun.cli import main; main()", "report", *words]
    return subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True, timeout=300)


def test_a_report_has_the_figures_of_the_api_and_stands_alone(service: Service, trained: Run, tmp_path: Path):
    done = report(service, tmp_path, trained.id)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"{trained.id}\.html: \d+ kB\n", done.stdout)
    read = Read((tmp_path / f"{trained.id}.html").read_text())
    read.must_stand_alone()
    client = service.client
    cost, estimate = client.cost(trained.id), client.estimate(trained.id)
    told = read.figures
    assert told["dollars"] == cost.dollars
    assert told["accelerator-hours"] == cost.accelerator_hours
    assert told["dollars of attempt 1"] == cost.attempts[0].dollars
    assert (told["steps"], told["attempts"], told["loss"]) == (10, 1, trained.progress.loss)
    compared = {f"actual {one['name']}": one["actual"] for one in estimate.comparison}
    assert compared
    assert {name: told[name] for name in compared} == compared
    chain = client.chain(trained.id)
    assert f"{chain.length}:{chain.digest}" in read.text
    assert "Proven" in read.text
    assert "/limits/dollars was kept" in read.text
    steps = {sample.step for sample in client.samples(trained.id)}
    assert read.count("img") == len(PROMPTS) * len(steps)
    assert read.count("polyline") >= 3  # loss, speed, gradient norm
    for prompt in PROMPTS:
        assert prompt in read.text  # as text
    written = html.unescape(read.document.partition("<pre>")[2].partition("</pre>")[0])
    assert json.loads(written) == trained.recipe
    versions = next(event.data["versions"] for event in client.events(trained.id) if event.type == "attempt_started")
    assert f"torch {versions['torch']}" in read.text


def test_a_fork_is_reported_with_what_it_changes_even_before_it_trained(service: Service, trained: Run, tmp_path: Path):
    fork = service.client.fork(trained.id, overrides={"optimizer": {"learning_rate": 0.0005}}, weights="model")
    service.client.cancel(fork.id)
    service.end(fork)
    done = report(service, tmp_path, fork.id, "--out", "fork.html")
    assert done.returncode == 0, done.stderr
    read = Read((tmp_path / "fork.html").read_text())
    read.must_stand_alone()
    assert f"{trained.id} at step 10 (model)" in read.text
    assert "/optimizer/learning_rate" in read.text
    assert "Cancelled after 0 of 10 steps" in read.text
    assert "Nothing was measured." in read.text


def test_it_is_printed_on_pages_of_a4(service: Service, trained: Run, tmp_path: Path):
    done = report(service, tmp_path, trained.id, "--out", "whole.html", "--pdf")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].startswith("whole.pdf: ")
    printed = (tmp_path / "whole.pdf").read_bytes()
    assert printed.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) >= 2
    width, height = next(iter(re.findall(rb"/MediaBox\s*\[\s*0\s+0\s+([\d.]+)\s+([\d.]+)", printed)))
    assert (float(width), float(height)) == pytest.approx((595, 842), abs=2)  # points


@pytest.mark.parametrize(
    ("words", "environment", "code", "said"),
    [
        (("--pdf",), {"CHROMIUM": "no-such-program"}, 1, "--pdf: CHROMIUM=no-such-program: there is no such program"),
        (("--pdf",), {"PATH": "/nowhere", "CHROMIUM": ""}, 1, "install it (Debian: apt-get install chromium), or set CHROMIUM="),
        (("--out", "x.pdf"), {}, 2, "--out x.pdf: it names the HTML; `--out x.html --pdf` prints x.pdf beside it"),
        (("--out", "none/x.html"), {}, 1, "--out none/x.html: No such file or directory"),
        (("run_nope",), {}, 1, "there is no run 'run_nope'"),
    ],
)
def test_what_keeps_a_report_from_being_written_is_said(
    service: Service, trained: Run, tmp_path: Path, words: tuple[str, ...], environment: dict[str, str], code: int, said: str
):
    done = report(service, tmp_path, *words, **environment)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
