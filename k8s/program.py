"""A program of the trainer that runs beside training (pictures on request, an export), as a batch/v1 Job: begun once, stopped, seen.

A stopped one is suspended and not deleted: what is not there any more could be begun again by somebody who is late.
"""

from typing import Any

from k8s.api import BATCH_JOB, POD, Api, Object, Refused
from k8s.attempt import DAYRUN, MANAGED_BY, label_of
from k8s.observe import STOPPED, Verdict, causes_of_pod, exit_code_of, moment, true_conditions, unique, unknown_node
from k8s.pods import CACHE_FOLDER, restricted, restricted_container, times, variables
from k8s.profile import ClusterProfile, Hardware

PROGRAM = "dayrun.dev/program"
DONE, FAILED = "Complete", "Failed"


def render(program_id: str, arguments: list[str], profile: ClusterProfile, seconds: float, suspended: bool = False) -> Object:
    """The Job that runs `python ARGUMENTS` from the trainer's image, on hardware without accelerators where the profile has some."""
    hardware = profile.hardware.get("cpu") or next(iter(profile.hardware.values()))
    labels = {MANAGED_BY: DAYRUN, PROGRAM: label_of(program_id)}
    spec: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 10,
        "securityContext": restricted(profile),
        "tolerations": hardware.tolerations,
        "nodeSelector": hardware.node_selector,
        "imagePullSecrets": [{"name": name} for name in profile.pull_secrets],
        "containers": [container(arguments, profile, hardware)],
        "volumes": [
            {"name": "temporary", "emptyDir": {}},
            {"name": "cache", "emptyDir": {}},
            *({"name": one.claim, "persistentVolumeClaim": {"claimName": one.claim, "readOnly": one.read_only}} for one in profile.volumes),
        ],
    }
    return {
        "apiVersion": BATCH_JOB.api_version,
        "kind": BATCH_JOB.kind,
        "metadata": {
            "name": label_of(program_id),
            "namespace": profile.namespace,
            "labels": labels,
            "annotations": {STOPPED: "before it began"} if suspended else {},
        },
        "spec": {
            "backoffLimit": 0,
            "suspend": suspended,
            "activeDeadlineSeconds": max(1, round(seconds)),
            "ttlSecondsAfterFinished": profile.keep_finished_seconds,
            "template": {"metadata": {"labels": labels}, "spec": {name: value for name, value in spec.items() if value not in ({}, [])}},
        },
    }


def container(arguments: list[str], profile: ClusterProfile, hardware: Hardware) -> Object:
    memory = times(hardware.memory_per_process, 1)
    devices = {hardware.resource: "1"} if hardware.resource else {}
    own = {"DAYRUN_DATA": profile.data, "HOME": "/tmp", "XDG_CACHE_HOME": CACHE_FOLDER, **profile.environment}
    return {
        "name": "program",
        "image": profile.image,
        "imagePullPolicy": profile.pull_policy,
        "args": ["python", *arguments],
        "env": variables(own),
        "envFrom": [{"secretRef": {"name": name}} for name in profile.environment_secrets],
        "resources": {
            "requests": {"cpu": hardware.cpu_per_process, "memory": memory, **devices},
            "limits": {"memory": memory, **devices},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": restricted_container(),
        "volumeMounts": [
            {"name": "temporary", "mountPath": "/tmp"},
            {"name": "cache", "mountPath": CACHE_FOLDER},
            *({"name": one.claim, "mountPath": one.path, "readOnly": one.read_only} for one in profile.volumes),
        ],
    }


class Programs:
    """The programs of one cluster. Every act may be repeated, by anybody, after any crash."""

    def __init__(self, api: Api, profile: ClusterProfile) -> None:
        self._api, self._profile = api, profile

    def start(self, program_id: str, arguments: list[str], seconds: float) -> None:
        """Begin it unless it was begun or stopped before. Raises Away and Refused."""
        self._make(render(program_id, arguments, self._profile, seconds))

    def stop(self, program_id: str, force: bool) -> None:
        """End it; one that never began never will. Raises Away and Refused."""
        if not self._make(render(program_id, ["-c", ""], self._profile, 1, suspended=True)):
            # the note, too: Kueue suspends jobs for reasons of its own
            stopped = {"metadata": {"annotations": {STOPPED: "by dayrun"}}, "spec": {"suspend": True}}
            self._api.patch(BATCH_JOB, self._profile.namespace, label_of(program_id), stopped)
        if force:
            for pod in self._pods(program_id):
                self._api.delete(POD, self._profile.namespace, pod["metadata"]["name"], grace_seconds=0, uid=pod["metadata"]["uid"])

    def verdict(self, program_id: str) -> Verdict:
        """Raises Away and Refused."""
        job = self._api.get(BATCH_JOB, self._profile.namespace, label_of(program_id))
        if job is None:
            return Verdict("absent")
        conditions, status = true_conditions(job), job.get("status", {})
        if DONE in conditions:
            return Verdict("ended", 0, moment(status.get("completionTime")))
        if FAILED in conditions:
            pods = self._pods(program_id)
            causes = [found for pod in pods for found in causes_of_pod(pod, unknown_node)]
            words = [words for pod in pods if (words := last_words(pod))]
            code = next((code for pod in pods if (code := exit_code_of(pod)) is not None), None)
            evidence = unique([*(line for _, line in causes), conditions[FAILED].get("message", ""), *words])
            at = moment(conditions[FAILED].get("lastTransitionTime"))
            return Verdict("ended", code, at, causes[0][0] if causes else None, evidence)
        if STOPPED in job["metadata"].get("annotations", {}) and not status.get("active"):
            return Verdict("ended", evidence=["it was stopped"])
        return Verdict("running")

    def _make(self, document: Object) -> bool:
        """False where it is there already."""
        try:
            self._api.create(document)
        except Refused as refused:
            if refused.reason != "AlreadyExists":
                raise
            return False
        return True

    def _pods(self, program_id: str) -> list[Object]:
        return self._api.list(POD, self._profile.namespace, f"{PROGRAM}={label_of(program_id)}")[0]


def last_words(pod: Object) -> str:
    """The last line that the container printed before it failed."""
    statuses: list[dict[str, Any]] = pod.get("status", {}).get("containerStatuses", [])
    said = "".join(one.get("state", {}).get("terminated", {}).get("message", "") for one in statuses).strip()
    return said.splitlines()[-1][:500] if said else ""
