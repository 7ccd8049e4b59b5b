"""What is found to stand against a run, from listed objects; `tests/cluster/test_preflight.py` shows that a real cluster lists such."""

import json
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dayrun.plan import Finding
from k8s.api import Api, Kind, Object, Refused
from k8s.attempt import Attempt
from k8s.demand import Demand, demand_of, times_in
from k8s.nodes import of_nodes
from k8s.preflight import concerns, of_queue, of_quotas, of_refusal, quick
from k8s.profile import ClusterProfile
from tests.k8s.profiles import H200, PROFILES
from tests.k8s.test_render import attempt

PYTORCHJOB = Kind("kubeflow.org/v1", "PyTorchJob")
PLAIN = ClusterProfile.model_validate({"namespace": "runs", "image": "trainer:1", "hardware": {"h200": {**H200, "block_required": False}}})


def demand(nodes: int = 4, profile: ClusterProfile = PLAIN, **hardware: Any) -> Demand:
    asked: Attempt = attempt("prx-24h", {"hardware": {"nodes": nodes, "processes_per_node": 8, **hardware}})
    return demand_of(asked, profile)


def node(name: str, ready: str = "True", gpus: int = 8, cpu: str = "192", block: str = "a", **spec: Any) -> Object:
    status = {
        "conditions": [{"type": "Ready", "status": ready}],
        "allocatable": {"nvidia.com/gpu": str(gpus), "cpu": cpu, "memory": "2000Gi"},
    }
    return {"metadata": {"name": name, "labels": {"dayrun.dev/block": block}}, "spec": spec, "status": status}


def quota(used: dict[str, str] | None = None, name: str = "gpus", spec: Object | None = None, **hard: str) -> Object:
    lines = {line.replace("__", "/").replace("_", "."): limit for line, limit in hard.items()}
    return {"metadata": {"name": name}, "spec": spec or {}, "status": {"hard": lines, "used": used or {}}}


def queue(spec: Object | None = None, **quotas: str) -> Object:
    flavors = [{"name": "h200", "resources": [{"name": name, "nominalQuota": value} for name, value in quotas.items()]}]
    return {"metadata": {"name": "gpus"}, "spec": {"resourceGroups": [{"flavors": flavors}], **(spec or {})}}


def told(found: list[Finding]) -> list[tuple[str, str, list[Any]]]:
    """Level, place and the nearest values of each."""
    return [(one.level, one.at, [change.value for change in one.nearest]) for one in found]


# ---- quotas -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"requests_nvidia_com__gpu": "32"}, ("ok", "", [])),
        ({"requests_nvidia_com__gpu": "31"}, ("no", "/hardware/nodes", [3])),
        ({"requests_nvidia_com__gpu": "6"}, ("no", "/hardware/processes_per_node", [6])),
        ({"requests_nvidia_com__gpu": "0"}, ("no", "/hardware/processes_per_node", [])),
        ({"cpu": "640"}, ("ok", "", [])),
        ({"requests_cpu": "320"}, ("no", "/hardware/nodes", [2])),
        ({"limits_memory": "6399Gi"}, ("no", "/hardware/nodes", [3])),
        ({"pods": "3"}, ("no", "/hardware/nodes", [3])),
        ({"services": "0"}, ("ok", "", [])),
        ({"limits_cpu": "1000"}, ("unsure", "profile:/namespace", [])),
        ({"count__pytorchjobs_kubeflow_org": "0"}, ("note", "/hardware/nodes", [])),
    ],
)
def test_a_quota_is_held_against_the_whole_group(given: dict[str, str], expected: tuple[str, str, list[Any]]):
    assert told(of_quotas([quota(**given)], demand(), PYTORCHJOB)) == [expected]


def test_a_quota_that_is_full_now_is_a_note():
    (found,) = of_quotas([quota({"requests.nvidia.com/gpu": "8"}, requests_nvidia_com__gpu="32")], demand(), PYTORCHJOB)
    assert (found.level, found.at) == ("note", "/hardware/nodes")
    assert "24 of requests.nvidia.com/gpu left now, and 32 are asked for" in found.because


def test_an_elastic_group_is_only_in_doubt_where_its_least_has_room():
    assert told(of_quotas([quota(pods="1")], demand(2, min_nodes=1), PYTORCHJOB)) == [("unsure", "/hardware/nodes", [1])]
    assert told(of_quotas([quota(pods="0")], demand(2, min_nodes=1), PYTORCHJOB)) == [("no", "/hardware/nodes", [])]


@pytest.mark.parametrize(
    ("scope", "priority_class", "is_ours"),
    [
        ({}, None, True),
        ({"scopes": ["NotTerminating", "NotBestEffort"]}, None, True),
        ({"scopes": ["Terminating"]}, None, False),
        ({"scopes": ["BestEffort"]}, None, False),
        ({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}, None, False),
        ({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}, "high", True),
        ({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "NotIn", "values": ["high"]}]}}, "high", False),
        ({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "Exists"}]}}, None, False),
        ({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "DoesNotExist"}]}}, None, True),
    ],
)
def test_a_quota_of_other_pods_says_nothing(scope: Object, priority_class: str | None, is_ours: bool):
    assert concerns(quota(spec=scope), priority_class) is is_ours


# ---- Kueue --------------------------------------------------------------------------------------------------------------------------

ROOM = {"cpu": "1000", "memory": "10000Gi", "nvidia.com/gpu": "32"}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (queue(**ROOM), ("ok", "", [])),
        (queue(**ROOM | {"nvidia.com/gpu": "24"}), ("no", "/hardware/nodes", [3])),
        (queue({"cohort": "all"}, **ROOM | {"nvidia.com/gpu": "24"}), ("unsure", "/hardware/nodes", [])),
        (queue(cpu="1000", memory="10000Gi"), ("no", "profile:/queue", [])),
        (queue({"stopPolicy": "Hold"}, **ROOM), ("unsure", "profile:/queue", [])),
        (queue(**ROOM, pods="3"), ("no", "/hardware/nodes", [3])),
    ],
)
def test_a_queue_is_held_against_the_whole_group(found: Object, expected: tuple[str, str, list[Any]]):
    assert told(of_queue(found, demand())) == [expected]


def test_what_a_queue_may_borrow_is_bounded():
    lent = queue({"cohort": "all"}, **ROOM | {"nvidia.com/gpu": "16"})
    lent["spec"]["resourceGroups"][0]["flavors"][0]["resources"][2]["borrowingLimit"] = "8"
    assert told(of_queue(lent, demand())) == [("no", "/hardware/nodes", [3])]


def test_a_fabric_that_a_queue_does_not_cover_is_in_doubt():
    assert told(of_queue(queue(**ROOM), demand(profile=PROFILES["kueue"]))) == [("unsure", "profile:/queue", [])]


# ---- nodes --------------------------------------------------------------------------------------------------------------------------


def nodes(count: int, **more: Any) -> list[Object]:
    return [node(f"n{i}", **more) for i in range(count)]


FOUR_FREE = ("note", "/hardware/nodes", [])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (nodes(4), [("ok", "", []), FOUR_FREE]),
        (nodes(3), [("no", "/hardware/nodes", [3]), ("note", "/hardware/nodes", []), FOUR_FREE]),
        ([*nodes(4)[:3], node("n3", "Unknown")], [("unsure", "/hardware/nodes", []), FOUR_FREE]),
        ([*nodes(4)[:3], node("n3", unschedulable=True)], [("unsure", "/hardware/nodes", []), FOUR_FREE]),
        (nodes(4, taints=[{"key": "team", "value": "b", "effect": "NoSchedule"}]), [("no", "profile:/hardware/h200/tolerations", [])]),
        (nodes(4, taints=[{"key": "nvidia.com/gpu", "effect": "NoSchedule"}]), [("ok", "", []), FOUR_FREE]),
        (nodes(4, gpus=0), [("no", "profile:/hardware/h200/resource", [])]),
        (nodes(4, gpus=4), [("no", "/hardware/processes_per_node", [4])]),
        (nodes(4, cpu="100"), [("no", "profile:/hardware/h200/cpu_per_process", [5])]),
        ([], [("no", "profile:/hardware/h200/node_selector", [])]),
    ],
)
def test_nodes_of_the_kind_are_counted(given: list[Object], expected: list[tuple[str, str, list[Any]]]):
    assert told(of_nodes(given, [], demand())) == expected


def test_labels_that_no_node_has_are_named_with_those_that_there_are():
    other = node("n1")
    other["metadata"]["labels"]["nvidia.com/gpu.product"] = "NVIDIA-H100"
    (found,) = of_nodes([], [], demand(), [other])
    assert "no node with nvidia.com/gpu.product=NVIDIA-H200: nvidia.com/gpu.product is NVIDIA-H100" in found.because


def test_a_block_that_holds_the_group_is_needed_only_where_the_profile_says_so():
    split = [*nodes(2), node("m0", block="b"), node("m1", block="b")]
    assert ("note", "/hardware/nodes", []) in told(of_nodes(split, [], demand()))
    strict = demand(
        profile=PLAIN.model_copy(update={"hardware": {"h200": PLAIN.hardware["h200"].model_copy(update={"block_required": True})}})
    )
    assert ("no", "/hardware/nodes", [2]) in told(of_nodes(split, [], strict))
    assert not [one for one in of_nodes(nodes(4), [], strict) if one.level == "no"]


def test_what_our_own_pods_hold_is_not_free():
    held = {
        "spec": {"nodeName": "n0", "containers": [{"resources": {"requests": {"nvidia.com/gpu": "1"}}}]},
        "status": {"phase": "Running"},
    }
    *_, free = of_nodes(nodes(4), [held], demand())
    assert free.because.startswith("room for 3 such pods is free now, 3 in one block")
    over = {**held, "status": {"phase": "Succeeded"}}
    *_, free = of_nodes(nodes(4), [over], demand())
    assert free.because.startswith("room for 4 such pods is free now, 4 in one block")


def test_an_amount_goes_into_another_as_often_as_on_paper():
    assert times_in(0.3, 0.1) == 3
    assert demand().level(3) == "no"
    assert replace(demand(), least=2).level(3) == "unsure"


# ---- what the API server says -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refused", "level", "at"),
    [
        (Refused(404, "NotFound", 'namespaces "runs" not found'), "no", "profile:/namespace"),
        (Refused(404, "", "404 page not found"), "no", "profile:/back_end"),
        (Refused(404, "NotFound", "ConfigMap dayrun, which is to own every run, is not in runs"), "no", "profile:/owner"),
        (Refused(403, "Forbidden", "configmaps is forbidden: exceeded quota: all"), "note", "profile:/namespace"),
        (Refused(403, "Forbidden", 'User "x" cannot create resource "pytorchjobs"'), "no", "profile:/namespace"),
        (Refused(500, "InternalError", "failed calling webhook x: connection refused"), "unsure", ""),
        (Refused(422, "Invalid", "spec.x: wrong"), "no", ""),
    ],
)
def test_a_refusal_says_what_to_change(refused: Refused, level: str, at: str):
    found = of_refusal(refused, PLAIN)
    assert (found.level, found.at) == (level, at)


@pytest.mark.parametrize("listens", [True, False])
def test_an_api_server_that_does_not_answer_costs_the_seconds_that_it_may_and_is_one_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listens: bool
):
    server = socket.create_server(("127.0.0.1", 0))  # it is never accepted from: whoever connects waits
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.getsockname()[1]}"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    config = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context], "current-context": "c", "users": []}
    (tmp_path / "config").write_text(json.dumps({**config, "users": [{"name": "u", "user": {}}]}))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    if not listens:
        server.close()
    start = time.monotonic()
    found = quick(Api.from_environment(), PLAIN, attempt("prx-24h", {"hardware": {"nodes": 1}}), seconds=0.5)
    assert time.monotonic() - start < 5
    assert [(one.check, one.level) for one in found] == [("cluster", "note")]
    server.close()
