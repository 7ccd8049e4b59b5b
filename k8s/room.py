"""Which network block has room for a whole group. Pure; the scheduler has the last word, and is only kept from a block that is full."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable

from dayrun.recipe import Hardware as Asked
from k8s.api import Object
from k8s.observe import true_conditions
from k8s.pods import amount
from k8s.profile import Hardware


def block_with_room(
    nodes: Iterable[Object], pods: Iterable[Object], hardware: Hardware, asked: Asked, avoid: Collection[str] = ()
) -> str | None:
    """The block with the least room that still holds all of `asked`, so that wide runs find room later; None where none does.

    pods: ours; what others hold on the same nodes is the scheduler's to know.
    """
    if hardware.block_label is None or hardware.resource is None or asked.nodes == 1:
        return None
    held: dict[str, float] = defaultdict(float)
    for pod in pods:
        if pod.get("status", {}).get("phase") in ("Succeeded", "Failed") or "nodeName" not in pod["spec"]:
            continue
        for container in pod["spec"]["containers"]:
            held[pod["spec"]["nodeName"]] += amount(container.get("resources", {}).get("requests", {}).get(hardware.resource, "0"))
    room: dict[str, int] = defaultdict(int)
    for node in nodes:
        labels, name = node["metadata"].get("labels", {}), node["metadata"]["name"]
        block = labels.get(hardware.block_label)
        suits = all(labels.get(key) == value for key, value in hardware.node_selector.items())
        if block is None or not suits or name in avoid or node["spec"].get("unschedulable") or "Ready" not in true_conditions(node):
            continue
        free = amount(node["status"].get("allocatable", {}).get(hardware.resource, "0")) - held[name]
        room[block] += math.floor(free / asked.processes_per_node)
    fits = [(places, block) for block, places in room.items() if places >= asked.nodes]
    return min(fits)[1] if fits else None
