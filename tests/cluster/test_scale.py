"""Forty simulated nodes of eight H200: the reference run in one block, and two hundred runs of two projects with room for ten.

What trains here is nobody: the nodes run no containers. The test says for each run that its trainer has ended, and ends its pods.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from dayrun.objects import Prefix
from dayrun.run_folder import LineWriter
from k8s.api import NODE, POD, Api
from k8s.profile import ClusterProfile
from service.database import Database
from service.launchers.kubernetes import KubernetesLauncher
from service.runs.reconcile import Reconciler
from service.settings import Settings
from service.stack import Stack
from tests.cluster.cluster import Cluster
from tests.cluster.test_groups import SIMULATED, SMALL
from tests.k8s.profiles import H200
from tests.service.inside import Inside, inside
from tests.tiny import tiny_recipe

NODES, ROOM, RUNS = 40, 10, 200
REQUESTS_A_MINUTE = 3000
"""What the API server may see of us while ten runs end and ten begin in each sweep, as fast as sweeps can follow each other."""


@pytest.fixture(scope="module", autouse=True)
def many_nodes(cluster: Cluster) -> Iterator[None]:
    cluster.simulate(NODES)
    yield
    cluster.simulate(4)


@pytest.fixture
def profile(namespace: str, cluster: Cluster) -> ClusterProfile:
    hardware = {"h200": {**H200, **SIMULATED, **SMALL, "block_required": True}}
    return ClusterProfile.model_validate({"namespace": namespace, "image": cluster.images.trainer, "hardware": hardware})


class Plane:
    """A service and its reconciler in this process, on Postgres."""

    def __init__(self, service: Inside, settings: Settings, database: Database, launcher: KubernetesLauncher, api: Api) -> None:
        self.service, self.settings, self.launcher, self.api = service, settings, launcher, api
        self.reconciler = Reconciler(settings, database, launcher)

    async def sweep(self) -> None:
        async def go_on() -> None:
            return None

        await self.reconciler.sweep(go_on)

    async def ask(self, method: str, path: str, **arguments: Any) -> Any:
        answer = await self.service.ask(method, path, self.service.operator, **arguments)
        assert answer.status_code < 300, answer.text
        return answer.json()

    async def runs(self, *states: str) -> list[dict[str, Any]]:
        query = "&".join(f"state={state}" for state in states)
        return (await self.ask("GET", f"/runs?limit=1000&{query}"))["items"]

    def say(self, run: dict[str, Any], type: str, **data: Any) -> None:
        """What the trainer of the run's attempt would write into its folder."""
        part = 0 if type == "attempt_started" else 1
        lines = LineWriter(Prefix(self.settings.run_url(run["id"])), "events", run["attempt"], part)
        lines.write({"time": time.time(), "attempt": run["attempt"], "step": 60, "type": type, "data": data})
        lines.flush()

    def end(self, run: dict[str, Any]) -> None:
        """The trainer is done, and so are its pods."""
        self.say(run, "ended", outcome="succeeded")
        selector = f"dayrun.dev/run={run['id'].replace('_', '-')}"
        for pod in self.api.list(POD, self.launcher.groups.namespace, selector)[0]:
            self.api.patch(POD, pod["metadata"]["namespace"], f"{pod['metadata']['name']}/status", {"status": {"phase": "Succeeded"}})


@pytest_asyncio.fixture
async def plane(tmp_path: Path, stack: Stack, profile: ClusterProfile, api: Api, cluster: Cluster) -> AsyncIterator[Plane]:
    file = tmp_path / "cluster.json"
    file.write_text(profile.model_dump_json())
    database = stack.postgres.create_database(f"scale_{profile.namespace.replace('-', '_')}")
    chosen: dict[str, Any] = {"database": database, "accelerators": ROOM * 8, "runs": str(tmp_path / "runs")}
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("KUBECONFIG", cluster.environment["KUBECONFIG"])
        async with inside(tmp_path / "home", cluster=file, **chosen) as service:
            settings = service.context.settings
            launcher = KubernetesLauncher(settings, profile, api)
            yield Plane(service, settings, Database(settings), launcher, api)
            launcher.close()


def eight_gpus(nodes: int = 1) -> dict[str, Any]:
    recipe = tiny_recipe("tiny", processes=8)
    recipe["hardware"] |= {"accelerator": "h200", "nodes": nodes, "dollars_per_accelerator_hour": 0.0}
    recipe["stages"][0]["batch_size"] = 64
    return recipe


async def test_the_reference_shape_is_placed_in_one_block(plane: Plane):
    run = await plane.ask("POST", "/runs", json={"recipe": eight_gpus(nodes=4)})
    selector = f"dayrun.dev/run={run['id'].replace('_', '-')}"
    until = time.monotonic() + 60
    pods: list[Any] = []
    while time.monotonic() < until and sum("nodeName" in pod["spec"] for pod in pods) < 4:
        await plane.sweep()
        pods = plane.api.list(POD, plane.launcher.groups.namespace, selector)[0]
    blocks = {node["metadata"]["name"]: node["metadata"]["labels"].get("dayrun.dev/block") for node in plane.api.list(NODE)[0]}
    assert len({pod["spec"]["nodeName"] for pod in pods}) == 4
    assert len({blocks[pod["spec"]["nodeName"]] for pod in pods}) == 1


async def test_two_hundred_runs_pass_through_room_for_ten_in_their_order(plane: Plane):
    await plane.ask("POST", "/projects", json={"id": "small"})
    etag = (await plane.service.ask("GET", "/projects/small", plane.service.operator)).headers["ETag"]
    await plane.ask("PATCH", "/projects/small", json={"accelerators": 16}, headers={"If-Match": etag})
    posted: list[dict[str, Any]] = []
    for number in range(RUNS):
        project, priority = ("small" if number % 4 == 0 else "default"), (5 if number % 10 == 3 else 0)
        posted.append(await plane.ask("POST", "/runs", json={"recipe": eight_gpus(), "project": project, "priority": priority}))
    begun: dict[str, list[str]] = {"default": [], "small": []}
    most, most_small, first_request, began = 0, 0, plane.api.requests, time.monotonic()
    sweeps, done = 0, 0
    while done < RUNS:
        assert time.monotonic() - began < 600, f"{done} of {RUNS} runs are done"
        await plane.sweep()
        sweeps += 1
        holding = await plane.runs("launching", "running")
        most, most_small = max(most, len(holding)), max(most_small, Counter(run["project"] for run in holding)["small"])
        for run in sorted(holding, key=lambda run: (-run["priority"], run["id"])):
            if run["id"] not in begun[run["project"]]:
                begun[run["project"]].append(run["id"])
        for run in holding:
            if plane.launcher.observe(run["id"], run["attempt"]).waits_for is None and run["state"] == "launching":
                plane.say(run, "attempt_started", world_size=8)
            elif run["state"] == "running":
                plane.end(run)
        done = len(await plane.runs("succeeded"))
        await asyncio.sleep(0)
    minutes = (time.monotonic() - began) / 60
    asked = (plane.api.requests - first_request) / minutes
    print(json.dumps({"runs": RUNS, "seconds": round(60 * minutes), "sweeps": sweeps, "requests_a_minute": round(asked)}))
    assert (most, most_small) == (ROOM, 2)
    for project, order in begun.items():
        wanted = sorted((run for run in posted if run["project"] == project), key=lambda run: (-run["priority"], run["id"]))
        assert order == [run["id"] for run in wanted]
    assert asked < REQUESTS_A_MINUTE
    assert not [run for run in await plane.runs("succeeded") if run["attempt"] != 1]
