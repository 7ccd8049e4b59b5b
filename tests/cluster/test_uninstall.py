"""What becomes of runs when dayrun is uninstalled: they train on, or they go with it, as a value says."""

from typing import Any

import pytest

from dayrun.client import Client
from tests.cluster.cluster import Cluster
from tests.cluster.installed import Installation, until_run, values
from tests.conftest import until
from tests.tiny import tiny_recipe


def on_a_simulated_node() -> dict[str, Any]:
    found = tiny_recipe("tiny", processes=8)
    found["hardware"] |= {"accelerator": "h200", "nodes": 1}
    return found


@pytest.mark.parametrize("kept", [True, False], ids=["keep", "delete"])
def test_runs_stay_or_go_as_the_value_says(cluster: Cluster, namespace: str, kept: bool):
    installed = Installation(cluster, namespace, values(cluster, None))
    installed.upgrade(runs={"onUninstall": "keep" if kept else "delete"})
    with installed.client(installed.first_key()) as client:
        run = client.create_run(on_a_simulated_node())
        until_run(client, run, lambda run: run.state == "launching" and run.waiting is None and installed.jobs(run) != [], "hold its node")
    (before,) = installed.jobs(run)
    cluster.helm("uninstall", "dayrun", "--namespace", namespace, "--wait")
    if kept:
        (after,) = installed.jobs(run)
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        assert [pod["status"]["phase"] for pod in installed.pods(run, 1)] == ["Running"]
    else:
        until(lambda: not installed.jobs(run) and not installed.pods(run, 1), "the run to go", 60)


def test_deployments_that_somebody_deleted_come_back_and_find_their_runs(cluster: Cluster, namespace: str):
    installed = Installation(cluster, namespace, values(cluster, None))
    installed.upgrade()
    key = installed.first_key()
    with installed.client(key) as client:
        run = client.create_run(on_a_simulated_node())
        until_run(client, run, lambda run: run.state == "launching" and installed.jobs(run) != [], "be launched")
    installed.kubectl("delete", "deployment", "--all", "--wait")
    installed.upgrade()
    with installed.client(key) as client:
        until_run(client, run, lambda run: run.state == "launching" and run.attempt == 1, "be known")
        end(client, run.id)
    assert len(installed.jobs(run)) <= 1


def end(client: Client, run_id: str) -> None:
    client.cancel(run_id)
    until(lambda: client.run(run_id).over, "the end", 120)
