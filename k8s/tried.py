"""What the pods of a trial show: findings, each with what to change. Pure; None where nothing is known yet."""

import re
import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dayrun.plan import Finding
from k8s.api import Object
from k8s.demand import NODES, Demand, counted, named
from k8s.observe import HOPELESS_PULLS, PULL_REASONS, causes_of_pod, container_states, is_unscheduled, unique, unknown_node
from k8s.profile import ClusterProfile
from k8s.program import last_words

NO_CONFIG = ("CreateContainerConfigError", "CreateContainerError")
NEVER_STARTED = ("StartError", "ContainerCannotRun")
SLOW = 0.8
"""Of the median: a rank below it holds up all others."""

STORE_WORDS: list[tuple[re.Pattern[str], str, str]] = [
    (
        re.compile(r"169\.254\.|metadata\.google|IMDS|MissingCredentials", re.I),
        "profile:/environment_secrets",
        "no credentials reach the pods: name the Secret that has AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (now: {secrets})",
    ),
    (
        re.compile(r"no such bucket|NoSuchBucket|bucket does not exist", re.I),
        "setting:DAYRUN_RUNS",
        "the bucket is not there: make it, or name another in DAYRUN_RUNS",
    ),
    (
        re.compile(r"InvalidAccessKeyId|SignatureDoesNotMatch|AccessDenied|InvalidToken|ExpiredToken|\b40[13]\b|Unauth|Forbidden", re.I),
        "profile:/environment_secrets",
        "the store does not let the run in: mend AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in {secrets}, or what they may do there",
    ),
    (
        re.compile(r"error sending request|dns|connect|timed? ?out|retry", re.I),
        "profile:/environment_secrets",
        "the store does not answer from a pod: mend AWS_ENDPOINT_URL in {secrets}, or the network policy that keeps pods from it",
    ),
    (
        re.compile(r"read-only|permission denied|os error (13|30)", re.I),
        "setting:DAYRUN_RUNS",
        "a pod cannot write there: put run folders into an object store, or into a claim of /volumes that the pods' user may write to",
    ),
]
"""What the last words of the check betray, the most telling first; where to change it; what."""


@dataclass(frozen=True)
class Seen:
    """One look at the pods of a trial."""

    pods: list[Object]
    warnings: list[Object]
    is_last: bool  # no time is left


def of_store(seen: Seen, profile: ClusterProfile, url: str) -> list[Finding] | None:
    """What the small job shows of the image and of the store."""
    if (kept := kept_from_starting(seen, profile, "store")) is not None:
        return [kept]
    if not seen.pods:
        return None
    pod = seen.pods[0]
    pulled = Finding(check="image", level="ok", because=f"{profile.image} is there and starts{on_node(pod)}")
    match pod.get("status", {}).get("phase"):
        case "Succeeded":
            because = f"a pod has written, read and deleted an object below {url.rpartition('/')[0]} with the run's own credentials"
            return [pulled, Finding(check="store", level="ok", because=because)]
        case "Failed":
            return [pulled, of_store_words(last_words(pod) or pod["status"].get("message", ""), profile, url)]
        case _ if seen.is_last:
            because = f"its check of {url} was not over in time{on_node(pod)}"
            return [Finding(check="store", level="unsure", because=because)]
        case _:
            return None


def of_store_words(words: str, profile: ClusterProfile, url: str) -> Finding:
    secrets = ", ".join(f"Secret {name}" for name in profile.environment_secrets) or "no Secret"
    for pattern, at, what in STORE_WORDS:
        if pattern.search(words):
            return Finding(check="store", level="no", at=at, because=f"{what.format(secrets=secrets)}: {words}")
    because = f"a pod could not write, read and delete an object at {url}: {words or 'it said nothing'}"
    return Finding(check="store", level="no", at="setting:DAYRUN_RUNS", because=because)


def of_group(seen: Seen, profile: ClusterProfile, demand: Demand, measured: Callable[[], list[Object]]) -> list[Finding] | None:
    """What the pods of the run's own shape show. measured: reads what they printed, once they are over."""
    if (kept := kept_from_starting(seen, profile, "group")) is not None:
        return [kept]
    phases = [pod.get("status", {}).get("phase") for pod in seen.pods]
    if phases and len(phases) >= demand.pods and set(phases) == {"Succeeded"}:
        return of_measures(measured(), demand)
    if "Failed" in phases or (seen.is_last and phases):
        return of_failure(seen, measured(), demand)
    return None


def of_failure(seen: Seen, measures: list[Object], demand: Demand) -> list[Finding]:
    """The check of the group failed, or was not over in time."""
    found = [cause for pod in seen.pods for cause in causes_of_pod(pod, unknown_node)]
    words = [f"{pod['metadata']['name']}{on_node(pod)}: {said}" for pod in seen.pods if (said := last_words(pod))]
    evidence = "; ".join(unique([*(line for _, line in found), *words])) or f"its {len(seen.pods)} pods were not over in time"
    wrong = of_wrong(measures)
    if wrong:
        return wrong
    multiplied, summed = ({one["rank"] for one in measures if one["measured"] == kind} for kind in ("matrix", "all_reduce"))
    causes = {cause for cause, _ in found}
    if "oom" in causes:
        at, because = demand.of_the_kind("memory_per_process"), f"the check ran out of memory: {evidence}"
    elif "gpu_fault" in causes:
        at, because = NODES, f"a GPU is broken: cordon its node: {evidence}"
    elif len(multiplied) == demand.pods * demand.processes and summed != multiplied:
        at = demand.of_the_kind("fabric")
        because = (
            f"every rank computes, and they do not reach each other: mend NCCL's settings, the fabric or the network policy: {evidence}"
        )
    else:
        at, because = "", f"the check of the group did not end well: {evidence}"
    level: Literal["no", "unsure"] = "no" if any(pod.get("status", {}).get("phase") == "Failed" for pod in seen.pods) else "unsure"
    return [Finding(check="group", level=level, at=at, because=because)]


def of_wrong(measures: list[Object]) -> list[Finding]:
    """Ranks that computed something else than there is to compute."""
    nodes: dict[str, set[int]] = defaultdict(set)
    for one in measures:
        if one["measured"] == "matrix" and not one["is_right"]:
            nodes[one["node"]].add(one["rank"])
    found = [
        Finding(check="group", level="no", at=NODES, because=f"{node} computes wrong products (ranks {ranks_of(ranks)}): cordon it")
        for node, ranks in sorted(nodes.items())
    ]
    summed = [one for one in measures if one["measured"] == "all_reduce" and not one["is_right"]]
    if summed and not found:
        found.append(Finding(check="group", level="no", at=NODES, because=f"{len(summed)} ranks were given wrong sums by the others"))
    return found


def of_measures(measures: list[Object], demand: Demand) -> list[Finding]:
    """Rates of every node, and the nodes that hold up the others."""
    if wrong := of_wrong(measures):
        return wrong
    rates: dict[str, dict[str, dict[int, float]]] = {"matrix": defaultdict(dict), "all_reduce": defaultdict(dict)}
    for one in measures:
        rates[one["measured"]][one["node"]][one["rank"]] = one["tflops" if one["measured"] == "matrix" else "gigabytes_per_second"]
    products = [rate for node in rates["matrix"].values() for rate in node.values()]
    if len(products) < demand.pods * demand.processes:
        because = f"{len(products)} of {demand.pods * demand.processes} ranks said what they measured: their output is lost"
        return [Finding(check="group", level="unsure", because=because)]
    found: list[Finding] = []
    usual = statistics.median(products)
    for node, ranks in rates["matrix"].items():
        if slow := {rank: rate for rank, rate in ranks.items() if rate < SLOW * usual}:
            because = (
                f"{node} computes slower than the others (ranks {ranks_of(set(slow))}: {spread(slow)} TFLOP/s of {usual:.3g}): cordon it"
            )
            found.append(Finding(check="group", level="unsure", at=NODES, because=because))
    if not found:
        sums = [rate for node in rates["all_reduce"].values() for rate in node.values()]
        who = f"{counted(len(products), 'rank')} on {counted(len(rates['matrix']), 'node')}"
        because = f"{who} computed right: a matrix product at {min(products):.3g} TFLOP/s or more"
        because += f", sums over all of them at {min(sums):.3g} GB/s or more" if len(products) > 1 and sums else ""
        found.append(Finding(check="group", level="ok", because=because))
    for node, ranks in rates["matrix"].items():
        because = f"{node}, ranks {ranks_of(set(ranks))}: {spread(ranks)} TFLOP/s, sums at {spread(rates['all_reduce'][node])} GB/s"
        found.append(Finding(check="group", level="note", at=NODES, because=because))
    return found


# ---- before a container runs --------------------------------------------------------------------------------------------------------


def kept_from_starting(seen: Seen, profile: ClusterProfile, check: Literal["store", "group"]) -> Finding | None:
    """Why pods do not start, once that is sure or there is no time left to wait for more."""
    for pod in seen.pods:
        for state in container_states(pod):
            if (found := of_waiting(pod, state.get("waiting", {}), seen, profile)) is not None:
                return found
            ended = state.get("terminated", {})
            if ended.get("reason") in NEVER_STARTED:
                because = f"{profile.image} does not start{on_node(pod)}: {ended.get('message', '')}; is it the trainer's image?"
                return Finding(check="image", level="no", at="profile:/image", because=because)
        if (found := of_unscheduled(pod, seen)) is not None:
            return found
    if not seen.pods:
        return of_no_pods(seen, check)
    if seen.is_last and any(pod.get("status", {}).get("phase", "Pending") == "Pending" for pod in seen.pods):
        said = "; ".join(unique([event.get("message", "") for event in seen.warnings])) or "nothing says why"
        return Finding(check=check, level="unsure", because=f"its pods did not start in time: {said}")
    return None


def of_waiting(pod: Object, waiting: Object, seen: Seen, profile: ClusterProfile) -> Finding | None:
    reason, said = waiting.get("reason", ""), waiting.get("message", "")
    # the first failure of a pull may be a moment's; the kubelet backs off from the second try on
    if reason in HOPELESS_PULLS or (reason in PULL_REASONS and (reason != "ErrImagePull" or seen.is_last)):
        secrets = ", ".join(profile.pull_secrets) or "none"
        missing = [event["message"] for event in seen.warnings if "PullSecret" in event.get("reason", "")]
        because = f"{profile.image} cannot be pulled{on_node(pod)}: change the image, or its pull secrets (now: {secrets}): "
        told = "; ".join(unique([f"{reason}: {said}", *missing]))
        return Finding(check="image", level="no", at="profile:/pull_secrets" if missing else "profile:/image", because=because + told)
    if reason in NO_CONFIG:
        at = "profile:/environment_secrets" if "secret" in said.lower() else "profile:/image"
        return Finding(
            check="store" if "secret" in said.lower() else "image", level="no", at=at, because=f"a pod is not started: {said}: make it"
        )
    return None


def of_unscheduled(pod: Object, seen: Seen) -> Finding | None:
    said = (is_unscheduled(pod) or {}).get("message", "")
    if "persistentvolumeclaim" in said and ("not found" in said or "being deleted" in said):
        return Finding(check="store", level="no", at="profile:/volumes", because=f"a pod waits for what is not there: {said}: make it")
    if said and seen.is_last:
        return Finding(check="nodes", level="unsure", at=NODES, because=f"no node had room for its pods in time: {said}")
    return None


def of_no_pods(seen: Seen, check: Literal["store", "group"]) -> Finding | None:
    """Nobody has made the pods; where somebody tried, a warning says why not."""
    for event in seen.warnings:
        said = event.get("message", "")
        if "exceeded quota" in said:
            return Finding(
                check="quota", level="unsure", at="profile:/namespace", because=f"the namespace's quota has no room for it now: {said}"
            )
        if "violates PodSecurity" in said or "denied" in said or "forbidden" in said:
            return Finding(check=check, level="no", at="profile:/namespace", because=f"the cluster refuses its pods: {said}")
    if not seen.is_last:
        return None
    said = named([event.get("message", "") for event in seen.warnings]) or "does the training operator run, and has Kueue admitted it?"
    return Finding(check=check, level="unsure", because=f"nobody made its pods in time: {said}")


def on_node(pod: Object) -> str:
    return f" on {pod['spec']['nodeName']}" if pod["spec"].get("nodeName") else ""


def ranks_of(ranks: set[int]) -> str:
    """3, or 0 to 7, or as they are."""
    known = sorted(ranks)
    if len(known) > 2 and known == list(range(known[0], known[-1] + 1)):
        return f"{known[0]} to {known[-1]}"
    return named([str(rank) for rank in known], 8)


def spread(rates: dict[int, float]) -> str:
    found = [f"{rate:.3g}" for rate in sorted(rates.values())]
    return found[0] if len(set(found)) == 1 else f"{found[0]} to {found[-1]}" if found else "no"
