"""What a preflight says of a real cluster before anything is launched on it, and what is left of it afterwards: nothing."""

import time

from dayrun import builtin
from dayrun.plan import Finding
from dayrun.recipe import merge_patch
from dayrun.rules import load
from k8s.api import QUOTA, Api
from k8s.attempt import Attempt
from k8s.preflight import quick
from k8s.profile import ClusterProfile, Hardware
from service.database import new_id
from tests.cluster.cluster import Cluster
from tests.cluster.installed import CPU, SIMULATED
from tests.conftest import until

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


def wanted(nodes: int = 2, accelerator: str = "h200", processes: int = 8) -> Attempt:
    hardware = {"nodes": nodes, "processes_per_node": processes, "accelerator": accelerator}
    run_id = new_id("run")
    recipe = load(merge_patch(builtin.get("prx-24h"), {"hardware": hardware}), for_training=False)
    return Attempt(run_id, 1, f"s3://dayrun/runs/{run_id}", recipe, 5.0)


def against(found: list[Finding]) -> list[tuple[str, str, str]]:
    return [(one.check, one.level, one.at) for one in found if one.level in ("no", "unsure")]


# ---- without a pod --------------------------------------------------------------------------------------------------------------------


def test_a_cluster_with_room_has_nothing_against_a_run_and_says_so_soon(api: Api, cluster: Cluster, namespace: str):
    profile, start = profile_of(cluster, namespace), time.monotonic()
    found = quick(api, profile, wanted(), PATIENCE_SECONDS)
    seconds = time.monotonic() - start
    assert against(found) == [], found
    assert {one.check for one in found if one.level == "ok"} == {"manifest", "quota", "nodes"}
    assert "of 2 pods have room now" in found[-1].because
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
