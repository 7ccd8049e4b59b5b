"""Groups of pods against the real API server and the real operator, on simulated nodes: begun once, never two of a run, stopped, judged."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from dayrun import builtin
from dayrun.recipe import merge_patch
from dayrun.rules import load
from k8s.api import CONFIG_MAP, NODE, POD, QUOTA, Api, Kind, Object, Refused
from k8s.attempt import Attempt, name_of
from k8s.launch import Groups
from k8s.mirror import Mirror, Wanted
from k8s.observe import LAUNCHED, Verdict, true_conditions
from k8s.profile import ClusterProfile
from k8s.render import claim, job
from k8s.view import View
from service.database import new_id
from tests.cluster.cluster import Cluster
from tests.conftest import until
from tests.k8s.profiles import H200, PROFILES
from tests.k8s.test_render import CASES, attempt

SIMULATED = {"tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists", "effect": "NoSchedule"}], "block_required": False}
SMALL: dict[str, Any] = {"cpu_per_process": "1", "memory_per_process": "1Gi", "shared_memory_per_process": "64Mi"}


@pytest.fixture
def profile(namespace: str, cluster: Cluster) -> ClusterProfile:
    hardware = {"h200": {**H200, **SIMULATED, **SMALL}}
    return ClusterProfile.model_validate(
        {"namespace": namespace, "image": cluster.images.trainer, "hardware": hardware, "pull_policy": "Never"}
    )


@pytest.fixture
def groups(api: Api, profile: ClusterProfile) -> Groups:
    return Groups(api, profile)


@pytest.fixture
def view(api: Api, profile: ClusterProfile, groups: Groups) -> Iterator[View]:
    made = View(api, profile, groups)
    made.start()
    assert made.wait_until_filled()
    yield made
    made.stop()


def simulated(nodes: int = 2, number: int = 1, run_id: str | None = None, **more: Any) -> Attempt:
    recipe = load(merge_patch(builtin.get("prx-24h"), {"hardware": {"nodes": nodes, "processes_per_node": 8}}), for_training=False)
    run_id = run_id or new_id("run")
    return Attempt(run_id, number, f"s3://nowhere/{run_id}", recipe, 5.0, **more)


def seen(view: View, one: Attempt, suits: Callable[[Verdict], Any], what: str) -> Verdict:
    def look() -> Verdict | None:
        verdict = view.verdict(one.run_id, one.number)
        return verdict if verdict is not None and suits(verdict) else None

    try:
        return until(look, what, 180)  # the cluster itself looks for pods of lost nodes once a minute
    except AssertionError as error:
        raise AssertionError(f"{error}: {view.verdict(one.run_id, one.number)}") from None


def all_run(verdict: Verdict) -> bool:
    return verdict.launched == "running" and verdict.waits_for is None


def is_over(verdict: Verdict) -> bool:
    """Whether nothing comes of the group any more: the operator says so, or we see it first."""
    return verdict.is_hopeless or verdict.launched == "ended"


def pods_of(api: Api, profile: ClusterProfile, one: Attempt) -> list[Object]:
    return api.list(POD, profile.namespace, f"dayrun.dev/run={one.labels['dayrun.dev/run']}")[0]


@pytest.mark.parametrize("case", [case for case in CASES if "trainjob" not in case])
def test_the_api_server_takes_what_is_rendered(api: Api, namespace: str, case: str):
    recipe, patch, profile, more = CASES[case]
    known = PROFILES[profile].model_copy(update={"namespace": namespace})
    one = attempt(recipe, patch, **more)
    assert api.create(claim(one, known), dry_run=True)["kind"] == "ConfigMap"
    assert api.create(job(one, known), dry_run=True)["kind"] == "PyTorchJob"


def test_a_group_is_begun_once_however_often_and_by_whomever(api: Api, profile: ClusterProfile, groups: Groups, view: View):
    one = simulated()
    threads = [threading.Thread(target=groups.launch, args=[one]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen(view, one, all_run, "both pods to run")
    assert groups.launch(one)
    assert len(api.list(groups.kind, profile.namespace)[0]) == 1
    assert sorted(pod["spec"]["nodeName"][:5] for pod in pods_of(api, profile, one)) == ["h200-", "h200-"]


class Killed(BaseException):
    """kill −9 of the process that launches."""


class MortalApi(Api):
    """Dies before or after its nth request."""

    def __init__(self, api: Api, step: float) -> None:
        self.__dict__.update(api.__dict__)
        self._left = step

    def _ask(self, *arguments: Any, **more: Any) -> Object:
        self._left -= 0.5
        if self._left <= 0:
            raise Killed
        answer = super()._ask(*arguments, **more)
        self._left -= 0.5
        if self._left <= 0:
            raise Killed
        return answer


def test_one_who_is_killed_at_any_request_of_a_launch_makes_one_job(api: Api, profile: ClusterProfile, groups: Groups):
    deaths, runs = 0, list[Attempt]()
    while True:
        one = simulated()
        runs.append(one)
        try:
            Groups(MortalApi(api, (deaths + 1) / 2), profile).launch(one)
        except Killed:
            deaths += 1
        else:
            break
        assert groups.launch(one)
    assert deaths >= 10  # two lists, the claim, the job, the note: before each and after
    jobs = api.list(groups.kind, profile.namespace)[0]
    assert sorted(found["metadata"]["name"] for found in jobs) == sorted(one.name for one in runs)
    for found in jobs:
        held = api.get(CONFIG_MAP, profile.namespace, found["metadata"]["name"])
        assert held is not None
        assert held["metadata"]["annotations"][LAUNCHED] == found["metadata"]["uid"]


def test_a_job_that_somebody_deletes_has_ended_and_is_not_made_again(api: Api, profile: ClusterProfile, groups: Groups, view: View):
    one = simulated()
    groups.launch(one)
    seen(view, one, all_run, "both pods to run")
    api.delete(groups.kind, profile.namespace, one.name)
    ended = seen(view, one, lambda verdict: verdict.launched == "ended", "the end")
    assert (ended.cause, ended.evidence) == ("preempted", ["the job was deleted by somebody else than dayrun, and its pods with it"])
    groups.launch(one)
    assert api.get(groups.kind, profile.namespace, one.name) is None


def test_an_attempt_that_was_stopped_before_it_began_never_does(api: Api, profile: ClusterProfile, groups: Groups, view: View):
    one = simulated()
    groups.stop(one.run_id, one.number, force=False)
    assert groups.launch(one)
    assert seen(view, one, lambda verdict: verdict.launched == "ended", "the end").evidence == ["stopped before it began"]
    assert api.get(groups.kind, profile.namespace, one.name) is None


def test_a_stopped_group_ends(profile: ClusterProfile, groups: Groups, view: View, api: Api):
    one = simulated()
    groups.launch(one)
    seen(view, one, all_run, "both pods to run")
    groups.stop(one.run_id, one.number, force=False)
    seen(view, one, lambda verdict: verdict.launched == "ended", "the end")
    assert pods_of(api, profile, one) == []


def test_the_next_attempt_waits_until_nothing_of_the_last_one_is_left(api: Api, profile: ClusterProfile, groups: Groups, view: View):
    first = simulated()
    groups.launch(first)
    seen(view, first, all_run, "both pods to run")
    second = replace(first, number=2)
    begun = until(lambda: [groups.launch(second)], "an answer", 10)[0]
    assert not begun
    until(lambda: groups.launch(second), "room for the second attempt", 60)
    assert {pod["metadata"]["labels"]["dayrun.dev/attempt"] for pod in pods_of(api, profile, first)} <= {"2"}
    with pytest.raises(Refused, match="attempt 2 of"):
        groups.launch(first)


def test_a_member_that_is_taken_away_breaks_the_group(api: Api, profile: ClusterProfile, groups: Groups, view: View):
    one = simulated()
    groups.launch(one)
    seen(view, one, all_run, "both pods to run")
    api.delete(POD, profile.namespace, f"{one.name}-worker-0")
    broken = seen(view, one, lambda verdict: verdict.is_hopeless or verdict.launched == "ended", "the break")
    assert broken.cause == "preempted"
    assert f"{one.name}-worker-0" in broken.evidence[0]


def test_a_node_that_is_no_more_is_named_and_avoided(api: Api, cluster: Cluster, profile: ClusterProfile, groups: Groups, view: View):
    cluster.simulate(5)  # the last is deleted, and none made anew: kwok forgets to report for a node of a name that it had before
    one = simulated(nodes=4, avoid_nodes=("h200-0",))
    groups.launch(one)
    seen(view, one, all_run, "all four pods to run")
    lost = "h200-4"
    try:
        api.delete(NODE, None, lost)
        broken = seen(view, one, is_over, "the break")
    finally:
        cluster.simulate(4)
    assert (broken.cause, broken.bad_nodes) == ("node_lost", [lost])
    groups.stop(one.run_id, one.number, force=True)
    again = replace(simulated(nodes=2, number=2, run_id=one.run_id), avoid_nodes=(lost,))
    until(lambda: groups.launch(again), "room for the second attempt", 60)
    seen(view, again, all_run, "two pods elsewhere")


def test_a_node_that_does_not_answer_any_more_is_waited_for_and_then_avoided(
    api: Api, cluster: Cluster, profile: ClusterProfile, groups: Groups, view: View
):
    one = simulated(nodes=2)
    groups.launch(one)
    seen(view, one, all_run, "both pods to run")
    silent = pods_of(api, profile, one)[0]["spec"]["nodeName"]
    cluster.kubectl("annotate", "node", silent, "kwok.x-k8s.io/node-")  # nobody reports for it any more
    try:
        until(lambda: "Ready" not in true_conditions(api.get(NODE, None, silent) or {}), "the node to be given up by the cluster", 120)
        assert not seen(view, one, lambda verdict: True, "a verdict").is_hopeless  # it may come back
        broken = seen(view, one, is_over, "the break")
        assert (broken.cause, broken.bad_nodes) == ("node_lost", [silent])
        groups.stop(one.run_id, one.number, force=True)
        again = replace(simulated(nodes=2, number=2, run_id=one.run_id), avoid_nodes=(silent,))
        until(lambda: groups.launch(again), "room for the second attempt", 60)
    finally:
        cluster.kubectl("annotate", "node", silent, "kwok.x-k8s.io/node=fake", "--overwrite")
    seen(view, again, all_run, "two pods elsewhere")
    assert silent not in {
        pod["spec"]["nodeName"] for pod in pods_of(api, profile, again) if pod["metadata"]["labels"]["dayrun.dev/attempt"] == "2"
    }


def test_what_has_no_room_says_so_in_the_schedulers_words(groups: Groups, view: View):
    wide = simulated(nodes=8)
    groups.launch(wide)
    waits = seen(
        view, wide, lambda verdict: verdict.waits_for is not None and verdict.waits_for[0] == "unschedulable", "the scheduler's word"
    )
    assert waits.waits_for is not None
    assert "nvidia.com/gpu" in waits.waits_for[1]
    assert not waits.is_hopeless


def test_a_pod_larger_than_any_node_is_hopeless_and_says_what_there_is(api: Api, profile: ClusterProfile, view: View):
    large = profile.model_copy(update={"hardware": {"h200": profile.hardware["h200"].model_copy(update={"processes_per_node": 16})}})
    recipe = load(merge_patch(builtin.get("prx-24h"), {"hardware": {"nodes": 1, "processes_per_node": 16}}), for_training=False)
    one = Attempt(new_id("run"), 1, "s3://nowhere", recipe, 5.0)
    Groups(api, large).launch(one)
    broken = seen(view, one, lambda verdict: verdict.is_hopeless, "a verdict")
    assert broken.cause == "spec"
    assert broken.evidence == ["a pod asks for nvidia.com/gpu: 16, and the largest node of the cluster has 8"]


def test_a_quota_that_can_never_hold_it_is_hopeless_and_one_that_is_full_is_waited_for(
    api: Api, cluster: Cluster, namespace: str, groups: Groups, view: View
):
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "gpus", "namespace": namespace}}
    cluster.apply({**quota, "spec": {"hard": {"requests.nvidia.com/gpu": "0"}}})
    until(lambda: (api.get(QUOTA, namespace, "gpus") or {}).get("status", {}).get("hard"), "the quota to be in force", 30)
    one = simulated()
    groups.launch(one)
    broken = seen(view, one, lambda verdict: verdict.is_hopeless, "a verdict")
    assert broken.cause == "spec"
    assert "exceeded quota: gpus" in broken.evidence[0]
    groups.stop(one.run_id, one.number, force=True)
    cluster.apply({**quota, "spec": {"hard": {"requests.nvidia.com/gpu": "8"}}})
    until(lambda: (api.get(QUOTA, namespace, "gpus") or {})["status"]["hard"]["requests.nvidia.com/gpu"] == "8", "the new quota", 30)
    first, second = simulated(nodes=1), simulated(nodes=1)
    groups.launch(first)
    seen(view, first, all_run, "the first to run")
    groups.launch(second)
    waits = seen(view, second, lambda verdict: (verdict.waits_for or ("",))[0] == "cluster_quota", "the quota's word")
    assert not waits.is_hopeless


# ---- mirrors ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def mirror(api: Api, namespace: str) -> Iterator[Mirror]:
    made = Mirror(api, Wanted(CONFIG_MAP, namespace, labels="of=mirror"))
    made.start()
    assert made.wait_until_filled(30)
    yield made
    made.stop()


def put(cluster: Cluster, namespace: str, name: str, **data: str) -> None:
    metadata = {"name": name, "namespace": namespace, "labels": {"of": "mirror"}}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


def test_a_mirror_follows_what_is_made_changed_and_deleted(cluster: Cluster, namespace: str, mirror: Mirror):
    put(cluster, namespace, "one", said="a")
    until(lambda: mirror.get(namespace, "one"), "the object", 20)
    put(cluster, namespace, "one", said="b")
    until(lambda: (mirror.get(namespace, "one") or {})["data"]["said"] == "b", "the change", 20)
    cluster.kubectl("-n", namespace, "delete", "configmap", "one")
    until(lambda: mirror.get(namespace, "one") is None, "the end", 20)
    assert mirror.lists == 1


def test_a_mirror_of_what_may_not_be_read_says_that_it_sees_nothing(api: Api, namespace: str):
    mirror = Mirror(api, Wanted(Kind("kubeflow.org/v7", "PyTorchJob"), namespace))
    mirror.start()
    assert not mirror.wait_until_filled(3)
    assert not mirror.is_current
    mirror.stop()


def test_names_lead_to_the_job(groups: Groups):
    one = simulated()
    groups.launch(one)
    found = groups.job(one.run_id, 1)
    assert found is not None
    assert found["metadata"]["name"] == name_of(one.run_id, 1)
