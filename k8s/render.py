"""The two objects of an attempt: its claim and its job, by whichever back end the cluster has. The one door to the renderers.

A back end is a function of an attempt, a profile and an owner reference that returns the job as a document; it needs no cluster.
"""

import json
from collections.abc import Callable

from k8s import pytorchjob, trainjob
from k8s.api import Kind, Object
from k8s.attempt import RECIPE, RECIPE_FILE, Attempt
from k8s.profile import ClusterProfile

API_OF = {name: Kind(module.API_VERSION, module.KIND) for name, module in (("pytorchjob", pytorchjob), ("trainjob", trainjob))}
BackEnd = Callable[[Attempt, ClusterProfile, Object | None], Object]
BACK_ENDS: dict[str, BackEnd] = {"pytorchjob": pytorchjob.render, "trainjob": trainjob.render}


def job(attempt: Attempt, profile: ClusterProfile, owner: Object | None = None) -> Object:
    """Raises NoSuchHardware and TooWide."""
    return BACK_ENDS[profile.back_end](attempt, profile, owner)


def claim(attempt: Attempt, profile: ClusterProfile) -> Object:
    """A ConfigMap with the effective recipe. It outlives the job: what it notes says whether there ever was one (`launch.py`)."""
    metadata: Object = {
        "name": attempt.name,
        "namespace": profile.namespace,
        "labels": attempt.labels,
        "annotations": {RECIPE: attempt.recipe.name},
    }
    if profile.owner is not None:
        metadata["ownerReferences"] = [profile.owner]
    recipe = json.dumps(attempt.recipe.model_dump(mode="json"), indent=1)
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {RECIPE_FILE: recipe}}
