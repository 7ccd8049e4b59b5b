"""What a person types, against a running service: output, exit codes, and errors that say what to type next."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from PIL import Image

from dayrun.cli import main
from tests.conftest import ROOT, Service, until
from tests.tiny import tiny_recipe, write_data


@pytest.fixture
def dayrun(service: Service, tmp_path: Path):
    """Run one command in an empty folder; returns (exit code, stdout, stderr)."""

    def call(*words: str, url: str | None = service.url, stdin: str = "") -> tuple[int, str, str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DAYRUN_")}
        environment |= {"DAYRUN_URL": url, "PYTHONPATH": str(ROOT)} if url else {"DAYRUN_HOME": str(service.home), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", "from dayrun.cli import main; main()", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, input=stdin, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout, done.stderr

    return call


def test_run_follows_to_the_end_and_samples_make_a_sheet(dayrun, service: Service, tmp_path: Path):
    from dayrun import builtin

    data = write_data(tmp_path / "data", tokens=16, width=384)
    sets = [{"name": "preview", "prompts": ["a red apple", "a pear"], "every": 5, "at_start": True}]
    recipe = tiny_recipe(data, steps=10, processes=1, samples={"sets": sets, "steps": 2, "guidance": 1.0})
    recipe |= {"model": recipe["model"] | {"text_width": 384}, "text": builtin.get("demo")["text"], "schedule": {"warmup_steps": 1}}
    (tmp_path / "mine.json").write_text(json.dumps(recipe))
    code, out, err = dayrun("run", "mine.json", "--set", "/seed=7", "--label", "who=me")
    assert code == 0, out + err
    run_id = out.split()[0]
    assert f"{service.url}/#/runs/{run_id}" in out
    assert "succeeded after 10 steps" in out
    run = service.client.run(run_id)
    assert run.recipe is not None
    assert (run.recipe["seed"], run.labels) == (7, {"who": "me"})
    assert run_id in dayrun("list")[1]
    shown = dayrun("show", run_id[-8:])[1]
    assert "10 of 10 steps (100%)" in shown
    assert "nothing more: its state is final" in shown
    assert "attempt_started" in dayrun("logs", run_id)[1]
    code, out, _ = dayrun("samples", run_id, "--out", "sheet.png")
    assert (code, out) == (0, "sheet.png: 2 prompts\n")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 3 * 112
        assert sheet.height > 2 * 112


def test_detach_pause_resume_and_cancel(dayrun, service: Service, tiny_data: Path, tmp_path: Path):
    (tmp_path / "long.json").write_text(json.dumps(tiny_recipe(tiny_data, steps=100_000)))
    code, out, _ = dayrun("run", "long.json", "--detach", url=None)  # finds the service on this machine by itself
    assert code == 0
    run_id = out.split()[0]
    until(lambda: service.client.run(run_id).state == "running", "the run to start")
    assert dayrun("pause", run_id)[1] == f"{run_id}  pausing\n"
    code, _, err = dayrun("watch", run_id)
    assert code == 1
    assert f"{run_id} paused" in err
    assert dayrun("resume", run_id)[1] == f"{run_id}  queued\n"
    assert dayrun("cancel", run_id)[0] == 0
    assert service.end(service.client.run(run_id)).state == "cancelled"
    code, _, err = dayrun("pause", run_id)
    assert (code, err) == (1, "dayrun: /state: 'cancelled': a run that is cancelled cannot pause\n")


def test_a_queued_run_says_why_it_waits_and_can_be_let_pass(dayrun, service: Service, tiny_data: Path, tmp_path: Path):
    (tmp_path / "long.json").write_text(json.dumps(tiny_recipe(tiny_data, steps=10**8, limits={"dollars": 50})))
    holds, first, second = (dayrun("run", "long.json", "--detach", "--priority", word)[1].split()[0] for word in ("3", "0", "-5"))
    until(lambda: (waiting := service.client.run(second).waiting) and waiting.place == 2, "the queue to be placed")
    assert "1 run may hold this machine at once, and does (place 1)" in dayrun("show", first)[1]
    assert "queued (behind)" in dayrun("list")[1]
    assert dayrun("reprioritise", second, "7") == (0, f"{second}  queued, priority 7\n", "")
    until(lambda: (waiting := service.client.run(second).waiting) and waiting.place == 1, "the queue to be placed anew")
    code, out, _ = dayrun("cost", holds)
    assert code == 0
    assert "$50.00 in 41 min 40 s, by /limits/dollars" in out
    assert "/limits/dollars: $" in out
    code, out, _ = dayrun("usage", "--json")
    assert code == 0
    usage = json.loads(out)
    assert (usage["accelerators_held"], usage["dollars_per_hour"]) == (2, 72.0)
    assert holds in dayrun("usage")[1]
    code, _, err = dayrun("reprioritise", holds, "1")
    assert code == 1
    assert "only the turn of a queued run can be changed" in err
    for run_id in (first, second, holds):
        dayrun("cancel", run_id)
    service.end(service.client.run(holds))


def test_a_bad_recipe_is_told_in_the_same_words_with_and_without_a_service(dayrun, tiny_data: Path, tmp_path: Path):
    recipe = tiny_recipe(tiny_data)
    recipe["model"]["heads"] = 3
    (tmp_path / "bad.json").write_text(json.dumps(recipe))
    code, out, err = dayrun("recipe", "check", "bad.json")
    assert (code, out) == (1, "")
    assert err == "bad.json: /model/heads: 3: it does not divide hidden_size (16 = 5 × 3 + 1); nearest: 2, 4\n"
    code, _, said = dayrun("run", "bad.json")
    assert code == 1
    assert said == "dayrun: /recipe/model/heads: 3: it does not divide hidden_size (16 = 5 × 3 + 1); nearest: 2, 4\n"


def test_a_good_recipe_is_said_to_be_good(dayrun, tiny_data: Path):
    code, out, _ = dayrun("recipe", "check", "-", stdin=json.dumps(tiny_recipe(tiny_data)))
    assert (code, out) == (0, "-: tiny can be trained: 60 steps on 2 × cpu\n")
    assert "prx-24h" in dayrun("recipe", "list")[1]
    assert json.loads(dayrun("recipe", "show", "demo", "--effective")[1])["retries"]["attempts"] == 4


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("run", "nope"), 1, "dayrun: /recipe: 'nope': no built-in recipe has this name, and the project keeps none under it; nearest: "),
        (("run", "nope.json"), 2, "dayrun: RECIPE nope.json: No such file or directory"),
        (("run", "demo", "--set", "seed=7"), 2, "dayrun: --set 'seed=7': write /pointer=value, e.g. /model/depth=4"),
        (("run", "demo", "--set", "/stages/0/steps=7"), 2, "a merge patch replaces lists whole; give /stages=[…]"),
        (("run", "demo", "--label", "x"), 2, "dayrun: --label 'x': a label is KEY=VALUE"),
        (("show", "run_nope"), 1, "dayrun: there is no run 'run_nope'; GET /runs lists them"),
        (("recipe", "show", "prx"), 2, "dayrun: no built-in recipe 'prx'; there are: "),
        (("recipe", "check", "none.json"), 2, "dayrun: FILE none.json: No such file or directory"),
    ],
)
def test_errors_say_the_place_and_what_to_type_next(dayrun, words: tuple[str, ...], code: int, said: str):
    found, _, err = dayrun(*words)
    assert found == code
    assert said in err
    assert "Traceback" not in err


def test_no_service_is_said_with_how_to_start_one(dayrun):
    code, _, err = dayrun("list", url="http://127.0.0.1:9")
    assert code == 1
    assert err.startswith("dayrun: no service answers at http://127.0.0.1:9 (")
    assert "start one with `dayrun serve`" in err


def test_help_of_what_another_program_carries_out_is_whole(dayrun):
    for words, option in ((("serve",), "--stack"), (("data", "inspect"), "URL")):
        code, out, err = dayrun(*words, "--help")
        assert (code, err) == (0, "")
        assert option in out.partition("Exit codes:")[0]
        assert f"dayrun {' '.join(words)} " in out.partition("Examples:")[2]


def test_a_shell_completes_ids_of_runs(service: Service, tiny_data: Path, monkeypatch: pytest.MonkeyPatch):
    run = service.client.create_run(tiny_recipe(tiny_data, steps=10**8))
    monkeypatch.setenv("DAYRUN_URL", service.url)
    found = ShellComplete(main, {}, "dayrun", "_DAYRUN_COMPLETE").get_completions(["show"], run.id[:-1])
    assert [(item.value, (item.help or "").partition(",")[0]) for item in found] == [(run.id, "tiny")]
    service.client.cancel(run.id)
    service.end(run)
