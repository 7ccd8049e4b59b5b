"""An attempt as a PyTorchJob of the training operator (kubeflow.org/v1). Pure; what is in a pod is `pods.py`'s business.

Without `min_nodes` the group is a Master and Workers, and is as large as it is; with it, it is elastic: Workers alone, which find each
other by torchrun's c10d rendezvous, and any number of them from `min_nodes` on begin.
"""

from k8s.api import Object
from k8s.attempt import RECIPE, TRACEPARENT, Attempt
from k8s.pods import PORT, pod_template
from k8s.profile import ClusterProfile

API_VERSION, KIND = "kubeflow.org/v1", "PyTorchJob"
QUEUE = "kueue.x-k8s.io/queue-name"


def render(attempt: Attempt, profile: ClusterProfile, owner: Object | None = None) -> Object:
    """The job. owner: owner reference of it. Raises NoSuchHardware and TooWide."""
    hardware = attempt.recipe.hardware
    replica: Object = {"restartPolicy": "Never", "template": pod_template(attempt, profile)}
    policy: Object = {
        # What failed is kept to be looked at; what still runs would go on to cost. The operator judges by the master alone: once that is
        # done, it kills a worker that was about to end. A trial wants to see each pod's own end, and deletes its job itself.
        "cleanPodPolicy": "None" if attempt.program else "Running",
        "backoffLimit": 0,  # the reconciler counts attempts, and no two of one run at once
        "ttlSecondsAfterFinished": profile.keep_finished_seconds,
    }
    if attempt.deadline_seconds is not None:
        policy["activeDeadlineSeconds"] = max(1, round(attempt.deadline_seconds))
    if profile.queue is not None:
        policy["suspend"] = True  # until Kueue has admitted it: between creation and its webhook nothing may start
    spec: Object = {"nprocPerNode": str(hardware.processes_per_node), "runPolicy": policy}
    if hardware.min_nodes is not None:
        spec["elasticPolicy"] = {"minReplicas": hardware.min_nodes, "maxReplicas": hardware.nodes, "maxRestarts": 0, "rdzvBackend": "c10d"}
        spec["elasticPolicy"]["rdzvPort"] = PORT
        spec["pytorchReplicaSpecs"] = {"Worker": {"replicas": hardware.nodes, **replica}}
    else:
        spec["pytorchReplicaSpecs"] = {"Master": {"replicas": 1, **replica}}
        if hardware.nodes > 1:
            spec["pytorchReplicaSpecs"]["Worker"] = {"replicas": hardware.nodes - 1, **replica}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata(attempt, profile, owner), "spec": spec}


def metadata(attempt: Attempt, profile: ClusterProfile, owner: Object | None) -> Object:
    """Of a job of any back end."""
    trace = attempt.environment.get("TRACEPARENT")
    found: Object = {
        "name": attempt.name,
        "namespace": profile.namespace,
        "labels": {**attempt.labels, **({QUEUE: profile.queue} if profile.queue else {})},
        "annotations": {RECIPE: attempt.recipe.name, **({TRACEPARENT: trace} if trace else {})},
    }
    return {**found, "ownerReferences": [owner]} if owner else found
