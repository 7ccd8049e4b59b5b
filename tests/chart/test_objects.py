"""What is in the objects: rights, pod security, settings that the service takes, a profile that it loads."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
import yaml

import dayrun
from dayrun.recipe import merge_patch
from dayrun.rules import load
from k8s.profile import ClusterProfile
from service.settings import Settings
from tests.chart.conftest import CHART, VALUES, Object, of_kind, pod_specs, render

WRITE = ["create", "delete", "get", "list", "patch", "update", "watch"]
LOOK = ["get", "list", "watch"]
IN_NAMESPACE = {
    "kubeflow.org/pytorchjobs": WRITE,
    "trainer.kubeflow.org/trainjobs": WRITE,
    "/configmaps": WRITE,
    "batch/jobs": WRITE,
    "/pods": ["delete", *LOOK],
    "/pods/log": LOOK,
    "/events": LOOK,
    "/resourcequotas": ["get", "list"],
    "kueue.x-k8s.io/localqueues": ["get", "list"],
    "kueue.x-k8s.io/workloads": ["get", "list"],
}
IN_CLUSTER = {"/nodes": LOOK, "kueue.x-k8s.io/clusterqueues": ["get", "list"]}


def rights(role: Object) -> dict[str, list[str]]:
    return {
        f"{group}/{resource}": sorted(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def decoded(secret: Object) -> dict[str, str]:
    return {name: b64decode(value).decode() for name, value in secret["data"].items()}


def profile_of(objects: list[Object]) -> str:
    (text,) = (one["data"]["cluster.json"] for one in of_kind(objects, "ConfigMap") if "cluster.json" in one["data"])
    return text


@pytest.mark.parametrize("values", VALUES)
def test_the_account_may_do_what_runs_need_and_nothing_else(values: str):
    objects = render(values)
    (role,), (cluster_role,) = of_kind(objects, "Role"), of_kind(objects, "ClusterRole")
    assert rights(role) == IN_NAMESPACE
    assert rights(cluster_role) == IN_CLUSTER


@pytest.mark.parametrize("values", VALUES)
def test_every_pod_keeps_to_restricted_pod_security(values: str):
    for name, spec in pod_specs(render(values)).items():
        assert spec["enableServiceLinks"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}, name
        assert all("hostPath" not in volume for volume in spec["volumes"]), name
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            context = container["securityContext"]
            assert context == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}, name


@pytest.mark.parametrize("values", VALUES)
def test_only_the_api_and_the_workers_have_a_token(values: str):
    tokens = {name for name, spec in pod_specs(render(values)).items() if spec["automountServiceAccountToken"]}
    assert {name.rpartition("-")[2] for name in tokens} == {"api", "worker"}


@pytest.mark.parametrize("values", VALUES)
def test_the_service_loads_the_profile(values: str):
    objects = render(values)
    profile = ClusterProfile.model_validate_json(profile_of(objects))
    (role,) = of_kind(objects, "Role")
    assert profile.namespace == role["metadata"]["namespace"]
    assert {name: one.resource for name, one in profile.hardware.items() if name == "cpu"} in ({}, {"cpu": None})


@pytest.mark.parametrize("values", VALUES)
def test_the_service_takes_the_settings(values: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (settings,) = (one["data"] for one in of_kind(render(values), "ConfigMap") if "DAYRUN_HOST" in one["data"])
    known = {f"DAYRUN_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in settings if name.startswith("DAYRUN_")} <= known
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert Settings().runs_at_once == int(settings["DAYRUN_RUNS_AT_ONCE"])


def test_groups_of_people_reach_the_service(monkeypatch: pytest.MonkeyPatch):
    (settings,) = (one["data"] for one in of_kind(render("gpu-roce"), "ConfigMap") if "DAYRUN_HOST" in one["data"])
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert Settings().oidc_groups == {"/platform": "operator", "/research/vision": "vision:writer"}


def test_runs_are_told_of_the_store_and_find_its_credentials_beside_them():
    objects = render("evaluation", {"runs": {"namespace": "training"}})
    profile = ClusterProfile.model_validate_json(profile_of(objects))
    assert profile.environment["AWS_ENDPOINT_URL"] == "http://dayrun-seaweedfs.dayrun.svc:8333"
    both = [one for one in of_kind(objects, "Secret") if one["metadata"]["name"] in profile.environment_secrets]
    assert sorted(one["metadata"]["namespace"] for one in both) == ["dayrun", "training"]
    assert both[0]["data"] == both[1]["data"]


def test_the_secrets_of_bundled_stores_agree():
    secrets = {one["metadata"]["name"]: decoded(one) for one in of_kind(render("evaluation"), "Secret")}
    own, stores, objects = secrets["dayrun"], secrets["dayrun-stores"], secrets["dayrun-objects"]
    assert own["DAYRUN_DATABASE"] == f"postgresql://dayrun:{stores['POSTGRES_PASSWORD']}@dayrun-postgres.dayrun.svc:5432/dayrun"
    assert own["DAYRUN_BROKER"] == f"redis://:{stores['VALKEY_PASSWORD']}@dayrun-valkey.dayrun.svc:6379/0"
    identity = json.loads(stores["identities.json"])["identities"][0]["credentials"][0]
    assert identity == {"accessKey": objects["AWS_ACCESS_KEY_ID"], "secretKey": objects["AWS_SECRET_ACCESS_KEY"]}


def test_the_run_of_helm_test_is_a_recipe_that_needs_no_text_tower():
    (test,) = (json.loads(one["data"]["test.json"]) for one in of_kind(render("evaluation"), "ConfigMap") if "test.json" in one["data"])
    document: Any = json.loads((Path(dayrun.__file__).parent / "recipes" / f"{test['recipe']}.json").read_text())
    recipe = load(merge_patch(document, test["overrides"]))
    assert (recipe.hardware.accelerator, recipe.hardware.world_size) == ("cpu", 1)
    assert (recipe.objective.caption_dropout, recipe.samples.sets) == (0, [])


def test_every_value_of_the_schema_has_its_default_and_its_place_in_the_values():
    """Values that are in none of the two places would be known to nobody."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    free = {"Settings", "ClusterProfile", "KeyFrom"}

    def missing(node: Object, there: Any, at: str) -> list[str]:
        name = node.get("$ref", "").rpartition("/")[2]
        node = schema["$defs"][name] if name else node
        if name in free or "properties" not in node:
            return []
        return [
            one
            for key, inner in node["properties"].items()
            for one in (missing(inner, there[key], f"{at}.{key}") if key in there else [f"{at}.{key}"])
        ]

    assert missing(schema, values, "") == [".global", ".enabled"]


def test_the_chart_and_the_code_are_of_one_version():
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == dayrun.__version__
