"""What a preflight says of a real cluster before anything is launched on it, and what is left of it afterwards: nothing."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dayrun import builtin
from dayrun.cli import main
from dayrun.client import Client
from dayrun.objects import Prefix
from dayrun.plan import Finding
from dayrun.recipe import merge_patch
from dayrun.rules import load
from k8s.api import BATCH_JOB, POD, QUOTA, Api, Kind
from k8s.attempt import Attempt
from k8s.preflight import quick
from k8s.profile import ClusterProfile, Hardware
from k8s.trial import tried
from service.database import new_id
from tests.cluster.cluster import Cluster
from tests.cluster.installed import CPU, SIMULATED
from tests.cluster.objects import CREDENTIALS, looking_into, store
from tests.conftest import until
from tests.service.inside import listening
from tests.tiny import tiny_recipe

PATIENCE_SECONDS = 10.0
"""For the quick look, which everything on this machine slows down."""


def profile_of(cluster: Cluster, namespace: str, **more: object) -> ClusterProfile:
    images = cluster.images
    cpu = {**CPU, "resource": None}
    return ClusterProfile.model_validate(
        {
            "namespace": namespace,
            "image": images.trainer,
            "pull_policy": images.pull_policy,
            "hardware": {"h200": SIMULATED, "cpu": cpu},
            **more,
        }
    )


def wanted(nodes: int = 2) -> Attempt:
    return to_be(merge_patch(builtin.get("prx-24h"), {"hardware": {"nodes": nodes, "processes_per_node": 8}}))


def to_be(document: dict[str, Any]) -> Attempt:
    """An attempt of a run that is not there."""
    run_id = new_id("preflight")
    return Attempt(run_id, 1, f"s3://dayrun/runs/{run_id}", load(document, for_training=False), 5.0)


def against(found: list[Finding]) -> list[tuple[str, str, str]]:
    return [(one.check, one.level, one.at) for one in found if one.level in ("no", "unsure")]


# ---- without a pod --------------------------------------------------------------------------------------------------------------------


def test_a_cluster_with_room_has_nothing_against_a_run_and_says_so_soon(api: Api, cluster: Cluster, namespace: str):
    profile, start = profile_of(cluster, namespace), time.monotonic()
    found = quick(api, profile, wanted(), PATIENCE_SECONDS)
    seconds = time.monotonic() - start
    assert against(found) == [], found
    assert {one.check for one in found if one.level == "ok"} == {"manifest", "quota", "nodes"}
    assert found[-1].because.startswith("room for ")
    assert seconds < PATIENCE_SECONDS
    assert cluster.get("-n", namespace, "pytorchjobs,pods")["items"] == []


def test_more_nodes_than_there_are_and_a_quota_that_can_never_hold_it_are_told(api: Api, cluster: Cluster, namespace: str):
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "gpus", "namespace": namespace}}
    cluster.apply({**quota, "spec": {"hard": {"requests.nvidia.com/gpu": "8"}}})
    until(lambda: (api.get(QUOTA, namespace, "gpus") or {}).get("status", {}).get("hard"), "the quota to be in force", 30)
    found = quick(api, profile_of(cluster, namespace), wanted(nodes=64), PATIENCE_SECONDS)
    assert against(found) == [("quota", "no", "/hardware/nodes"), ("nodes", "no", "/hardware/nodes")], found
    assert "the namespace's quota 'gpus' allows requests.nvidia.com/gpu: 8" in next(one.because for one in found if one.check == "quota")
    assert next(one for one in found if one.check == "quota").nearest[0].value == 1


def test_nodes_of_another_kind_are_named(api: Api, cluster: Cluster, namespace: str):
    other = Hardware.model_validate({**SIMULATED, "node_selector": {"nvidia.com/gpu.product": "NVIDIA-B200"}})
    profile = profile_of(cluster, namespace).model_copy(update={"hardware": {"h200": other}})
    found = quick(api, profile, wanted(), PATIENCE_SECONDS)
    assert against(found) == [("nodes", "no", "profile:/hardware/h200/node_selector")], found
    assert "nvidia.com/gpu.product is NVIDIA-H200" in found[-1].because


def test_a_namespace_a_queue_and_an_owner_that_are_not_there_are_named(api: Api, cluster: Cluster, namespace: str):
    nowhere = quick(api, profile_of(cluster, "no-such-namespace"), wanted(), PATIENCE_SECONDS)
    assert ("manifest", "no", "profile:/namespace") in against(nowhere), nowhere
    queued = quick(api, profile_of(cluster, namespace, queue="training"), wanted(), PATIENCE_SECONDS)
    assert against(queued) == [("queue", "no", "profile:/queue")], queued
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone"}
    owned = quick(api, profile_of(cluster, namespace, owner=owner), wanted(), PATIENCE_SECONDS)
    assert against(owned) == [("manifest", "no", "profile:/owner")], owned


def test_a_cluster_that_does_not_answer_in_time_is_one_note(api: Api, cluster: Cluster, namespace: str):
    found = quick(api, profile_of(cluster, namespace), wanted(), seconds=0.0)
    assert [(one.check, one.level, one.because) for one in found] == [
        ("cluster", "note", "the cluster does not answer now; nothing of it was checked")
    ]


# ---- with pods ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def variables(cluster: Cluster, namespace: str) -> dict[str, str]:
    """Those with which a pod reaches the store of the namespace."""
    return store(cluster, namespace)


@pytest.fixture
def profile(cluster: Cluster, namespace: str, variables: dict[str, str]) -> ClusterProfile:
    return profile_of(cluster, namespace, environment_secrets=[CREDENTIALS])


@pytest.fixture
def bucket(cluster: Cluster, namespace: str, variables: dict[str, str]) -> Iterator[Prefix]:
    with looking_into(cluster, namespace, variables) as url:
        yield Prefix(url)


def small() -> Attempt:
    return to_be(tiny_recipe("tiny", processes=1))


def nothing_is_left(api: Api, namespace: str) -> bool:
    kinds = (BATCH_JOB, Kind("kubeflow.org/v1", "PyTorchJob"))
    ours = api.list(POD, namespace, "app.kubernetes.io/managed-by=dayrun")[0]
    return not ours and not any(api.list(kind, namespace)[0] for kind in kinds)


def test_a_small_pod_shows_that_image_and_store_are_as_they_must_be(api: Api, namespace: str, profile: ClusterProfile, bucket: Prefix):
    found = tried(api, profile, small(), with_nodes=False)
    assert [(one.check, one.level) for one in found] == [("image", "ok"), ("store", "ok")], found
    assert bucket.objects("runs") == []
    until(lambda: nothing_is_left(api, namespace), "the trial to be gone", 60)


def test_wrong_credentials_and_an_address_that_nobody_has_are_named_with_their_secret(
    api: Api, cluster: Cluster, namespace: str, profile: ClusterProfile, variables: dict[str, str]
):
    def with_secret(**changed: str) -> list[Finding]:
        metadata = {"name": CREDENTIALS, "namespace": namespace}
        cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {**variables, **changed}})
        return tried(api, profile, small(), with_nodes=False)

    denied = with_secret(AWS_SECRET_ACCESS_KEY="another")
    assert against(denied) == [("store", "no", "profile:/environment_secrets")], denied
    assert f"AWS_SECRET_ACCESS_KEY in Secret {CREDENTIALS}" in denied[-1].because
    nobody = with_secret(AWS_ENDPOINT_URL=f"http://nobody.{namespace}.svc.cluster.local:1")
    assert against(nobody) == [("store", "no", "profile:/environment_secrets")], nobody
    assert f"AWS_ENDPOINT_URL in Secret {CREDENTIALS}" in nobody[-1].because


def test_an_image_a_secret_and_a_claim_that_are_not_there_are_named(api: Api, namespace: str, profile: ClusterProfile):
    def without(**changed: Any) -> list[Finding]:
        return tried(api, ClusterProfile.model_validate({**profile.model_dump(), **changed}), small(), with_nodes=False)

    image = without(image="localhost/no-such-image:1")
    assert against(image) == [("image", "no", "profile:/image")], image
    assert "localhost/no-such-image:1 cannot be pulled" in image[0].because
    secret = without(environment_secrets=["no-such-secret"])
    assert against(secret) == [("store", "no", "profile:/environment_secrets")], secret
    claim = without(volumes=[{"claim": "no-such-claim", "path": "/data"}])
    assert against(claim) == [("store", "no", "profile:/volumes")], claim
    until(lambda: nothing_is_left(api, namespace), "the trials to be gone", 60)


def test_the_command_tries_a_group_of_the_runs_shape_and_says_how_fast_it_is(
    api: Api, cluster: Cluster, namespace: str, profile: ClusterProfile, bucket: Prefix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """From `dayrun preflight` through the service to two pods that compute and add up."""
    described, recipe = tmp_path / "cluster.json", tmp_path / "mine.json"
    described.write_text(profile.model_dump_json())
    document = tiny_recipe("tiny", processes=1)
    document["hardware"] |= {"nodes": 2}
    recipe.write_text(json.dumps(document))
    with listening(tmp_path / "home", cluster=described, runs=f"{bucket.url}/runs") as (url, key):
        monkeypatch.setenv("DAYRUN_KEY", key)
        told = CliRunner().invoke(main, ["preflight", str(recipe), "--nodes", "--json", "--url", url])
    assert told.exit_code == 0, told.output
    found = [Finding.model_validate(one) for one in json.loads(told.stdout)["findings"]]
    assert {(one.check, one.level) for one in found} >= {("manifest", "ok"), ("nodes", "ok"), ("image", "ok"), ("store", "ok")}, found
    assert not [one for one in found if one.level == "no"], found
    rates = [one.because for one in found if one.check == "group" and one.level == "note"]
    assert rates, [one.because for one in found if one.check == "group"]
    assert all("TFLOP/s, sums at" in rate for rate in rates), rates
    until(lambda: nothing_is_left(api, namespace), "the trial to be gone", 60)


def test_the_account_that_the_chart_makes_may_look_at_all_that_a_preflight_looks_at(client: Client):
    recipe = tiny_recipe("tiny", processes=1)
    recipe["hardware"] |= {"nodes": 2}
    planned = [verdict for verdict in client.plan(recipe).verdicts if verdict["about"] == "cluster"]
    assert {verdict["level"] for verdict in planned} == {"ok", "note"}, planned
    tried = client.preflight(recipe).findings
    assert {(one["check"], one["level"]) for one in tried} == {
        ("manifest", "ok"),
        ("quota", "ok"),
        ("nodes", "ok"),
        ("nodes", "note"),
        ("image", "ok"),
        ("store", "ok"),
    }, tried
    assert not [one for one in [*planned, *tried] if "could not be looked at" in one["because"]]
