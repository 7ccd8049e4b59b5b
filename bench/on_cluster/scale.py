"""What the cluster costs us, and what we cost the cluster: `make bench-cluster`, on the test cluster.

Submit → running of the reference shape (4 × 8 simulated H200) by its parts: ours, the operator's, the scheduler's, the kubelet's (kwok); a
look at 10, 100 and 1,000 jobs, and the requests that the API server sees of us while nothing happens and while they are made.
"""

import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from dayrun.rules import load  # noqa: E402
from k8s.api import Api  # noqa: E402
from k8s.attempt import Attempt  # noqa: E402
from k8s.launch import Groups  # noqa: E402
from k8s.profile import ClusterProfile  # noqa: E402
from k8s.view import View  # noqa: E402
from service.database import new_id  # noqa: E402
from tests.cluster.cluster import Cluster, Images, boot_environment  # noqa: E402
from tests.tiny import tiny_recipe  # noqa: E402

NODES, TURNS, IDLE_SECONDS = 40, 10, 60.0
HARDWARE: dict[str, Any] = {
    "cpu_per_process": "1",
    "memory_per_process": "1Gi",
    "shared_memory_per_process": "64Mi",
    "node_selector": {"nvidia.com/gpu.product": "NVIDIA-H200"},
    "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists", "effect": "NoSchedule"}],
    "block_label": "dayrun.dev/block",
}


def attempt(nodes: int, processes: int) -> Attempt:
    recipe = tiny_recipe("tiny", processes=processes)
    recipe["hardware"] |= {"accelerator": "h200", "nodes": nodes}
    recipe["stages"][0]["batch_size"] = nodes * processes
    run_id = new_id("run")
    return Attempt(run_id, 1, f"s3://nowhere/{run_id}", load(recipe), 5.0)


def parts_of_a_start(view: View, groups: Groups, one: Attempt, launched_at: float) -> dict[str, float]:
    """Seconds from the launch to each stage, as this process sees them come."""
    members, stages = one.recipe.hardware.nodes, dict[str, float]()
    wanted = {
        "job made": lambda seen, pods: seen is not None,
        "pods made": lambda seen, pods: len(pods) == members,
        "scheduled": lambda seen, pods: sum("nodeName" in pod["spec"] for pod in pods) == members,
        "running": lambda seen, pods: sum(pod.get("status", {}).get("phase") == "Running" for pod in pods) == members,
    }
    while len(stages) < len(wanted):
        pods = [pod for pod in view.pods() if pod["metadata"]["labels"].get("dayrun.dev/run") == one.labels["dayrun.dev/run"]]
        job = next((job for job in view.mirrors[1].all() if job["metadata"]["name"] == one.name), None)
        for name, reached in wanted.items():
            if name not in stages and reached(job, pods):
                stages[name] = time.perf_counter() - launched_at
        time.sleep(0.01)
    return stages


def known(view: View, one: Attempt) -> bool:
    verdict = view.verdict(one.run_id, one.number)
    return verdict is not None and verdict.launched == "running"


def main() -> None:
    unpulled = "localhost/simulated"  # the simulated nodes run nothing
    cluster = Cluster(boot_environment(), Images(unpulled, unpulled, unpulled), ours=True)
    cluster.simulate(NODES)
    namespace = f"bench-{new_id('x')[-6:]}"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    os.environ["KUBECONFIG"] = cluster.environment["KUBECONFIG"]
    api = Api.from_environment()
    profile = ClusterProfile.model_validate({"namespace": namespace, "image": cluster.images.trainer, "hardware": {"h200": HARDWARE}})
    groups = Groups(api, profile)
    view = View(api, profile, groups)
    view.start()
    assert view.wait_until_filled()
    try:
        starts: list[dict[str, float]] = []
        for _ in range(TURNS):
            one = attempt(4, 8)
            begun = time.perf_counter()
            groups.launch(one)
            starts.append(parts_of_a_start(view, groups, one, begun) | {"launch returned": time.perf_counter() - begun})
            groups.stop(one.run_id, 1, force=True)
        before = 0.0
        for stage in ("job made", "pods made", "scheduled", "running"):
            seconds = statistics.median(start[stage] for start in starts)
            print(f"4 × 8: {stage} after {seconds:.2f} s (+{seconds - before:.2f} s)", flush=True)
            before = seconds
        made: list[Attempt] = []
        for count in (10, 100, 1000):
            first, begun, had = api.requests, time.perf_counter(), len(made)
            while len(made) < count:
                one = attempt(1, 1)
                groups.launch(one)
                made.append(one)
            seconds = (time.perf_counter() - begun) / (count - had)
            each = (api.requests - first) / (count - had)
            while not all(known(view, one) for one in made):
                time.sleep(0.2)
            looks: list[float] = []
            for _ in range(5):
                time.sleep(0.25)  # beyond what a look takes over from the one before
                at = time.perf_counter()
                for one in made:
                    view.verdict(one.run_id, 1)
                looks.append(time.perf_counter() - at)
            idle = api.requests
            time.sleep(IDLE_SECONDS)
            a_minute = (api.requests - idle) * 60 / IDLE_SECONDS
            look = statistics.median(looks)
            print(
                f"{count} jobs: {each:.1f} requests and {seconds * 1000:.0f} ms to make one; "
                f"a look at all {look * 1000:.0f} ms ({look / count * 1e6:.0f} µs a run); {a_minute:.0f} requests a minute at rest",
                flush=True,
            )
    finally:
        view.stop()
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")
        cluster.simulate(4)


if __name__ == "__main__":
    main()
