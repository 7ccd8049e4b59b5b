"""What is concluded from an attempt's objects. That they look like this on a real cluster is shown by `tests/cluster/test_groups.py`."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dayrun.recipe import Hardware as Asked
from k8s.api import Object
from k8s.observe import LAUNCHED, STOPPED, Seen, Verdict, judge
from k8s.profile import Hardware
from k8s.room import block_with_room

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).isoformat()


def condition(type: str, status: str = "True", **more: str) -> Object:
    return {"type": type, "status": status, "lastTransitionTime": ago(60), **more}


def node(name: str, ready: str = "True", gpus: int = 8, **labels: str) -> Object:
    status = {
        "conditions": [condition("Ready", ready, reason="NodeStatusUnknown", message="no word")],
        "allocatable": {"nvidia.com/gpu": str(gpus)},
    }
    return {"metadata": {"name": name, "labels": labels}, "spec": {}, "status": status}


def pod(name: str = "run-1-master-0", phase: str = "Running", on: str = "n1", made: float = 120, gpus: int = 8, **more: Any) -> Object:
    container = {"image": "trainer:1", "resources": {"requests": {"nvidia.com/gpu": str(gpus)}, "limits": {"memory": "2Gi"}}}
    metadata = {"name": name, "uid": name, "creationTimestamp": ago(made), **more.pop("metadata", {})}
    return {"metadata": metadata, "spec": {"nodeName": on, "containers": [container]}, "status": {"phase": phase, **more}}


def ended(code: int, reason: str = "Error", message: str = "") -> list[Object]:
    return [{"state": {"terminated": {"exitCode": code, "reason": reason, "message": message}}}]


def waiting(reason: str, message: str = "") -> list[Object]:
    return [{"state": {"waiting": {"reason": reason, "message": message}}}]


def job(*conditions: Object, workers: int = 1, **metadata: Any) -> Object:
    status = {"conditions": [condition("Created"), *conditions]}
    spec = {"runPolicy": {}, "pytorchReplicaSpecs": {"Master": {"replicas": 1}, "Worker": {"replicas": workers}}}
    return {"kind": "PyTorchJob", "metadata": {"uid": "job", **metadata}, "spec": spec, "status": status}


def train_job(nodes: int) -> Object:
    return {"kind": "TrainJob", "metadata": {"uid": "job"}, "spec": {"trainer": {"numNodes": nodes}}, "status": {}}


def warning(message: str) -> Object:
    return {"involvedObject": {"uid": "job"}, "message": message}


def look(job: Object | None, *pods: Object, gone: tuple[Object, ...] = (), warnings: tuple[Object, ...] = (), **notes: str) -> Verdict:
    claim = {"metadata": {"annotations": {"dayrun.dev/" + name: value for name, value in notes.items()}}}
    return judge(Seen(claim, job, list(pods), list(gone), list(warnings), {"n1": node("n1"), "lost": node("lost", "Unknown")}), 60, NOW)


def over_quota(asked: int, used: int, limit: int) -> Object:
    return warning(f"pods x is forbidden: exceeded quota: q, requested: gpu={asked}, used: gpu={used}, limited: gpu={limit}")


def failed(code: int, message: str = "", reason: str = "Error") -> Verdict:
    return look(job(condition("Failed")), pod(containerStatuses=ended(code, reason, message)))


def disrupted(reason: str) -> Object:
    return pod("b", metadata={"deletionTimestamp": ago(0)}, conditions=[condition("DisruptionTarget", reason=reason)])


def test_annotations_have_the_names_that_these_tests_use():
    assert (LAUNCHED, STOPPED) == ("dayrun.dev/launched", "dayrun.dev/stopped")


@pytest.mark.parametrize(
    ("verdict", "launched", "cause"),
    [
        (look(None), "absent", None),
        (look(None, launched="uid"), "ended", "preempted"),
        (look(None, stopped=ago(5)), "ended", None),
        (look(None, pod(), launched="uid"), "running", None),
        (look(job(), pod()), "running", None),
        (look(job(condition("Succeeded")), pod(phase="Succeeded")), "ended", None),
        (failed(137, reason="OOMKilled"), "ended", "oom"),
        (failed(1, "x\nNVRM: Xid 79: GPU has fallen off"), "ended", "gpu_fault"),
        (failed(1, "torch.OutOfMemoryError: CUDA out of memory"), "ended", "oom"),
        (failed(1, "Watchdog caught collective operation timeout"), "ended", "nccl_timeout"),
        (failed(1, "OSError: No space left on device"), "ended", "storage"),
        (failed(1), "ended", None),
        (look(job(condition("Failed")), pod(phase="Failed", reason="Evicted", message="low on memory")), "ended", "preempted"),
        (look(job(condition("Failed")), disrupted("PreemptionByScheduler")), "ended", "preempted"),
        (look(job(condition("Failed")), disrupted("DeletionByTaintManager")), "ended", "node_lost"),
        (look(job(condition("Failed")), pod(on="lost")), "ended", "node_lost"),
        (look(job(condition("Failed", message="it was active longer than specified deadline"))), "ended", "deadline"),
    ],
)  # fmt: skip
def test_what_became_of_it(verdict: Verdict, launched: str, cause: str | None):
    assert (verdict.launched, verdict.cause) == (launched, cause)


@pytest.mark.parametrize(
    ("verdict", "cause"),
    [
        (look(job(), pod(phase="Pending", containerStatuses=waiting("ErrImageNeverPull"))), "image_pull"),
        (look(job(), pod(phase="Pending", containerStatuses=waiting("ImagePullBackOff"), made=61)), "image_pull"),
        (look(job(), pod(phase="Pending", containerStatuses=waiting("ImagePullBackOff"), made=59)), None),
        (look(job(), pod(gpus=16, phase="Pending", conditions=[condition("PodScheduled", "False", message="0/1 nodes")])), "spec"),
        (look(job(), pod(gpus=8, phase="Pending", conditions=[condition("PodScheduled", "False", message="0/1 nodes")])), None),
        (look(job(), warnings=(over_quota(8, 0, 4),)), "spec"),
        (look(job(), warnings=(over_quota(8, 8, 8),)), None),
        (look(job(), warnings=(warning('admission webhook "w" denied the request: no'),)), "spec"),
        (look(job(), warnings=(warning("pods x is forbidden: violates PodSecurity"),)), "spec"),
        (look(job(), pod(), pod("b", metadata={"deletionTimestamp": ago(0)})), "preempted"),
        (look(job(), pod(phase="Failed"), pod("b", metadata={"deletionTimestamp": ago(0)})), None),
        (look(job(), pod(phase="Succeeded"), gone=(pod("b", metadata={"deletionTimestamp": ago(0)}),)), None),
        (look(job(), pod(), gone=(disrupted("DeletionByPodGC"),)), "node_lost"),
        (look(job(condition("Running")), pod(), pod("b", made=30)), "preempted"),
        (look(job(condition("Running")), pod(), pod("b", made=61)), None),
        (look(job(condition("Running")), pod(), pod("b", on="lost")), None),
    ],
)  # fmt: skip
def test_what_will_not_mend_by_waiting(verdict: Verdict, cause: str | None):
    assert verdict.launched == "running"
    assert (verdict.is_hopeless, verdict.cause) == (cause is not None, cause)


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (look(job()), "pods"),
        (look(job(), warnings=(over_quota(1, 8, 8),)), "cluster_quota"),
        (look(job(), pod(phase="Pending", conditions=[condition("PodScheduled", "False", message="0/1 nodes")])), "unschedulable"),
        (look(job(), pod(phase="Pending", containerStatuses=waiting("ErrImagePull"), made=1)), "image"),
        (look(job(), pod(), pod("b", phase="Pending")), "pods"),
        (look(job(workers=2), pod(), pod("b")), "pods"),
        (look(train_job(nodes=3), pod(), pod("b")), "pods"),
        (look(job(), pod(), warnings=(over_quota(1, 8, 8),)), "cluster_quota"),
        (look(job(deletionTimestamp=ago(1)), pod()), "stopping"),
        (look({**job(), "spec": {"runPolicy": {"suspend": True}}}), "admission"),
    ],
)  # fmt: skip
def test_what_it_waits_for(verdict: Verdict, code: str):
    assert verdict.waits_for is not None
    assert verdict.waits_for[0] == code


def test_why_kueue_does_not_admit_it_is_said_in_kueues_words():
    suspended = {**job(), "spec": {"runPolicy": {"suspend": True}}}
    short = {"involvedObject": {"kind": "Workload", "name": "pytorchjob-run-1-1f2e3"}, "message": "insufficient unused quota for cpu"}
    verdict = look(suspended, warnings=(warning("of the job itself"), short))
    assert verdict.waits_for == ("admission", "Kueue has not admitted the job yet: insufficient unused quota for cpu")


def test_a_group_waits_for_nothing_once_every_pod_runs():
    assert look(job(), pod(), pod("b")).waits_for is None
    assert look(train_job(nodes=2), pod(), pod("b")).waits_for is None


def test_nodes_of_faults_that_may_be_theirs_are_named():
    fault = pod(containerStatuses=ended(1, message="CUDA error: an illegal instruction"))
    assert look(job(condition("Failed")), fault).bad_nodes == ["n1"]
    assert failed(137, reason="OOMKilled").bad_nodes == []


def test_a_group_goes_into_the_block_with_the_least_room_that_holds_it():
    hardware = Hardware(block_label="block", node_selector={"kind": "h200"})
    nodes = [node(f"{block}{i}", block=block, kind="h200") for block, count in (("a", 8), ("b", 4), ("c", 5)) for i in range(count)]
    nodes += [node("other", block="d", kind="h100")]

    def choose(wanted: int, *pods: Object, avoid: tuple[str, ...] = ()) -> str | None:
        return block_with_room(nodes, pods, hardware, Asked(nodes=wanted, processes_per_node=8), avoid)

    assert choose(4) == "b"
    assert choose(4, pod(on="b0")) == "c"
    assert choose(4, pod(on="b0", phase="Succeeded")) == "b"
    assert choose(4, avoid=("b1",)) == "c"
    assert choose(6) == "a"
    assert choose(9) is None
