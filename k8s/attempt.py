"""One attempt of a run as Kubernetes sees it: its names, its labels, and all that a renderer may know of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dayrun.recipe import Recipe

MANAGED_BY = "app.kubernetes.io/managed-by"
DAYRUN = "dayrun"
RUN = "dayrun.dev/run"
ATTEMPT = "dayrun.dev/attempt"
PROJECT = "dayrun.dev/project"
RECIPE = "dayrun.dev/recipe"
TRACEPARENT = "dayrun.dev/traceparent"
RECIPE_FILE = "recipe.json"


@dataclass(frozen=True)
class Attempt:
    """What is launched: one group of pods, once."""

    run_id: str
    number: int
    folder: str  # URL of the run's folder
    recipe: Recipe
    stop_seconds: float  # between the stop signal and the kill
    project: str = "default"
    deadline_seconds: float | None = None  # the job is ended by Kubernetes itself after this
    avoid_nodes: tuple[str, ...] = ()
    block: str | None = None  # the network block that has room for all of it
    environment: Mapping[str, str] = field(default_factory=dict[str, str])  # variables of its containers
    program: tuple[str, ...] = ()  # module and arguments that torchrun starts in place of the trainer: then it is no attempt of a run

    @property
    def name(self) -> str:
        """Of the claim and of the job; pods add their role and number to it."""
        return name_of(self.run_id, self.number)

    @property
    def labels(self) -> dict[str, str]:
        ours = labels_of(self.run_id, self.number)
        if self.program:
            del ours[ATTEMPT]  # by which whoever looks after runs would find it, and end it
        return {**ours, PROJECT: self.project}


def name_of(run_id: str, number: int) -> str:
    return f"{label_of(run_id)}-{number}"


def label_of(run_id: str) -> str:
    """A run's id as names and label values may have it."""
    return run_id.replace("_", "-")


def run_id_of(label: str) -> str:
    return label.replace("-", "_", 1)


def labels_of(run_id: str, number: int) -> dict[str, str]:
    return {MANAGED_BY: DAYRUN, RUN: label_of(run_id), ATTEMPT: str(number)}


def attempt_of(labels: dict[str, str] | None) -> tuple[str, int] | None:
    """(run id, number) that an object is labelled with; None for what is not ours."""
    found: dict[str, Any] = labels or {}
    if found.get(MANAGED_BY) != DAYRUN or RUN not in found or not str(found.get(ATTEMPT, "")).isdecimal():
        return None
    return run_id_of(found[RUN]), int(found[ATTEMPT])
