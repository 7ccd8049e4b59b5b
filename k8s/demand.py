"""What a group of pods asks of a cluster, as numbers, and how they are told to people. Pure."""

import math
from dataclasses import dataclass
from typing import Literal

from dayrun.plan import Change
from k8s.api import Object
from k8s.attempt import Attempt
from k8s.pods import amount, hardware_of, pod_spec
from k8s.profile import ClusterProfile, Hardware

NODES, PROCESSES = "/hardware/nodes", "/hardware/processes_per_node"
Level = Literal["ok", "unsure", "no", "note"]


@dataclass(frozen=True)
class Demand:
    """What a group asks of a cluster: pods that are all alike."""

    pods: int
    least: int  # an elastic group begins with so many
    processes: int  # of a pod
    requests: dict[str, float]  # of a pod
    limits: dict[str, float]
    tolerations: list[Object]
    priority_class: str | None
    kind: str  # of nodes, as the recipe names it
    hardware: Hardware

    def level(self, most: float) -> Level:
        """Of there being room for `most` pods at the most."""
        return "ok" if most >= self.pods else "unsure" if most >= self.least else "no"

    def of_the_kind(self, field: str) -> str:
        return f"profile:/hardware/{self.kind}/{field}"


def demand_of(attempt: Attempt, profile: ClusterProfile) -> Demand:
    """Raises NoSuchHardware and TooWide."""
    hardware, spec = hardware_of(attempt.recipe, profile), pod_spec(attempt, profile)
    asked, resources = attempt.recipe.hardware, spec["containers"][0]["resources"]
    return Demand(
        asked.nodes,
        asked.min_nodes or asked.nodes,
        asked.processes_per_node,
        {name: amount(value) for name, value in resources["requests"].items() if amount(value) > 0},
        {name: amount(value) for name, value in resources["limits"].items()},
        spec["tolerations"],
        profile.priority_class,
        asked.accelerator,
        hardware,
    )


def times_in(room: float, asked: float) -> int:
    """How many times `asked` goes into `room`: 100m three times into 300m, whatever floats say."""
    return math.floor(room / asked + 1e-9)


def fewer_nodes(limit: float, a_pod: float) -> list[Change]:
    """How many nodes there is room for."""
    fits = times_in(limit, a_pod)
    return [Change(at=NODES, value=fits)] if fits >= 1 else []


def fewer_processes(limit: float, a_pod: float, demand: Demand) -> list[Change]:
    """How many processes a pod may have, where what it asks for grows with them."""
    fits = math.floor(limit / (a_pod / demand.processes))
    return [Change(at=PROCESSES, value=fits)] if fits >= 1 else []


def counted(number: int, what: str) -> str:
    """1 node, 2 nodes, 3 processes."""
    return f"{number:,} {what}" + ("" if number == 1 else "es" if what.endswith("s") else "s")


def shown(name: str, value: float) -> str:
    """An amount of a resource as people write it."""
    return f"{value / 2**30:.4g}Gi" if "memory" in name or "storage" in name else f"{value:.6g}"


def named(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
