"""An attempt as a TrainJob of Kubeflow Trainer v2 (trainer.kubeflow.org/v1alpha1): the second back end, behind the same signature.

Trainer v2 takes the pod from a ClusterTrainingRuntime that the platform owns: the runtime brings `torch` with its variables, what a run
may override is in the job, and the rest (security context, grace period, pull secrets) must stand in the runtime: docs/operations.md has
one. A TrainJob has no affinity: a chosen block becomes a node selector, and nodes to avoid must be cordoned by hand.
"""

from k8s.api import Object
from k8s.attempt import Attempt
from k8s.pods import CONTAINER, pod_spec
from k8s.profile import ClusterProfile
from k8s.pytorchjob import metadata

API_VERSION, KIND = "trainer.kubeflow.org/v1alpha1", "TrainJob"
TRAINER_CONTAINER = "node"
"""What the runtimes of Trainer v2 call the container and the job of the training processes."""


def render(attempt: Attempt, profile: ClusterProfile, owner: Object | None = None) -> Object:
    """The job. owner: owner reference of it. Raises NoSuchHardware and TooWide."""
    pod = pod_spec(attempt, profile)
    container = next(one for one in pod["containers"] if one["name"] == CONTAINER)
    overrides: Object = {name: pod[name] for name in ("nodeSelector", "tolerations", "volumes") if name in pod}
    label = profile.hardware[attempt.recipe.hardware.accelerator].block_label
    if attempt.block is not None and label is not None:
        overrides["nodeSelector"] = {**overrides.get("nodeSelector", {}), label: attempt.block}
    overrides["targetJobs"] = [{"name": TRAINER_CONTAINER}]
    overrides["containers"] = [{"name": TRAINER_CONTAINER, "volumeMounts": container["volumeMounts"]}]
    trainer: Object = {
        "image": container["image"],
        "args": container["args"],
        "env": container["env"],
        "numNodes": attempt.recipe.hardware.nodes,
        "numProcPerNode": attempt.recipe.hardware.processes_per_node,
        "resourcesPerNode": container["resources"],
    }
    runtime = {"apiGroup": "trainer.kubeflow.org", "kind": "ClusterTrainingRuntime", "name": profile.trainjob_runtime}
    spec: Object = {"runtimeRef": runtime, "trainer": trainer, "podSpecOverrides": [overrides]}
    if profile.queue is not None:
        spec["suspend"] = True
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata(attempt, profile, owner), "spec": spec}
