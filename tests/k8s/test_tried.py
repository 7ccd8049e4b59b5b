"""What is concluded from a trial's pods and from what they measured; `tests/cluster/test_preflight.py` shows real ones."""

from typing import Any

import pytest

from dayrun.plan import Finding
from k8s.api import Object
from k8s.attempt import ATTEMPT, Attempt, attempt_of
from k8s.pods import container, pod_spec
from k8s.profile import ClusterProfile
from k8s.tried import Seen, of_group, of_store, ranks_of
from tests.k8s.test_observe import ended, pod, waiting
from tests.k8s.test_preflight import PLAIN, demand
from tests.k8s.test_render import attempt

URL = "s3://dayrun/runs/preflight_1"
PROFILE = PLAIN.model_copy(update={"environment_secrets": ["dayrun-store"], "pull_secrets": ["registry"]})


def store(*pods: Object, warnings: tuple[Object, ...] = (), is_last: bool = False) -> list[tuple[str, str, str]] | None:
    return told(of_store(Seen(list(pods), list(warnings), is_last), PROFILE, URL))


def told(found: list[Finding] | None) -> list[tuple[str, str, str]] | None:
    return None if found is None else [(one.check, one.level, one.at) for one in found]


def unscheduled(message: str) -> Object:
    return pod(phase="Pending", conditions=[{"type": "PodScheduled", "status": "False", "message": message}])


def event(message: str, reason: str = "FailedCreate") -> Object:
    return {"reason": reason, "message": message}


# ---- the small job ------------------------------------------------------------------------------------------------------------------


def test_a_job_that_ended_well_shows_image_and_store():
    assert store(pod(phase="Succeeded")) == [("image", "ok", ""), ("store", "ok", "")]


def test_nothing_is_said_before_it_is_known():
    assert store() is None
    assert store(pod(phase="Running")) is None
    assert store(pod(phase="Pending", containerStatuses=waiting("ErrImagePull"))) is None
    assert store(unscheduled("0/4 nodes are available")) is None


@pytest.mark.parametrize(
    ("words", "at"),
    [
        ("write: s3://b/x: Generic S3 error: PUT http://169.254.169.254/latest/api/token: 403", "profile:/environment_secrets"),
        ("write: s3://b/x: the store has no such bucket", "setting:DAYRUN_RUNS"),
        ("write: s3://b/x: Generic S3 error: Client error with status 403 Forbidden: InvalidAccessKeyId", "profile:/environment_secrets"),
        ("write: s3://b/x: Generic S3 error: error sending request for url (http://s3:8333/b/x)", "profile:/environment_secrets"),
        ("write: /runs/x: Generic LocalFileSystem error: Permission denied (os error 13)", "setting:DAYRUN_RUNS"),
        ("delete: s3://b/x: something else", "setting:DAYRUN_RUNS"),
    ],
)
def test_a_store_that_refuses_says_what_to_change(words: str, at: str):
    failed = pod(phase="Failed", containerStatuses=ended(70, message=f"{words}\n"))
    assert store(failed) == [("image", "ok", ""), ("store", "no", at)]
    found = of_store(Seen([failed], [], False), PROFILE, URL)
    assert found is not None
    assert words in found[1].because


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (pod(phase="Pending", containerStatuses=waiting("ImagePullBackOff", "not found")), ("image", "no", "profile:/image")),
        (pod(phase="Pending", containerStatuses=waiting("ErrImageNeverPull")), ("image", "no", "profile:/image")),
        (pod(phase="Failed", containerStatuses=ended(128, "StartError", "tini: not found")), ("image", "no", "profile:/image")),
        (
            pod(phase="Pending", containerStatuses=waiting("CreateContainerConfigError", 'secret "dayrun-store" not found')),
            ("store", "no", "profile:/environment_secrets"),
        ),
        (unscheduled('persistentvolumeclaim "data" not found'), ("store", "no", "profile:/volumes")),
    ],
)
def test_a_pod_that_can_never_start_says_what_to_change(given: Object, expected: tuple[str, str, str]):
    assert store(given) == [expected]


def test_a_pull_secret_that_is_missing_is_named():
    pulling = pod(phase="Pending", containerStatuses=waiting("ImagePullBackOff", "401"))
    missing = event("Unable to retrieve some image pull secrets (registry)", "FailedToRetrieveImagePullSecret")
    assert store(pulling, warnings=(missing,)) == [("image", "no", "profile:/pull_secrets")]


def test_what_did_not_start_in_time_is_in_doubt_and_says_why():
    assert store(unscheduled("0/4 nodes are available"), is_last=True) == [("nodes", "unsure", "/hardware/nodes")]
    assert store(pod(phase="Pending"), warnings=(event("MountVolume failed", "FailedMount"),), is_last=True) == [("store", "unsure", "")]
    assert store(pod(phase="Running"), is_last=True) == [("store", "unsure", "")]
    assert store(is_last=True) == [("store", "unsure", "")]


def test_pods_that_nobody_may_make_say_why():
    assert store(warnings=(event("pods x is forbidden: exceeded quota: all"),)) == [("quota", "unsure", "profile:/namespace")]
    assert store(warnings=(event("pods x is forbidden: violates PodSecurity"),)) == [("store", "no", "profile:/namespace")]


# ---- the group ----------------------------------------------------------------------------------------------------------------------


def measures(ranks: int = 16, slow: int | None = None, wrong: int | None = None, summed: bool = True) -> list[Object]:
    found: list[Object] = []
    for rank in range(ranks):
        who = {"rank": rank, "node": f"n{rank // 8}", "device": "cuda"}
        found.append({"measured": "matrix", **who, "is_right": rank != wrong, "tflops": 300.0 if rank == slow else 700.0})
        if summed:
            found.append({"measured": "all_reduce", **who, "is_right": True, "ranks": ranks, "gigabytes_per_second": 300.0})
    return found


def group(given: list[Object], *pods: Object, is_last: bool = False) -> list[Finding] | None:
    return of_group(Seen(list(pods), [], is_last), PROFILE, demand(2), lambda: given)


PAIR = (pod("m", "Succeeded", "n0"), pod("w", "Succeeded", "n1"))


def test_a_group_that_computes_says_how_fast_each_node_is():
    found = group(measures(), *PAIR)
    assert told(found) == [("group", "ok", ""), ("group", "note", "/hardware/nodes"), ("group", "note", "/hardware/nodes")]
    assert found is not None
    assert found[1].because == "n0, ranks 0 to 7: 700 TFLOP/s, sums at 300 GB/s"


def test_a_slow_rank_and_a_wrong_one_name_their_node():
    slow = group(measures(slow=9), *PAIR)
    assert slow is not None
    assert (slow[0].level, "n1 computes slower than the others (ranks 9: 300 TFLOP/s of 700)" in slow[0].because) == ("unsure", True)
    wrong = group(measures(wrong=3), pod("m", "Failed", "n0", containerStatuses=ended(70)), PAIR[1])
    assert wrong is not None
    assert (wrong[0].level, wrong[0].because) == ("no", "n0 computes wrong products (ranks 3): cordon it")


def test_ranks_that_compute_and_never_meet_point_to_the_fabric():
    failed = pod("m", "Failed", "n0", containerStatuses=ended(1, message="Watchdog caught collective operation timeout"))
    assert told(group(measures(summed=False), failed, PAIR[1])) == [("group", "no", "profile:/hardware/h200/fabric")]
    assert told(group(measures(summed=False), pod("m"), pod("w"), is_last=True)) == [("group", "unsure", "profile:/hardware/h200/fabric")]


def test_memory_that_does_not_suffice_points_to_the_profile():
    killed = pod("m", "Failed", "n0", containerStatuses=ended(137, "OOMKilled"))
    assert told(group([], killed, PAIR[1])) == [("group", "no", "profile:/hardware/h200/memory_per_process")]


def test_a_group_is_waited_for_until_all_of_it_is_over():
    assert group(measures(), PAIR[0]) is None
    assert group([], pod("m"), pod("w")) is None
    assert told(group([], is_last=True)) == [("group", "unsure", "")]


@pytest.mark.parametrize(("ranks", "text"), [({3}, "3"), ({0, 1, 2}, "0 to 2"), ({0, 2}, "0, 2")])
def test_ranks_are_told_as_people_do(ranks: set[int], text: str):
    assert ranks_of(ranks) == text


def test_a_group_of_a_trial_is_no_attempt_and_needs_no_claim():
    one: Attempt = attempt("prx-24h", {"hardware": {"nodes": 2}}, program=("trainer.check", "nodes"))
    profile: ClusterProfile = PLAIN
    assert ATTEMPT not in one.labels
    assert attempt_of(one.labels) is None
    made: Any = container(one, profile, profile.hardware["h200"])
    assert made["args"][-3:] == ["-m", "trainer.check", "nodes"]
    assert "recipe" not in {volume["name"] for volume in pod_spec(one, profile)["volumes"]} | {
        mount["name"] for mount in made["volumeMounts"]
    }
