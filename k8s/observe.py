"""What an attempt's objects say about it. Pure: objects in, one verdict out; no clock but the one that is given.

The operator's word (the job's conditions) says whether it is over; pods, their containers, their nodes and the cluster's warnings say why.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from k8s.api import WORKLOAD, Object
from k8s.pods import amount

LAUNCHED, STOPPED = "dayrun.dev/launched", "dayrun.dev/stopped"
"""Annotations of a claim: the uid of the job that there was, and when it was told to stop."""
PULL_REASONS = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "RegistryUnavailable", "ImageInspectError")
HOPELESS_PULLS = ("ErrImageNeverPull", "InvalidImageName")
MOST_LINES = 8

WORDS: list[tuple[str, re.Pattern[str]]] = [
    ("gpu_fault", re.compile(r"\bXid\b|CUDA error: (?!out of memory)|uncorrectable ECC|GPU has fallen off the bus|cudaErrorECC", re.I)),
    ("oom", re.compile(r"CUDA out of memory|torch\.OutOfMemoryError|Cannot allocate memory")),
    ("nccl_timeout", re.compile(r"Watchdog caught collective operation timeout|NCCL.{0,80}(timed? ?out|timeout)|ncclRemoteError")),
    ("storage", re.compile(r"No space left on device|SlowDown|NoSuchBucket|InvalidAccessKeyId|SignatureDoesNotMatch")),
]
"""What the last words of a container betray, the most telling first."""


@dataclass(frozen=True)
class Verdict:
    """One look at one attempt."""

    launched: str  # absent, running, ended
    exit_code: int | None = None
    ended_at: datetime | None = None
    cause: str | None = None
    evidence: list[str] = field(default_factory=list[str])
    waits_for: tuple[str, str] | None = None  # a code and a sentence, while its pods do not all run
    is_hopeless: bool = False  # it has not ended, and never will by itself
    bad_nodes: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Seen:
    """The objects that have to do with one attempt."""

    claim: Object | None
    job: Object | None
    pods: list[Object]
    gone: list[Object]  # pods that were there, as they were last seen, of which that is still known
    warnings: list[Object]
    nodes: dict[str, Object]  # every node of the cluster, by its name


def judge(seen: Seen, pull_patience_seconds: float, now: datetime) -> Verdict:
    """The verdict on an attempt."""
    # who may not see nodes knows of none, and must not take each for lost
    job, pods, nodes = seen.job, seen.pods, seen.nodes.get if seen.nodes else unknown_node
    notes = (seen.claim or {}).get("metadata", {}).get("annotations", {})
    if job is None:
        return judged_without_job(notes, pods)
    if "deletionTimestamp" in job["metadata"]:
        return Verdict("running", waits_for=("stopping", f"{len(pods)} pods are stopping"))
    conditions = true_conditions(job)
    causes = [found for pod in pods for found in causes_of_pod(pod, nodes)]
    bad = sorted({pod["spec"]["nodeName"] for pod in pods if "nodeName" in pod["spec"] and is_bad(pod, nodes)})
    if "Succeeded" in conditions or "Complete" in conditions:
        return Verdict("ended", 0, time_of(job, conditions), evidence=[])
    if "Failed" in conditions:
        said = conditions["Failed"]
        if "longer than specified deadline" in said.get("message", ""):
            causes.insert(0, ("deadline", "the job was active longer than its deadline, and Kubernetes ended it"))
        ended_at = time_of(job, conditions)
        codes = [code for pod in pods if (code := exit_code_of(pod)) not in (None, 0)]
        taken = [pod for pod in seen.gone if ended_at is None or deletion_asked_at(pod) <= ended_at]
        causes += [found for pod in taken for found in causes_of_pod(pod, nodes)]
        bad = sorted({*bad, *(pod["spec"]["nodeName"] for pod in taken if "nodeName" in pod["spec"] and is_bad(pod, nodes))})
        if taken and not causes and not codes:  # nobody failed by itself: who fails stays to be seen
            causes += [("preempted", f"{pod['metadata']['name']}: deleted by somebody else than dayrun") for pod in taken]
        cause = causes[0][0] if causes else None
        evidence = [line for _, line in causes] + [f"{job['kind']}: {said.get('message', 'Failed')}"]
        return Verdict("ended", codes[0] if codes else None, ended_at, cause, unique(evidence), bad_nodes=bad)
    if (broken := why_broken(pods, seen.gone, conditions, nodes)) is not None:
        lost = sorted({pod["spec"]["nodeName"] for pod in [*pods, *seen.gone] if "nodeName" in pod["spec"] and is_bad(pod, nodes)})
        return Verdict("running", cause=broken[0], evidence=unique(broken[1]), is_hopeless=True, bad_nodes=lost)
    stuck = hopeless(job, pods, seen.warnings, seen.nodes.values(), pull_patience_seconds, now)
    if stuck is not None:
        return Verdict("running", cause=stuck[0], evidence=unique(stuck[1]), is_hopeless=True)
    return Verdict("running", waits_for=waits_for(job, conditions, pods, seen.warnings))


def judged_without_job(notes: dict[str, str], pods: list[Object]) -> Verdict:
    """There is no job: it never was, it was stopped, or somebody took it away."""
    if pods:
        return Verdict("running", waits_for=("stopping", f"{len(pods)} pods are stopping"))
    if STOPPED in notes:
        return Verdict("ended", ended_at=moment(notes[STOPPED]), evidence=[] if LAUNCHED in notes else ["stopped before it began"])
    if LAUNCHED in notes:
        return Verdict("ended", cause="preempted", evidence=["the job was deleted by somebody else than dayrun, and its pods with it"])
    return Verdict("absent")


def why_broken(
    pods: list[Object], gone: list[Object], conditions: dict[str, Object], nodes: Callable[[str], Object | None]
) -> tuple[str, list[str]] | None:
    """(cause, evidence) of a group that has lost a member: the others would wait for it until their collectives time out, and cost.

    A node that only does not answer is waited for, until Kubernetes itself gives its pods up (`GONE_SECONDS`). Once a member has failed, or
    the master is done, it is the operator that takes the others away; what it makes of that, it says of the job in a moment.
    """
    if any(decides(pod) for pod in pods):
        return None
    leaving = [pod for pod in pods if "deletionTimestamp" in pod["metadata"]]
    since = moment(conditions.get("Running", {}).get("lastTransitionTime"))
    anew = [pod for pod in pods if since is not None and (moment(pod["metadata"].get("creationTimestamp")) or since) > since]
    if not (leaving or gone or anew):
        return None
    found = [cause for pod in [*leaving, *gone] for cause in causes_of_pod(pod, nodes)]
    names = sorted({pod["metadata"]["name"] for pod in [*leaving, *gone, *anew]})
    evidence = [line for _, line in found] + [f"{', '.join(names)}: taken away while the others trained, and a group cannot go on without"]
    return found[0][0] if found else "preempted", evidence


def decides(pod: Object) -> bool:
    """Whether the pod ended by itself in a way that ends the job."""
    phase, metadata = pod.get("status", {}).get("phase"), pod["metadata"]
    return "deletionTimestamp" not in metadata and (phase == "Failed" or (phase == "Succeeded" and metadata["name"].endswith("-master-0")))


def hopeless(
    job: Object, pods: list[Object], warnings: list[Object], nodes: Iterable[Object], pull_patience_seconds: float, now: datetime
) -> tuple[str, list[str]] | None:
    """(cause, evidence) of what will not mend by waiting, so that nobody waits for it."""
    for pod in pods:
        for state in container_states(pod):
            waiting = state.get("waiting", {})
            reason = waiting.get("reason", "")
            if reason not in PULL_REASONS:
                continue
            since = (now - (moment(pod["metadata"].get("creationTimestamp")) or now)).total_seconds()
            if reason in HOPELESS_PULLS or since > pull_patience_seconds:
                image = pod["spec"]["containers"][0]["image"]
                return "image_pull", [f"{pod['metadata']['name']}: {reason}: {waiting.get('message', image)}", f"the image is {image}"]
    if any(is_unscheduled(pod) for pod in pods) and (refusal := larger_than_any_node(pods[0], nodes)) is not None:
        return "spec", [refusal]
    for warning in warnings:
        if not is_about(warning, job) or pods:
            continue
        said = warning.get("message", "")
        if "exceeded quota" in said:
            asked = dict(re.findall(r"(\S+?)=([0-9.]+[A-Za-z]*)", part(said, "requested: ", ", used")))
            limit = dict(re.findall(r"(\S+?)=([0-9.]+[A-Za-z]*)", part(said, "limited: ", "")))
            if any(amount(asked[name]) > amount(limit[name]) for name in asked.keys() & limit.keys()):
                return "spec", [f"the namespace's quota can never hold one of its pods: {said}"]
        elif ("admission webhook" in said and "denied" in said) or "violates PodSecurity" in said:
            return "spec", [f"the cluster refuses its pods: {said}"]
    return None


def waits_for(job: Object, conditions: dict[str, Object], pods: list[Object], warnings: list[Object]) -> tuple[str, str] | None:
    """Why it does not train yet; None once every pod runs."""
    if job["spec"].get("runPolicy", job["spec"]).get("suspend"):
        said = next((w["message"] for w in reversed(warnings) if w["involvedObject"].get("kind") == WORKLOAD.kind), None)
        said = said or conditions.get("Suspended", {}).get("message")
        return "admission", "Kueue has not admitted the job yet" + (f": {said}" if said else "")
    for pod in pods:
        if (condition := is_unscheduled(pod)) is not None:
            return "unschedulable", f"{pod['metadata']['name']}: {condition.get('message', 'no node has room for it')}"
    for pod in pods:
        for state in container_states(pod):
            waiting = state.get("waiting", {})
            if waiting.get("reason") in PULL_REASONS:
                return "image", f"{pod['metadata']['name']}: {waiting['reason']}: {waiting.get('message', '')}"
    if len(pods) < (wanted := pods_of(job)):
        said = next((w["message"] for w in reversed(warnings) if is_about(w, job)), None)
        made = f"the training operator has made {len(pods)} of {wanted} pods"
        return ("cluster_quota" if said and "quota" in said else "pods", said or made)
    starting = [pod["metadata"]["name"] for pod in pods if pod.get("status", {}).get("phase") == "Pending"]
    if starting:
        return "pods", f"{len(starting)} of {len(pods)} pods are starting"
    return None


def pods_of(job: Object) -> int:
    """How many a job has, once all are made."""
    spec = job["spec"]
    if "trainer" in spec:
        return spec["trainer"]["numNodes"]
    return sum(replica["replicas"] for replica in spec["pytorchReplicaSpecs"].values())


# ---- pods ---------------------------------------------------------------------------------------------------------------------------


def causes_of_pod(pod: Object, nodes: Callable[[str], Object | None]) -> list[tuple[str, str]]:
    """(cause, evidence) for each thing that a pod says of its end, the most telling first."""
    found: list[tuple[str, str]] = []
    name, status = pod["metadata"]["name"], pod.get("status", {})
    node = pod["spec"].get("nodeName", "")
    where = f"{name} on {node}" if node else name
    for condition in status.get("conditions", []):
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            lost = condition.get("reason") in ("DeletionByTaintManager", "DeletionByPodGC")
            found.append(("node_lost" if lost else "preempted", f"{where}: {condition.get('reason')}: {condition.get('message', '')}"))
    if status.get("reason") in ("Evicted", "Preempting", "Shutdown", "Terminated"):
        found.append(("preempted", f"{where}: {status['reason']}: {status.get('message', '')}"))
    elif status.get("reason") in ("NodeLost", "NodeAffinity", "UnexpectedAdmissionError"):
        found.append(("node_lost", f"{where}: {status['reason']}: {status.get('message', '')}"))
    if node and status.get("phase") != "Succeeded" and (gone := why_lost(nodes(node))) is not None:
        found.append(("node_lost", f"{where}: the node {gone}"))
    for state in container_states(pod):
        ended = state.get("terminated")
        if not ended or ended.get("exitCode") == 0:
            continue
        words = ended.get("message", "")
        if ended.get("reason") == "OOMKilled":
            limit = pod["spec"]["containers"][0].get("resources", {}).get("limits", {}).get("memory", "its node")
            found.append(("oom", f"{where}: killed, since it used more than the {limit} of memory that it may"))
        elif (cause := next((cause for cause, pattern in WORDS if pattern.search(words)), None)) is not None:
            found.append((cause, f"{where}: {last_line(words, cause)}"))
    return found


def is_bad(pod: Object, nodes: Callable[[str], Object | None]) -> bool:
    """Whether what ended the pod may well lie in its node, so that the next attempt should go elsewhere."""
    return any(cause in ("gpu_fault", "node_lost") for cause, _ in causes_of_pod(pod, nodes))


def container_states(pod: Object) -> list[Object]:
    status = pod.get("status", {})
    return [one.get("state", {}) for one in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]]


def exit_code_of(pod: Object) -> int | None:
    codes = [state["terminated"].get("exitCode") for state in container_states(pod) if "terminated" in state]
    return next((code for code in codes if code), codes[-1] if codes else None)


def is_unscheduled(pod: Object) -> Object | None:
    """The scheduler's own word, where it has found no node."""
    for condition in pod.get("status", {}).get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return condition
    return None


def larger_than_any_node(pod: Object, nodes: Iterable[Object]) -> str | None:
    """What of it no node of the cluster could ever hold, were it empty."""
    asked: dict[str, str] = pod["spec"]["containers"][0].get("resources", {}).get("requests", {})
    known = list(nodes)
    for name, quantity in asked.items() if known else ():
        most = max((node["status"].get("allocatable", {}).get(name, "0") for node in known), key=amount)
        if amount(quantity) > amount(most):
            return f"a pod asks for {name}: {quantity}, and the largest node of the cluster has {most}"
    return None


# ---- small things -------------------------------------------------------------------------------------------------------------------


def true_conditions(item: Object) -> dict[str, Object]:
    return {one["type"]: one for one in item.get("status", {}).get("conditions", []) if one["status"] == "True"}


def is_over(job: Object) -> bool:
    """Whether a job of any kind has ended, well or not: PyTorchJobs succeed, Jobs and TrainJobs are complete."""
    return not {"Succeeded", "Failed", "Complete"}.isdisjoint(true_conditions(job))


def unknown_node(_name: str) -> Object:
    return {}


def why_lost(node: Object | None) -> str | None:
    """Why nothing more is to be expected of a node; None of one that is well."""
    if node is None:
        return "is no more"
    ready = next((one for one in node.get("status", {}).get("conditions", []) if one["type"] == "Ready"), None)
    if ready is not None and ready["status"] != "True":
        return f"is not ready: {ready.get('reason', '')}: {ready.get('message', '')}"
    return None


def time_of(job: Object, conditions: dict[str, Object]) -> datetime | None:
    said = job.get("status", {}).get("completionTime") or next(
        (conditions[name].get("lastTransitionTime") for name in ("Failed", "Succeeded", "Complete") if name in conditions), None
    )
    return moment(said)


def deletion_asked_at(pod: Object) -> datetime:
    """When somebody asked for it: `deletionTimestamp` is when the grace from then on is over. Unknown of one never seen to go."""
    if "deletionTimestamp" not in pod["metadata"]:
        return datetime.min.replace(tzinfo=UTC)
    grace = timedelta(seconds=pod["metadata"].get("deletionGracePeriodSeconds", 0))
    return datetime.fromisoformat(pod["metadata"]["deletionTimestamp"]).astimezone(UTC) - grace


def moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def is_about(event: Object, item: Object) -> bool:
    return event.get("involvedObject", {}).get("uid") == item["metadata"].get("uid")


def part(text: str, after: str, before: str) -> str:
    """What stands between the two; to the end where `before` is empty or missing."""
    rest = text.partition(after)[2]
    return rest.partition(before)[0] if before else rest


def last_line(words: str, cause: str) -> str:
    """The line of a container's last words that gives the cause away."""
    pattern = dict(WORDS)[cause]
    return next((line.strip() for line in reversed(words.splitlines()) if pattern.search(line)), words[-200:])[:500]


def unique(lines: list[str]) -> list[str]:
    return list(dict.fromkeys(lines))[:MOST_LINES]
