"""Runs that a real Kueue admits: one after the other where its queue has room for one."""

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from dayrun.client import Client
from tests.cluster.cluster import BOOT, Cluster
from tests.cluster.installed import Installation, until_run
from tests.cluster.test_runs import recipe, trains

pytestmark = pytest.mark.kueue

FLAVOR = {"name": "any", "quotas": {"cpu": "500m", "memory": "5Gi"}}
"""Room for two pods of 200m and 2Gi."""


@pytest.fixture(scope="module", autouse=True)
def queue(cluster: Cluster, dayrun: Installation) -> Iterator[None]:
    subprocess.run([BOOT / "kueue.sh"], check=True)
    dayrun.upgrade(kueue={"create": True, "flavors": [FLAVOR]})
    yield
    dayrun.upgrade()


def workloads(dayrun: Installation) -> list[dict[str, Any]]:
    return dayrun.get("workloads.kueue.x-k8s.io")["items"]


def test_a_run_waits_for_its_queue_and_is_admitted_when_the_one_before_it_ends(dayrun: Installation, client: Client):
    first = client.create_run(recipe(steps=2000))
    until_run(client, first, trains, "train")
    second = client.create_run(recipe(steps=40))
    waiting = until_run(client, second, lambda run: run.waiting is not None and "quota" in run.waiting.because, "wait for quota")
    assert waiting.waiting is not None
    assert waiting.waiting.code == "admission"
    (job,) = dayrun.jobs(second)
    assert job["spec"]["runPolicy"]["suspend"]
    assert dayrun.pods(second, 1) == []
    client.cancel(first.id)
    until_run(client, first, lambda run: run.state == "cancelled", "be cancelled")
    ended = until_run(client, second, lambda run: run.over, "end")
    assert (ended.state, ended.attempt) == ("succeeded", 1)


def test_what_the_queue_can_never_admit_is_said_by_the_plan(client: Client):
    plan = client.plan(recipe(nodes=4))
    verdicts = [verdict for verdict in plan.verdicts if "ClusterQueue" in verdict["because"]]
    assert {(verdict["about"], verdict["at"]) for verdict in verdicts} == {("cluster", "/hardware/nodes")}
    reasons = [verdict["because"] for verdict in verdicts if "4 pods" in verdict["because"]]
    assert {name for name in ("cpu", "memory") if any(name in because for because in reasons)} == {"cpu", "memory"}


def test_a_paused_run_gives_its_quota_back(dayrun: Installation, client: Client):
    run = client.create_run(recipe(steps=2000))
    until_run(client, run, trains, "train")
    assert [w for w in workloads(dayrun) if any(c["type"] == "Admitted" and c["status"] == "True" for c in w["status"]["conditions"])]
    client.pause(run.id)
    until_run(client, run, lambda run: run.state == "paused", "pause")
    next_one = client.create_run(recipe(steps=40))
    ended = until_run(client, next_one, lambda run: run.over, "end")
    assert ended.state == "succeeded"
    client.cancel(run.id)
