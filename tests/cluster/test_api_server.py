"""The API server away under a healthy run, and back: nothing is known, so nothing is done; nothing is lost."""

import time

import pytest

from dayrun.client import Client
from k8s.api import CONFIG_MAP, Api
from k8s.mirror import Mirror, Wanted
from tests.cluster.cluster import Cluster
from tests.cluster.installed import Installation, until_run
from tests.cluster.test_runs import recipe, trains
from tests.conftest import until

AWAY_SECONDS = 300.0
pytestmark = pytest.mark.alone


def test_an_api_server_that_is_away_for_five_minutes_costs_a_healthy_run_nothing(
    dayrun: Installation, client: Client, cluster: Cluster, api: Api
):
    mirror = Mirror(api, Wanted(CONFIG_MAP, dayrun.namespace))
    mirror.start()
    assert mirror.wait_until_filled(30)
    run = client.create_run(recipe(steps=200_000, checkpoints={"every": 200}))
    until_run(client, run, trains, "train")
    before = {pod["metadata"]["uid"] for pod in dayrun.pods(run, 1)}
    with cluster.without_api_server():
        until(lambda: not mirror.is_current, "the mirror to say that it sees nothing", 30)
        began, step, seen = time.monotonic(), client.run(run.id).progress.step, 0
        while time.monotonic() - began < AWAY_SECONDS:
            now = until_run(client, run, lambda run, step=step: run.progress.step > step or run.state != "running", "go on", 120)
            assert (now.state, now.attempt, now.cause) == ("running", 1, None)
            step, seen = now.progress.step, seen + 1
        assert seen > 10
    until(lambda: mirror.is_current, "the mirror to see again", 60)
    mirror.stop()
    step = client.run(run.id).progress.step
    now = until_run(client, run, lambda run: run.progress.step > step, "go on")
    assert (now.state, now.attempt, now.cause) == ("running", 1, None)
    assert {pod["metadata"]["uid"] for pod in dayrun.pods(run, 1)} == before
    steps = [point[0] for point in client.metrics(run.id, ["loss"])["loss"]]
    assert steps == sorted(set(steps))
    assert steps[-1] >= step
    client.cancel(run.id)


def test_a_version_that_the_server_has_forgotten_is_gone_and_everything_is_listed_anew(api: Api, namespace: str):
    """After a restart the server's memory begins at its start: what came before is 410 Gone."""
    mirror = Mirror(api, Wanted(CONFIG_MAP, namespace))
    mirror._version, mirror._relist_at = "1", float("inf")  # pyright: ignore[reportPrivateUsage]  # as of one that slept through it
    mirror.start()
    until(lambda: mirror.lists == 1, "the list", 60)
    until(lambda: mirror.is_current, "the watch", 60)
    mirror.stop()


@pytest.fixture(autouse=True)
def only_ours(cluster: Cluster) -> None:
    assert cluster.ours, "the API server of a foreign cluster is not ours to stop: deselect tests/cluster/test_api_server.py"
