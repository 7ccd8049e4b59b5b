"""What docker-compose.yml says, beside what the chart and the code say of the same; tests/compose/lint asks Compose's own library."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONCE = {"migrate", "bucket", "demo-data"}
OURS = {"api", "worker", *ONCE}


def test_stores_are_the_charts_own_images():
    values = yaml.safe_load((ROOT / "helm/dayrun/values.yaml").read_text())
    for store in ("postgres", "valkey", "seaweedfs"):
        assert SERVICES[store]["image"] == values[store]["image"]
    given = [argument for argument in values["seaweedfs"]["args"] if not argument.startswith("-s3.config")]
    assert SERVICES["seaweedfs"]["command"][:-1] == given


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_is_pinned_contained_and_healthy(name: str):
    service = SERVICES[name]
    version = service["image"].rpartition(":")[2]
    assert version not in ("", "latest")
    assert name in OURS or any(character.isdigit() for character in version)
    assert service["cap_drop"] == ["ALL"]
    assert "privileged" not in service
    assert not any("docker.sock" in str(volume) for volume in service.get("volumes", []))
    if name not in ONCE:
        assert service["healthcheck"]["test"]
    assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("name", sorted(OURS))
def test_settings_exist_and_secrets_are_not_in_the_file(name: str):
    environment = SERVICES[name]["environment"]
    for key, value in environment.items():
        if key.startswith("DAYRUN_"):
            assert key.removeprefix("DAYRUN_").lower() in Settings.model_fields
        if any(word in key for word in ("SECRET", "KEY", "PASSWORD", "DATABASE", "BROKER")):
            assert "run compose/secrets}" in value  # and nothing starts where it is missing


def test_what_is_mounted_from_the_repository_is_there():
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            place = volume.split(":")[0]
            if place.startswith("./"):
                assert (ROOT / place).exists(), place
                assert volume.endswith(":ro")
            else:
                assert place in COMPOSE["volumes"]


def test_every_one_of_ours_is_built_from_a_stage_that_there_is():
    for name in OURS:
        build = SERVICES[name]["build"]
        stages = [line.split() for line in (ROOT / build["dockerfile"]).read_text().splitlines() if line.startswith("FROM ")]
        assert "target" not in build or build["target"] in [stage[-1] for stage in stages]


def test_stores_have_no_way_out_and_prometheus_no_way_to_them():
    assert COMPOSE["networks"]["stores"]["internal"] is True
    for store in ("postgres", "valkey", "seaweedfs"):
        assert SERVICES[store]["networks"] == ["stores"]
        assert "ports" not in SERVICES[store]
    for name in ("prometheus", "grafana"):
        assert "networks" not in SERVICES[name]


def test_prometheus_reads_every_file_of_rules_and_asks_every_api():
    read = yaml.safe_load((ROOT / "compose/prometheus.yml").read_text())
    assert read["rule_files"] == ["/etc/prometheus/rules/*.yaml"]
    assert "./helm/dayrun/rules:/etc/prometheus/rules:ro" in SERVICES["prometheus"]["volumes"]
    assert read["scrape_configs"][0]["dns_sd_configs"][0]["names"] == ["api"]
