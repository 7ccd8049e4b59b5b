"""A release is upgraded in place. What Kubernetes lets nobody change must be the same in every render, whatever the values and versions."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.chart.conftest import CHART, VALUES, Object, of, of_kind, render

LATER: dict[str, Any] = {
    "commonLabels": {"later": "yes"},
    "image": {"registry": "later.example", "service": {"tag": "later", "digest": ""}, "trainer": {"tag": "later"}},
    "settings": {"runs_at_once": 7},
    "extraEnv": [{"name": "LATER", "value": "yes"}],
    "api": {"podLabels": {"later": "yes"}, "podAnnotations": {"later": "yes"}, "resources": {}, "service": {"port": 8080}},
    "worker": {"replicas": 5, "podLabels": {"later": "yes"}, "nodeSelector": {"later": "yes"}},
    "postgres": {"image": "later", "args": ["later"], "resources": {}},
    "seaweedfs": {"image": "later", "args": ["later"], "resources": {}},
    "valkey": {"image": "later", "args": ["later"], "resources": {}},
    "networkPolicy": {"enabled": True},
}
"""Values of a later upgrade, of every kind that an operator would change."""
FROZEN = Path(__file__).with_name("frozen.json")


def unchangeable(objects: list[Object]) -> dict[str, Any]:
    """What the API server refuses to change in an object that exists."""
    found: dict[str, Any] = {}
    for one in objects:
        spec = one.get("spec", {})
        if one["kind"] == "Deployment":
            found[of(one)] = {"selector": spec["selector"]}
        elif one["kind"] == "StatefulSet":
            found[of(one)] = {name: spec.get(name) for name in ("selector", "serviceName", "volumeClaimTemplates", "podManagementPolicy")}
        elif one["kind"] in ("RoleBinding", "ClusterRoleBinding"):
            found[of(one)] = {"roleRef": one["roleRef"]}
        elif one["kind"] == "Service":
            found[of(one)] = {"clusterIP": spec.get("clusterIP"), "selector": spec["selector"]}
    return found


def newer_chart(folder: Path) -> Path:
    """The chart as a later version of itself."""
    copy = folder / "dayrun"
    shutil.copytree(CHART, copy)
    file = copy / "Chart.yaml"
    lines = [line for line in file.read_text().splitlines() if not line.startswith(("version:", "appVersion:"))]
    file.write_text("\n".join([*lines, "version: 9.9.9", "appVersion: 9.9.9", ""]))
    return copy


def without_generated(objects: list[Object]) -> list[Object]:
    """Without what is random where there is no cluster to look into."""
    return [one | {"data": sorted(one["data"])} if one["kind"] == "Secret" else one for one in objects]


@pytest.mark.parametrize("values", VALUES)
def test_neither_versions_nor_values_touch_what_cannot_be_changed(values: str, tmp_path: Path):
    before = unchangeable(render(values))
    after = unchangeable(render(values, LATER, newer_chart(tmp_path)))
    assert before.keys() <= after.keys()
    assert {name: after[name] for name in before} == before


def test_what_cannot_be_changed_is_as_it_was_released():
    """A difference here ends every upgrade with an error. To rename an object is no way out: its data stay behind."""
    now = {values: unchangeable(render(values)) for values in VALUES}
    assert now == json.loads(FROZEN.read_text())


@pytest.mark.parametrize("values", VALUES)
def test_the_same_values_again_change_nothing(values: str):
    assert without_generated(render(values)) == without_generated(render(values))


def test_a_newer_chart_alone_starts_no_pod_anew(tmp_path: Path):
    image = {"image": {"service": {"tag": "1"}, "trainer": {"tag": "1"}}}

    def templates(objects: list[Object]) -> dict[str, Any]:
        return {of(one): one["spec"]["template"] for one in objects if one["kind"] in ("Deployment", "StatefulSet")}

    before, after = render("evaluation", image), render("evaluation", image, newer_chart(tmp_path))
    assert templates(before) == templates(after)


@pytest.mark.parametrize(
    "more",
    [{"image": {"service": {"tag": "2"}}}, {"settings": {"sweep_seconds": 2}}, {"api": {"replicas": 3}}],
    ids=["image", "setting", "value"],
)
def test_a_changed_migration_is_another_job(more: Object):
    (before,), (after,) = of_kind(render("minimal"), "Job"), of_kind(render("minimal", more), "Job")
    assert before["metadata"]["name"] != after["metadata"]["name"]


def test_the_migration_of_a_newer_chart_is_another_job(tmp_path: Path):
    (before,), (after,) = of_kind(render("minimal"), "Job"), of_kind(render("minimal", chart=newer_chart(tmp_path)), "Job")
    assert before["metadata"]["name"] != after["metadata"]["name"]


def test_no_name_outgrows_what_kubernetes_takes():
    objects = render("everything-on", {"fullnameOverride": "a" * 63, "nameOverride": "b" * 63})
    assert [of(one) for one in objects if len(one["metadata"]["name"]) > 63] == []
