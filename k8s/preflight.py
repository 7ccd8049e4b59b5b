"""What of a cluster stands against a run, before it costs anything: findings from what the API server says and lists.

Here no pod is started (`trial.py` does that). What waiting mends is a note, and never a no: what is free now is another's in a minute.
"""

import math
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Literal

from dayrun.plan import Finding
from k8s.api import CLUSTER_QUEUE, LOCAL_QUEUE, NODE, PLURALS, POD, QUOTA, Api, Away, Kind, Object, Refused
from k8s.attempt import Attempt
from k8s.demand import NODES, PROCESSES, Demand, Level, demand_of, fewer_nodes, fewer_processes, shown, times_in
from k8s.launch import Groups
from k8s.nodes import of_nodes
from k8s.pods import amount
from k8s.profile import ClusterProfile

QUICK_SECONDS = 2.0
PREVENTS = ("cluster", "manifest")
"""Checks without whose ok no pod need be tried."""


def quick(api: Api, profile: ClusterProfile, attempt: Attempt, seconds: float = QUICK_SECONDS) -> list[Finding]:
    """All that can be told without a pod, in `seconds`; a cluster that is away is one note. Raises NoSuchHardware and TooWide."""
    demand, found, hurried = demand_of(attempt, profile), list[Finding](), api.within(seconds)
    try:
        found += rehearsed(hurried, profile, attempt)
        with unless_refused(found, "quota"):
            found += of_quotas(hurried.list(QUOTA, profile.namespace)[0], demand, Groups(hurried, profile).kind)
        with unless_refused(found, "queue"):
            found += asked_queue(hurried, profile, demand)
        with unless_refused(found, "nodes"):
            labels = ",".join(f"{name}={value}" for name, value in demand.hardware.node_selector.items())
            nodes = hurried.list(NODE, labels=labels)[0]
            others = [] if nodes else hurried.list(NODE)[0]
            found += of_nodes(nodes, hurried.list(POD, profile.namespace)[0], demand, others)
    except Away:
        missing = "nothing of it was checked" if not found else "what is not listed here was not checked"
        found.append(Finding(check="cluster", level="note", because=f"the cluster does not answer now; {missing}"))
    return found


@contextmanager
def unless_refused(found: list[Finding], check: Literal["quota", "queue", "nodes"]) -> Generator[None]:
    """Around a look at what the service's account may not be allowed to see: then it is a note, and the other looks go on."""
    try:
        yield
    except Refused as refused:
        found.append(Finding(check=check, level="note", because=f"it could not be looked at: {refused.message}"))


# ---- the API server's own word ------------------------------------------------------------------------------------------------------


def rehearsed(api: Api, profile: ClusterProfile, attempt: Attempt) -> list[Finding]:
    """Raises Away, NoSuchHardware and TooWide."""
    try:
        Groups(api, profile).rehearse(attempt)
    except Refused as refused:
        return [of_refusal(refused, profile)]
    return [Finding(check="manifest", level="ok", because="the API server takes what would be launched")]


def of_refusal(refused: Refused, profile: ClusterProfile) -> Finding:
    """What to change where the API server does not take the objects of an attempt."""
    said = refused.message
    level: Level = "no"
    at, because = "", f"the API server refuses what would be launched: {said}"
    if "which is to own every run" in said:
        at = "profile:/owner"
    elif refused.status == 404 and "namespaces" in said:
        at, because = "profile:/namespace", f"there is no namespace {profile.namespace}: make it, or name the one where runs are to be"
    elif refused.status == 404:
        operator = "the training operator v1" if profile.back_end == "pytorchjob" else "Kubeflow Trainer"
        at, because = "profile:/back_end", f"the cluster knows no {profile.back_end}: install {operator}"
    elif "exceeded quota" in said:
        level, at, because = "note", "profile:/namespace", f"the namespace's quota is full now: {said}"
    elif refused.status == 403 and "cannot create" in said:
        at, because = "profile:/namespace", f"the service's account needs the chart's Role there: {said}"
    elif "namespace" in said and "being terminated" in said:
        at = "profile:/namespace"
    elif "failed calling webhook" in said:
        level, because = "unsure", f"a webhook that must agree does not answer; see that what serves it runs: {said}"
    return Finding(check="manifest", level=level, at=at, because=because)


# ---- quotas -------------------------------------------------------------------------------------------------------------------------


def of_quotas(quotas: Iterable[Object], demand: Demand, kind: Kind) -> list[Finding]:
    """The namespace's ResourceQuotas against what the group asks for."""
    found, looked_at = list[Finding](), list[str]()
    for quota in quotas:
        if not concerns(quota, demand.priority_class):
            continue
        looked_at.append(quota["metadata"]["name"])
        status = quota.get("status", {})
        for name, limit in (status.get("hard") or quota["spec"].get("hard", {})).items():
            used = status.get("used", {}).get(name, "0")
            found += of_limit(f"the namespace's quota {looked_at[-1]!r}", name, amount(limit), amount(used), demand, kind)
    if not found:
        because = f"the namespace's quotas ({', '.join(looked_at)}) have room for it" if looked_at else "the namespace has no quota for it"
        found.append(Finding(check="quota", level="ok", because=because))
    return found


def of_limit(whose: str, name: str, limit: float, used: float, demand: Demand, kind: Kind) -> list[Finding]:
    """One line of a quota; nothing where it is kept."""
    if name == "limits.cpu":
        because = f"{whose} limits limits.cpu, and pods of dayrun state none: without a LimitRange's default they are refused; take it out"
        return [Finding(check="quota", level="unsure", at="profile:/namespace", because=because)]
    if name in (f"count/{PLURALS[kind.kind]}.{kind.api_version.partition('/')[0]}", "configmaps", "count/configmaps"):
        return [] if used + 1 <= limit else [full(whose, name, limit, used, 1)]
    a_pod = asked_of(name, demand)
    if not a_pod:
        return []
    allows = f"{whose} allows {name}: {shown(name, limit)}"
    if (level := demand.level(times_in(limit, a_pod))) != "ok":
        asked = f"{allows}, and {demand.pods} pods of {shown(name, a_pod)} ask for {shown(name, demand.pods * a_pod)}"
        if a_pod > limit and "pods" not in name:
            return [Finding(check="quota", level=level, at=PROCESSES, because=asked, nearest=fewer_processes(limit, a_pod, demand))]
        return [Finding(check="quota", level=level, at=NODES, because=asked, nearest=fewer_nodes(limit, a_pod))]
    if times_in(limit - used, a_pod) < demand.pods:
        return [full(whose, name, limit, used, demand.pods * a_pod)]
    return []


def full(whose: str, name: str, limit: float, used: float, asked: float) -> Finding:
    because = f"{whose} has {shown(name, max(0.0, limit - used))} of {name} left now, and {shown(name, asked)} are asked for: it will wait"
    return Finding(check="quota", level="note", at=NODES, because=because)


def asked_of(name: str, demand: Demand) -> float:
    """What a pod counts for in a quota's line of this name; 0 where the line is not about it."""
    if name in ("pods", "count/pods"):
        return 1
    if name.startswith("limits."):
        return demand.limits.get(name.removeprefix("limits."), 0)
    return demand.requests.get(name.removeprefix("requests."), 0)


def concerns(quota: Object, priority_class: str | None) -> bool:
    """Whether a quota's scopes take in our pods, which have requests and no deadline of their own."""
    spec = quota["spec"]
    scopes: list[Object] = [{"scopeName": scope, "operator": "Exists"} for scope in spec.get("scopes", [])]
    for scope in [*scopes, *spec.get("scopeSelector", {}).get("matchExpressions", [])]:
        values: list[str] = scope.get("values", [])
        match scope["scopeName"], scope["operator"]:
            case (("Terminating" | "BestEffort" | "CrossNamespacePodAffinity"), _):
                return False
            case "PriorityClass", "In" if priority_class not in values:
                return False
            case "PriorityClass", "NotIn" if priority_class in values:
                return False
            case "PriorityClass", "Exists" if priority_class is None:
                return False
            case "PriorityClass", "DoesNotExist" if priority_class is not None:
                return False
            case _:
                pass
    return True


# ---- Kueue --------------------------------------------------------------------------------------------------------------------------


def asked_queue(api: Api, profile: ClusterProfile, demand: Demand) -> list[Finding]:
    """Raises Away and Refused."""
    if profile.queue is None:
        return []
    local = api.get(LOCAL_QUEUE, profile.namespace, profile.queue)
    if local is None:
        because = (
            f"Kueue has no LocalQueue {profile.queue!r} in {profile.namespace}, and would never admit the run: make it, or name another"
        )
        return [Finding(check="queue", level="no", at="profile:/queue", because=because)]
    name = local["spec"]["clusterQueue"]
    cluster = api.get(CLUSTER_QUEUE, None, name)
    if cluster is None:
        because = f"the LocalQueue {profile.queue!r} leads to a ClusterQueue {name!r} that is not there: make it"
        return [Finding(check="queue", level="no", at="profile:/queue", because=because)]
    return of_queue(cluster, demand)


def of_queue(queue: Object, demand: Demand) -> list[Finding]:
    """A ClusterQueue's quotas against what the group asks for. With a cohort it may borrow, which cannot be told from here."""
    spec, found = queue["spec"], list[Finding]()
    whose = f"Kueue's ClusterQueue {queue['metadata']['name']!r}"
    if spec.get("stopPolicy", "None") != "None":
        because = f"{whose} is held ({spec['stopPolicy']}) and admits nothing: set its stopPolicy to None"
        found.append(Finding(check="queue", level="unsure", at="profile:/queue", because=because))
    nominal, bounded = quotas_of(spec)
    for name, a_pod in {**demand.requests, **({"pods": 1.0} if "pods" in nominal else {})}.items():
        if name not in nominal:
            known = name in ("cpu", "memory", demand.hardware.resource)
            because = f"{whose} covers no {name}, and never admits who asks for it, unless Kueue was told to leave it out: add it"
            found.append(Finding(check="queue", level="no" if known else "unsure", at="profile:/queue", because=because))
            continue
        most = bounded[name]
        asked = f"{demand.pods} pods of {shown(name, a_pod)} ask for {shown(name, demand.pods * a_pod)} of {name}"
        if (level := demand.level(most if most == math.inf else times_in(most, a_pod))) != "ok":
            because = f"{whose} has {shown(name, most)}, and {asked}"
            if a_pod > most and name != "pods":
                found.append(
                    Finding(check="queue", level=level, at=PROCESSES, because=because, nearest=fewer_processes(most, a_pod, demand))
                )
            else:
                found.append(Finding(check="queue", level=level, at=NODES, because=because, nearest=fewer_nodes(most, a_pod)))
        elif demand.level(times_in(nominal[name], a_pod)) != "ok":
            because = f"{whose} has {shown(name, nominal[name])} of its own, and {asked}: the rest must be lent by its cohort"
            found.append(Finding(check="queue", level="unsure", at=NODES, because=because))
    return found or [Finding(check="queue", level="ok", because=f"{whose} has the quota for it")]


def quotas_of(spec: Object) -> tuple[dict[str, float], dict[str, float]]:
    """By resource, over all flavors: what the queue has of its own, and the most that it could have with what it may borrow."""
    nominal, most = dict[str, float](), dict[str, float]()
    for group in spec.get("resourceGroups", []):
        for flavor in group["flavors"]:
            for one in flavor["resources"]:
                own, name = amount(str(one["nominalQuota"])), one["name"]
                lent = 0.0
                if spec.get("cohort") or spec.get("cohortName"):
                    lent = amount(str(one["borrowingLimit"])) if one.get("borrowingLimit") is not None else math.inf
                nominal[name] = nominal.get(name, 0) + own
                most[name] = most.get(name, 0) + own + lent
    return nominal, most
