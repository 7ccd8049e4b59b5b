"""What is rendered for an attempt, as files to be read. `python -m tests.k8s.test_render` writes them anew; the diff is what to review."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from dayrun import builtin
from dayrun.recipe import merge_patch
from dayrun.rules import load
from k8s.attempt import Attempt, attempt_of
from k8s.pods import NoSuchHardware, TooWide, times
from k8s.profile import ClusterProfile, WrongProfile
from k8s.render import claim, job
from tests.k8s.profiles import PROFILES

GOLDEN = Path(__file__).parent / "golden"
RUN = "run_01kb7v3q9ne8rr5c2mhx4t6wzd"
CHOSEN: dict[str, Any] = {"block": "block-2", "avoid_nodes": ("h200-17",), "deadline_seconds": 90000.0}
REFERENCE: dict[str, Any] = {"hardware": {"nodes": 4, "processes_per_node": 8}}
CASES: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "1x1-cpu": ("demo", {"hardware": {"processes_per_node": 1}}, "cpu", {}),
    "1x8-h200": ("prx-24h", {"hardware": {"nodes": 1}}, "infiniband", {}),
    "4x8-h200-infiniband": (
        "prx-24h",
        REFERENCE,
        "infiniband",
        {"block": "block-2", "avoid_nodes": ("h200-17",), "deadline_seconds": 90000.0},
    ),
    "4x8-h200-efa": ("prx-24h", REFERENCE, "efa", {}),
    "4x8-h200-roce": ("prx-24h", REFERENCE, "roce", {}),
    "1-2x8-h200-elastic": ("prx-24h", {"hardware": {"nodes": 2, "min_nodes": 1}}, "infiniband", {}),
    "4x8-h200-kueue": ("prx-24h", REFERENCE, "kueue", {}),
    "4x8-h200-trainjob": ("prx-24h", REFERENCE, "trainjob", {}),
}
OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": f"{RUN.replace('_', '-')}-3", "uid": "00000000-0000-0000-0000-000000000000"}


class Whole(yaml.SafeDumper):
    """Writes what stands twice twice: an alias is harder to read."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def attempt(recipe: str, patch: dict[str, Any], **more: Any) -> Attempt:
    known = load(merge_patch(builtin.get(recipe), patch), for_training=False)
    return Attempt(RUN, 3, f"s3://dayrun/runs/{RUN}", known, 60.0, **more)


def rendered(case: str) -> str:
    recipe, patch, profile, more = CASES[case]
    one = attempt(recipe, patch, **more)
    known = PROFILES[profile]
    objects = [claim(one, known), job(one, known, OWNER)]
    objects[0]["data"] = dict.fromkeys(objects[0]["data"], "(the recipe, as JSON)")
    return yaml.dump_all(objects, Dumper=Whole, sort_keys=False, width=140)


@pytest.mark.parametrize("case", CASES)
def test_what_is_rendered_is_what_was_reviewed(case: str):
    assert rendered(case) == (GOLDEN / f"{case}.yaml").read_text()


def test_there_is_no_golden_file_without_its_case():
    assert {file.stem for file in GOLDEN.glob("*.yaml")} == set(CASES)


def test_labels_lead_back_to_the_attempt():
    assert attempt_of(attempt("demo", {}).labels) == (RUN, 3)
    assert attempt_of({"app.kubernetes.io/managed-by": "helm"}) is None


def test_an_attempt_carries_its_trace_to_every_process_and_shows_it():
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    one = attempt("prx-24h", REFERENCE, environment={"TRACEPARENT": trace, "DAYRUN_LOG_FORMAT": "json"})
    made = job(one, PROFILES["infiniband"])
    assert made["metadata"]["annotations"]["dayrun.dev/traceparent"] == trace
    for replica in made["spec"]["pytorchReplicaSpecs"].values():
        (container,) = replica["template"]["spec"]["containers"]
        assert {"name": "TRACEPARENT", "value": trace} in container["env"]
        assert {"name": "DAYRUN_LOG_FORMAT", "value": "json"} in container["env"]


def test_a_trial_sees_how_each_of_its_pods_ends():
    """The operator would kill workers, which are about to end, once the master is done."""
    recipe, patch, profile, more = CASES["4x8-h200-infiniband"]
    one = attempt(recipe, patch, **more)
    trial = replace(one, program=("trainer.check", "nodes"))
    policies = [job(made, PROFILES[profile])["spec"]["runPolicy"]["cleanPodPolicy"] for made in (one, trial)]
    assert policies == ["Running", "None"]


def test_hardware_that_the_cluster_has_not_is_refused_by_name():
    with pytest.raises(NoSuchHardware, match="no 'h100' nodes") as caught:
        job(attempt("prx-24h", {"hardware": {"accelerator": "h100"}}), PROFILES["infiniband"])
    assert caught.value.nearest == ["cpu", "h200"]


def test_more_processes_than_a_node_has_are_refused_with_what_it_has():
    with pytest.raises(TooWide, match="16 processes a node are asked for, and a node of 'h200' has room for 8") as caught:
        job(attempt("prx-24h", {"hardware": {"nodes": 2, "processes_per_node": 16}}), PROFILES["infiniband"])
    assert caught.value.nearest == 8


def test_a_profile_is_refused_with_every_place(tmp_path: Path):
    file = tmp_path / "cluster.json"
    file.write_text('{"namespace": "Runs", "image": "x", "hardware": {"h200": {"cpu_per_process": "many"}}, "spam": 1}')
    with pytest.raises(WrongProfile) as caught:
        ClusterProfile.load(file)
    assert all(place in str(caught.value) for place in (str(file), "/namespace", "/hardware/h200/cpu_per_process", "/spam"))


@pytest.mark.parametrize(
    ("quantity", "count", "product"), [("500m", 3, "1500m"), ("1.5", 2, "3"), ("200Gi", 8, "1600Gi"), ("0.5Gi", 3, "1.5Gi")]
)
def test_quantities_keep_their_unit(quantity: str, count: int, product: str):
    assert times(quantity, count) == product


if __name__ == "__main__":
    for name in CASES:
        (GOLDEN / f"{name}.yaml").write_text(rendered(name))
    sys.exit(0)
