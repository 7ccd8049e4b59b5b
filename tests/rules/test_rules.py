"""The rules of the chart, by promtool and against what they stand on: metrics that there are, runbooks, a test each way for every alert."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.metrics.catalogue import CATALOGUE
from service.parts import program
from service.prometheus import RULES

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RUNBOOKS = ROOT / "docs" / "runbooks"
FILES = sorted(RULES.glob("*.yaml"))
UNITS = sorted(HERE.glob("*.yaml"))
GROUPS: list[dict[str, Any]] = [group for file in FILES for group in yaml.safe_load(file.read_text())["groups"]]
EVERY: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in EVERY if "alert" in rule}
RECORDS = {rule["record"] for rule in EVERY if "record" in rule}
TESTS: list[dict[str, Any]] = [one for file in UNITS for one in yaml.safe_load(file.read_text())["tests"]]
SECTIONS = ["## What it means", "## What it costs", "## Look here", "## Do this", "## How to be sure that it is over"]


def promtool(*words: str | Path) -> str:
    """What it prints when all is well."""
    done = subprocess.run([program("promtool", package="prometheus"), *words], cwd=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_loads_every_file_and_finds_no_rule_twice():
    assert promtool("check", "rules", "--lint=all", "--lint-fatal", *FILES).count("SUCCESS") == len(FILES)


@pytest.mark.parametrize("file", UNITS, ids=lambda file: file.stem)
def test_alerts_fire_when_they_must_and_are_quiet_beside_that(file: Path):
    assert "SUCCESS" in promtool("test", "rules", file.name)


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_is_tested_both_ways(name: str):
    fires = [one for one in TESTS if one["name"].startswith(f"{name} fires: ")]
    quiet = [one for one in TESTS if one["name"].startswith(f"{name} is quiet: ")]
    assert fires, f"no test in which {name} fires"
    assert quiet, f"no test in which {name} is quiet"
    assert all(name in sample["labels"] for one in fires for query in one["promql_expr_test"] for sample in query["exp_samples"])
    assert any(query["exp_samples"] == [] for one in quiet for query in one["promql_expr_test"])


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_says_what_is_wrong_how_urgent_it_is_and_where_help_is(name: str):
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    page = ROOT / rule["annotations"]["runbook_url"]
    assert page == RUNBOOKS / f"{name}.md"
    text = page.read_text()
    assert f"Severity `{rule['labels']['severity']}`" in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == SECTIONS


def test_every_runbook_is_an_alerts_and_in_the_index():
    pages = {page.stem for page in RUNBOOKS.glob("*.md")} - {"README"}
    assert pages == ALERTS.keys()
    index = (RUNBOOKS / "README.md").read_text()
    assert {name for name in pages if f"[{name}]({name}.md) | {ALERTS[name]['labels']['severity']} |" in index} == pages


def named(text: str) -> set[str]:
    """Metrics and recorded series that a text names."""
    told = {re.sub(r"_(bucket|sum|count)$", "", name) if name not in CATALOGUE else name for name in re.findall(r"\bdayrun_\w+", text)}
    return told | set(re.findall(r"\bdayrun:\w+:\w+", text))


def test_rules_and_runbooks_name_only_what_there_is():
    known = CATALOGUE.keys() | RECORDS
    texts = {f"{rule.get('alert') or rule['record']}": rule["expr"] for rule in EVERY}
    texts |= {page.name: page.read_text().replace("dayrun_(", "") for page in RUNBOOKS.glob("*.md")}
    families = {"dayrun_outbox", "dayrun_celery"}  # beginnings of names, for grep
    unknown = {place: found for place, text in texts.items() if (found := named(text) - known - families)}
    assert not unknown


def test_the_index_explains_every_recorded_series():
    index = (RUNBOOKS / "README.md").read_text()
    windows = {f"dayrun:http_errors:ratio_rate{window}" for window in ("30m", "1h", "2h", "6h", "1d", "3d")}  # told together
    assert {record for record in RECORDS if f"`{record}`" not in index} == windows
