"""`dayrun plan`: an answer from a laptop, with what stands in the way and the nearest that would not."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dayrun import builtin, supported
from dayrun.cli import main
from dayrun.plan import Change, Plan, Verdict, plan
from dayrun.recipe import Recipe, merge_patch
from dayrun.recipe_errors import steps_of
from dayrun.rules import load

NOWHERE = {"DAYRUN_URL": "http://127.0.0.1:9"}
"""Nothing answers there: a command that asks a service fails."""


ON_LATENTS: dict[str, Any] = {
    "latents": {"autoencoder": "flux1", "source": "x", "downscale": 8, "precomputed": True},
    "perceptual": None,
    "representation": None,
    "model": {"in_channels": 16, "patch_size": 2},
}
"""What the trainer cannot do yet."""


def recipe(name: str = "prx-24h", **patch: object) -> Recipe:
    return load(merge_patch(builtin.get(name), patch), for_training=False)


def verdicts(found: Plan, about: str) -> list[Verdict]:
    return [verdict for verdict in found.verdicts if verdict.about == about]


def changed(document: Any, *changes: Change) -> Recipe:
    """The recipe with each value put where the change says."""
    whole = json.loads(json.dumps(document))
    for change in changes:
        *inside, last = steps_of(change.at)
        part = whole
        for step in inside:
            part = part[int(step)] if isinstance(part, list) else part.setdefault(step, {})
        part[last] = change.value
    return load(whole, for_training=False)


def cli(*words: str) -> Result:
    return CliRunner(env=NOWHERE).invoke(main, ["plan", *words])


# ---- verdicts --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hours", "level"), [(1, "no"), (24, "unsure"), (48, "ok")])
def test_hours_are_held_against_their_limit(hours: float, level: str):
    (verdict,) = verdicts(plan(recipe(limits={"hours": hours, "dollars": None})), "hours")
    assert (verdict.level, verdict.at) == (level, "/limits/hours")
    assert f"{hours} h" in verdict.because


@pytest.mark.parametrize("limits", [{"hours": 8, "dollars": None}, {"hours": None, "dollars": 400}])
def test_each_value_named_as_nearest_keeps_the_limit(limits: dict[str, object]):
    document = merge_patch(builtin.get("prx-24h"), {"limits": limits})
    about = "hours" if limits["hours"] else "dollars"
    (verdict,) = verdicts(plan(changed(document)), about)
    assert verdict.level != "ok"
    limit, *steps = verdict.nearest
    assert limit.at == f"/limits/{about}"
    assert [one.at for one in steps] == ["/stages/0/steps", "/stages/1/steps"]
    for fix in ([limit], steps):
        (after,) = verdicts(plan(changed(document, *fix)), about)
        assert after.level == "ok", after.because


def test_a_limit_that_not_even_the_start_keeps_has_no_steps_that_would():
    (verdict,) = verdicts(plan(recipe(limits={"hours": 0.01, "dollars": None})), "hours")
    assert [one.at for one in verdict.nearest] == ["/limits/hours"]


def test_a_batch_that_does_not_fit_names_the_one_that_does():
    document = merge_patch(builtin.get("prx-24h"), {"hardware": {"nodes": 1, "accelerator": "h100"}})
    before = verdicts(plan(changed(document)), "memory")
    assert [verdict.level for verdict in before] == ["unsure", "no"]
    after = plan(changed(document, *(change for verdict in before for change in verdict.nearest)))
    assert [verdict.level for verdict in verdicts(after, "memory")] == ["ok", "ok"]


def test_what_the_trainer_cannot_do_stands_beside_the_estimate_once():
    fields = recipe(**ON_LATENTS)
    found = verdicts(plan(fields), "trainer")
    assert {(verdict.at, verdict.because) for verdict in found} == {(e.at, e.because) for e in supported.refusals(fields)}
    assert [verdict.at for verdict in found] == ["/latents/precomputed"]
    assert verdicts(plan(load(builtin.get("demo"))), "trainer") == []


def test_a_feature_of_one_stage_alone_is_refused_too(monkeypatch: pytest.MonkeyPatch):
    flipping = supported.when("/data/horizontal_flip", lambda r: r.data.horizontal_flip, 0.5)
    monkeypatch.setattr(supported, "NOT_YET", [supported.Row(flipping, "the trainer does not mirror yet", [0.0])])
    stages = [{"name": "one", "pixels": 512, "steps": 10, "batch_size": 32, "overrides": {"data": {"horizontal_flip": 0.5}}}]
    found = verdicts(plan(recipe(stages=stages, schedule={"warmup_steps": 0})), "trainer")
    assert [verdict.at for verdict in found] == ["/stages/0/overrides/data/horizontal_flip"]


def test_what_was_guessed_is_told():
    found = verdicts(plan(recipe(representation={"teacher": "my/own-teacher"})), "assumption")
    assert [verdict.because for verdict in found] == ["my/own-teacher is counted as DINOv3 ViT-L/16: its shape is not known here"]


def test_a_plan_of_any_length_comes_at_once():
    stages = [{"name": "one", "pixels": 32 * 10**12, "steps": 10**8, "batch_size": 2**62}]
    document = merge_patch(
        builtin.get("prx-24h"), {"stages": stages, "evaluation": {"every": 1}, "checkpoints": {"every": 1, "keep_every": 1}}
    )
    found = plan(load(document, for_training=False))
    assert {o.name: o.times for o in found.estimate.overheads}["evaluation"] == 10**8
    assert [verdict.level for verdict in verdicts(found, "memory")] == ["no"]


# ---- the command -----------------------------------------------------------------------------------------------------------------


def test_the_table_says_what_it_takes_and_what_stands_in_the_way():
    done = cli("prx-24h")
    assert done.exit_code == 0, done.output
    for said in ("512px", "1024px", "steps/s", "in all", "LPIPS", "Newton–Schulz", "Muon's momentum", "peak", "/limits/hours"):
        assert said in done.output
    assert "This trainer cannot yet:" not in done.output
    assert "whole schedule" not in done.output


def test_the_table_says_what_the_trainer_cannot_do(tmp_path: Path):
    (tmp_path / "mine.json").write_text(recipe(**ON_LATENTS).model_dump_json())
    done = cli(str(tmp_path / "mine.json"))
    assert done.exit_code == 0, done.output
    assert "This trainer cannot yet:" in done.output
    assert "/latents/precomputed: the trainer does not read latents from shards yet" in " ".join(done.output.split())


def test_explain_prints_every_line_of_the_arithmetic():
    done = cli("demo", "--explain")
    words = " ".join(done.output.split())
    for line in plan(load(builtin.get("demo"))).estimate.arithmetic:
        assert line.name.removeprefix("32px: ").split(":")[0] in words
    assert "2 · 64 · 128 · 384" in words  # queries, keys, values of the demo's 64 tokens


def test_json_is_the_plan_itself():
    done = cli("prx-24h", "--json", "--set", "/hardware/dollars_per_accelerator_hour=3")
    found = Plan.model_validate_json(done.output)
    assert found == plan(recipe(hardware={"dollars_per_accelerator_hour": 3.0}))
    assert found.estimate.dollars.expected == pytest.approx(found.estimate.hours.expected * 96)


def test_a_file_and_overrides_are_read(tmp_path: Path):
    (tmp_path / "mine.json").write_text(json.dumps(builtin.get("prx-24h") | {"name": "mine"}))
    (tmp_path / "patch.json").write_text(json.dumps({"routing": None}))
    done = cli(str(tmp_path / "mine.json"), "--overrides", str(tmp_path / "patch.json"), "--json")
    assert Plan.model_validate_json(done.output) == plan(recipe(name="prx-24h", routing=None).model_copy(update={"name": "mine"}))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["prx-24h", "--set", "/hardware/dollars_per_accelerator_hour=1e308"], 1, "its numbers are so large"),
        (["prx-24h", "--set", "/model/mlp_ratio=1e308"], 1, "no machine has an MLP so wide"),
        (["prx-24h", "--set", "/perceptual/lpips/resize=1e308"], 1, "its numbers are so large"),
        (["prx-25h"], 2, "no built-in recipe 'prx-25h'; there are: prx-24h"),
        (["nowhere/mine.json"], 2, "RECIPE nowhere/mine.json: No such file or directory"),
        (["prx-24h", "--set", "/model/heads=3"], 1, "prx-24h: /model/heads: 3: it does not divide hidden_size"),
        (["prx-24h", "--set", "depth=3"], 2, "write /pointer=value"),
    ],
)
def test_a_plan_that_cannot_be_made_says_why(words: list[str], code: int, said: str):
    done = cli(*words)
    assert done.exit_code == code
    assert said in done.output


def test_markup_in_a_name_is_only_text():
    stages = '[{"name": "[red]hot[/red]", "pixels": 512, "steps": 2000, "batch_size": 32}]'
    done = cli("prx-24h", "--set", f"/stages={stages}")
    assert done.exit_code == 0, done.output
    assert "[red]hot[/red]" in done.output


def test_planning_loads_nothing_heavy():
    script = (
        "import sys; from dayrun.cli import main; main(['plan', 'prx-24h'], standalone_mode=False)\n"
        "print('loaded', sorted({'torch', 'numpy', 'httpx', 'PIL', 'obstore', 'fastapi'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("loaded []\n"), done.stdout + done.stderr
