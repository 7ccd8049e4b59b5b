"""A real Prometheus beside the real service while a run trains: every rule and every alert is executed on what they tell."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from service.prometheus import RULES, Prometheus
from tests.conftest import Service, until
from tests.tiny import tiny_recipe

WITHOUT_DATA = {
    "dayrun:attempts_failed:increase1h": "no attempt has failed",
    "dayrun:estimate_step_bucket:max": "no run has succeeded, so that no plan was compared",
}
"""What is recorded and cannot have data after a minute of one healthy run, and why."""
EVERY: list[dict[str, Any]] = [
    rule for file in sorted(RULES.glob("*.yaml")) for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]
]
RECORDS = {rule["record"]: rule["expr"] for rule in EVERY if "record" in rule}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Prometheus]]:
    """The service, and a Prometheus that looks at it every second."""
    folder = tmp_path_factory.mktemp("watched")
    service = Service(folder / "home")
    prometheus = Prometheus(folder, [httpx.URL(service.url).netloc.decode()], seconds=1.0)
    try:
        prometheus.start()
        yield service, prometheus
    finally:
        prometheus.stop()
        service.stop()


@pytest.mark.long
def test_every_rule_and_alert_is_evaluated_on_a_real_run_and_none_fires(watched: tuple[Service, Prometheus], tiny_data: Path):
    service, prometheus = watched
    ended = service.client.create_run(tiny_recipe(tiny_data, steps=100_000, checkpoints={"every": 50}))
    until(lambda: prometheus.query(f'dayrun_run_rank_step_seconds{{run="{ended.id}"}}'), "each rank's own time")
    service.client.cancel(ended.id)
    until(lambda: not prometheus.query("dayrun_run_info"), "the series of the run to end with it")
    run = service.client.create_run(tiny_recipe(tiny_data, steps=100_000, checkpoints={"every": 50}))
    until(lambda: prometheus.query("dayrun_sweep_seconds_count > 0 and dayrun_reconcile_lag_seconds >= 0"), "a sweep to be told of")
    wanted = RECORDS.keys() - WITHOUT_DATA.keys()
    # rates need minutes of looks on a machine that is busy
    until(lambda: not {record for record in wanted if not prometheus.query(record)}, "every recorded series to have data", 600)
    for rule in EVERY:
        prometheus.query(rule["expr"])  # raises for one that is not taken
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) == len(EVERY)
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}
    assert {alert["labels"]["alertname"] for alert in prometheus.get("alerts")["alerts"] if alert["state"] == "firing"} == set()
    assert [found["metric"]["name"] for found in prometheus.query("dayrun:run_info:max")] == [run.name]
    assert prometheus.query('max(dayrun_attempts_total{cause="none"})')[0]["value"][1] == "1"
    service.client.cancel(run.id)
