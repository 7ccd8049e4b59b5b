"""Whether a cluster has nodes for a group, and what keeps it from them: findings from listed nodes and our own pods. Pure."""

from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress

from dayrun.plan import Change, Finding
from k8s.api import Object
from k8s.demand import NODES, PROCESSES, Demand, counted, fewer_processes, named, shown, times_in
from k8s.observe import true_conditions
from k8s.pods import amount

STATES = "node.kubernetes.io/"
"""Taints of this prefix say how a node is now; others say whom it is for."""


def of_nodes(nodes: list[Object], pods: Iterable[Object], demand: Demand, others: Iterable[Object] = ()) -> list[Finding]:
    """nodes: those with the labels of the kind; pods: ours; others: nodes to name labels of, where none is of the kind."""
    hardware, ask = demand.hardware, f"of {counted(demand.processes, 'process')} each"
    if not nodes:
        return [no_such_nodes(demand, others)]
    suiting = [node for node in nodes if not keeps_out(node, demand)]
    if not suiting:
        taints = ", ".join(dict.fromkeys(taint for node in nodes if (taint := keeps_out(node, demand))))
        because = f"no {demand.kind} node lets in pods of dayrun: tolerate {taints}"
        return [Finding(check="nodes", level="no", at=demand.of_the_kind("tolerations"), because=because)]
    if not (places := {node["metadata"]["name"]: n for node in suiting if (n := places_on(node, demand))}):
        return [too_small(suiting, demand)]
    able = [node for node in suiting if node["metadata"]["name"] in places]
    ready = [node for node in able if "Ready" in true_conditions(node) and not node["spec"].get("unschedulable")]
    in_all, at_work = sum(places.values()), sum(places[node["metadata"]["name"]] for node in ready)
    found: list[Finding] = []
    if (level := demand.level(in_all)) != "ok":
        have = counted(len(able), f"{demand.kind} node")
        because = f"the cluster's {have} can hold {counted(in_all, 'pod')} {ask}, and {demand.pods} are asked for"
        found.append(Finding(check="nodes", level=level, at=NODES, because=because, nearest=[Change(at=NODES, value=in_all)]))
    elif demand.level(at_work) != "ok":
        away = [node["metadata"]["name"] for node in able if node not in ready]
        because = f"{named(away)}: not ready, or cordoned; without them there is room for {at_work} of {counted(demand.pods, 'pod')}"
        because += ": uncordon or mend them"
        found.append(Finding(check="nodes", level="unsure", at=NODES, because=because))
    else:
        have = counted(len(ready), f"{demand.kind} node")
        because = f"{have} ready, which can hold {counted(at_work, 'pod')} {ask}; {demand.pods} are asked for"
        found.append(Finding(check="nodes", level="ok", because=because))
    if hardware.block_label and demand.pods > 1:
        found += of_blocks(by_block(able, places, hardware.block_label), demand)
    free = {node["metadata"]["name"]: n for node in ready if (n := places_on(node, demand, held_on(pods)))}
    found.append(of_room(ready, free, demand))
    return found


def no_such_nodes(demand: Demand, others: Iterable[Object]) -> Finding:
    selector, seen = demand.hardware.node_selector, defaultdict[str, set[str]](set)
    for node in others:
        for name in selector:
            with suppress(KeyError):
                seen[name].add(node["metadata"].get("labels", {})[name])
    wanted = ", ".join(f"{name}={value}" for name, value in selector.items())
    there = "; ".join(f"{name} is {named(sorted(values))}" for name, values in seen.items()) or f"none has {named(list(selector))} at all"
    because = f"the cluster has no node with {wanted}: {there}. Add such nodes, or change the selector" if selector else "it has no nodes"
    return Finding(check="nodes", level="no", at=demand.of_the_kind("node_selector"), because=because)


def too_small(nodes: list[Object], demand: Demand) -> Finding:
    """No node could hold even one of the pods, were it empty."""
    for name, asked in demand.requests.items():
        most = max(allocatable(node, name) for node in nodes)
        if asked <= most:
            continue
        because = f"a pod asks for {name}: {shown(name, asked)}, and the largest {demand.kind} node has {shown(name, most)}"
        if name == demand.hardware.resource and not most:
            because += ": is its device plugin installed?"
            return Finding(check="nodes", level="no", at=demand.of_the_kind("resource"), because=because)
        at = {"cpu": "cpu_per_process", "memory": "memory_per_process", demand.hardware.resource: ""}.get(name, "fabric/resources_per_node")
        nearest = fewer_processes(most, asked, demand)
        return Finding(check="nodes", level="no", at=demand.of_the_kind(at) if at else PROCESSES, because=because, nearest=nearest)
    because = "no node has enough of everything that a pod asks for: " + ", ".join(
        f"{k}: {shown(k, v)}" for k, v in demand.requests.items()
    )
    return Finding(check="nodes", level="no", at=PROCESSES, because=because)


def of_blocks(blocks: dict[str, int], demand: Demand) -> list[Finding]:
    """Whether one network block could hold the whole group, were it empty."""
    label, most = demand.hardware.block_label, max(blocks.values(), default=0)
    if (level := demand.level(most)) == "ok":
        return []
    largest = f"the largest holds {most}" if blocks else "no node has that label"
    because = f"no network block ({label}) holds all {demand.pods} pods: {largest}"
    if not demand.hardware.block_required:
        return [Finding(check="nodes", level="note", at=NODES, because=f"{because}; it will train across blocks")]
    nearest = [Change(at=NODES, value=most)] if most else []
    at = NODES if blocks else demand.of_the_kind("block_label")
    return [Finding(check="nodes", level=level, at=at, because=f"{because}, and the profile wants it in one", nearest=nearest)]


def of_room(ready: list[Object], free: dict[str, int], demand: Demand) -> Finding:
    """What is free now, as far as our own pods say."""
    because = f"room for {counted(sum(free.values()), 'such pod')} is free now"
    if demand.hardware.block_label and demand.pods > 1:
        blocks = by_block([node for node in ready if node["metadata"]["name"] in free], free, demand.hardware.block_label)
        because += f", {max(blocks.values(), default=0)} in one block"
    return Finding(check="nodes", level="note", at=NODES, because=f"{because}; what others than dayrun hold is not counted")


def by_block(nodes: Iterable[Object], places: dict[str, int], label: str) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for node in nodes:
        if (block := node["metadata"].get("labels", {}).get(label)) is not None:
            found[block] += places[node["metadata"]["name"]]
    return found


def keeps_out(node: Object, demand: Demand) -> str | None:
    """The first of a node's taints that says that it is not for our pods."""
    for taint in node["spec"].get("taints", []):
        if taint["effect"] == "PreferNoSchedule" or taint["key"].startswith(STATES):
            continue
        if not any(tolerates(toleration, taint) for toleration in demand.tolerations):
            return f"{taint['key']}={taint.get('value', '')}:{taint['effect']}"
    return None


def tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]) or toleration.get("key") not in (None, "", taint["key"]):
        return False
    return toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", "")


def places_on(node: Object, demand: Demand, held: dict[str, dict[str, float]] | None = None) -> int:
    """How many of the group's pods a node has room for, less what is held on it."""
    taken = (held or {}).get(node["metadata"]["name"], {})
    room = [times_in(allocatable(node, name) - taken.get(name, 0), asked) for name, asked in demand.requests.items() if asked]
    return max(0, min(room, default=0))


def held_on(pods: Iterable[Object]) -> dict[str, dict[str, float]]:
    """What pods that are not over ask for, by node and resource."""
    held: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for pod in pods:
        if "nodeName" not in pod["spec"] or pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            continue
        for container in pod["spec"]["containers"]:
            for name, value in container.get("resources", {}).get("requests", {}).items():
                held[pod["spec"]["nodeName"]][name] += amount(value)
    return held


def allocatable(node: Object, name: str) -> float:
    return amount(node.get("status", {}).get("allocatable", {}).get(name, "0"))
