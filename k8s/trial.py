"""Pods for a minute, to see what only pods can show: that the image is pulled and starts, that it reaches the store of run folders with the
run's own credentials, and, on request, that nodes compute and reach each other. Nothing is left of them; what they show is judged in
`tried.py`.

They carry no attempt's labels: whoever looks after runs does not see them. Whoever starts them may die: each has a deadline, and goes by
itself after its end.
"""

import json
import math
import secrets
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import TypeVar

from dayrun.plan import Finding
from k8s.api import EVENT, POD, Api, Away, Object, Refused, kind_of
from k8s.attempt import Attempt, label_of
from k8s.demand import Demand, demand_of
from k8s.pods import CONTAINER, hardware_of
from k8s.preflight import of_refusal
from k8s.profile import ClusterProfile
from k8s.program import render
from k8s.render import job
from k8s.tried import Seen, of_group, of_store

T = TypeVar("T")
SECONDS = 170.0
MEASURE_SECONDS = 20
LATE_SECONDS = 30
"""After which Kubernetes itself ends what should have been removed: at the same moment it would take the pods away from our last look."""
KEEP_SECONDS = 600
"""How long Kubernetes keeps what nobody came back to remove."""
LOOK_AGAIN_SECONDS = 5.0
"""A job that may make no pods, and a time that is over, change no pod."""
LOG_LINES = 2000
MEMORY = "1Gi"


def tried(api: Api, profile: ClusterProfile, attempt: Attempt, with_nodes: bool, seconds: float = SECONDS) -> list[Finding]:
    """What pods show, in `seconds`. attempt: of a run that is not there; its folder is written to. Raises NoSuchHardware and TooWide."""
    ends_at = time.monotonic() + seconds
    demand, small = demand_of(attempt, profile), profile.model_copy(update={"keep_finished_seconds": KEEP_SECONDS, "priority_class": None})
    found: list[Finding] = []
    try:
        found += try_store(api, small, attempt, seconds / 2 if with_nodes else seconds)
        if with_nodes and any(one.level != "ok" for one in found):
            found.append(Finding(check="group", level="note", because="not tried: what stands above comes first"))
        elif with_nodes and profile.back_end != "pytorchjob":  # a TrainJob has no deadline of its own, and could outlive us
            because = f"not tried: nodes are tried by PyTorchJobs, and runs here are launched by {profile.back_end}"
            found.append(Finding(check="group", level="note", because=because))
        elif with_nodes:
            found += try_group(api, small, attempt, demand, ends_at - time.monotonic())
    except Away:
        found.append(
            Finding(check="cluster", level="note", because="the cluster stopped answering; what is not listed here was not checked")
        )
    except Refused as refused:
        found.append(of_refusal(refused, profile))
    return found


def try_store(api: Api, profile: ClusterProfile, attempt: Attempt, seconds: float) -> list[Finding]:
    """A pod on a node of the run's own kind, which asks for next to nothing there. Raises Away and Refused."""
    name = f"preflight-{secrets.token_hex(5)}"
    update = {"resource": None, "cpu_per_process": "100m", "memory_per_process": MEMORY}
    small = profile.model_copy(update={"hardware": {"cpu": hardware_of(attempt.recipe, profile).model_copy(update=update)}})
    document = render(name, ["-m", "trainer.check", "store", attempt.folder], small, seconds + LATE_SECONDS)
    with made(api, document):
        return until(api, document, lambda seen: of_store(seen, profile, attempt.folder), seconds)


def try_group(api: Api, profile: ClusterProfile, attempt: Attempt, demand: Demand, seconds: float) -> list[Finding]:
    """Pods of the run's own shape. They pre-empt nobody: their priority is the cluster's default. Raises Away and Refused."""
    program = ("trainer.check", "nodes", "--seconds", str(MEASURE_SECONDS))
    name = f"preflight_{secrets.token_hex(5)}"
    one = replace(attempt, run_id=name, number=1, program=program, stop_seconds=1.0, deadline_seconds=seconds + LATE_SECONDS)
    document = job(one, profile)

    def judged(seen: Seen) -> list[Finding] | None:
        return of_group(seen, profile, demand, lambda: measured(api, profile.namespace, seen.pods))

    with made(api, document):
        return until(api, document, judged, seconds)


@contextmanager
def made(api: Api, document: Object) -> Generator[None]:
    """The job as long as the context lasts. Raises Away and Refused."""
    metadata = document["metadata"]
    try:
        api.create(document)
        yield
    finally:  # also of one whose creation was not answered for
        with suppress(Away, Refused):
            api.delete(kind_of(document), metadata["namespace"], metadata["name"])


def until(api: Api, document: Object, judge: Callable[[Seen], T | None], seconds: float) -> T:
    """What `judge` says once it says something; it is asked again with each change of the job's pods, and at the end it must."""
    metadata, ends_at = document["metadata"], time.monotonic() + seconds
    namespace, labels = metadata["namespace"], of_job(document)
    while True:
        left = ends_at - time.monotonic()
        pods, version = api.list(POD, namespace, labels)
        warnings = [event for event in api.list(EVENT, namespace, fields="type=Warning")[0] if is_of(event, metadata["name"])]
        if (found := judge(Seen(pods, warnings, left <= 0))) is not None:
            return found
        wait_seconds = max(1.0, min(left, LOOK_AGAIN_SECONDS))
        changes = api.watch(POD, namespace, version, labels, "", math.ceil(wait_seconds), 2 * wait_seconds)
        with suppress(Refused), closing(changes):  # refused: the version is too old by now, so there was a change
            next(changes, None)


def of_job(document: Object) -> str:
    """Label selector of a job's pods."""
    return ",".join(f"{name}={value}" for name, value in sorted(document["metadata"]["labels"].items()) if name.startswith("dayrun.dev/"))


def is_of(event: Object, name: str) -> bool:
    """Whether an event is about a job or one of its pods, whose names begin with its own."""
    return str(event.get("involvedObject", {}).get("name", "")).startswith(label_of(name))


def measured(api: Api, namespace: str, pods: list[Object]) -> list[Object]:
    """The lines that ranks printed of what they measured. Raises Away."""
    found: list[Object] = []
    for pod in pods:
        with suppress(Refused):  # it never started
            for line in api.log(namespace, pod["metadata"]["name"], CONTAINER, LOG_LINES).splitlines():
                with suppress(ValueError):
                    said = json.loads(line)
                    found += [said] if isinstance(said, dict) and "measured" in said else []
    return found
