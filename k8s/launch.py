"""An attempt's group of pods: begun once at most, stopped, asked for its output. Every act may be repeated, by anybody, after any crash.

A claim (a ConfigMap of the attempt's name) outlives the job, and its notes decide: LAUNCHED says that there was a job, so that one which
somebody deleted is not made again; STOPPED says that there never will be one. Both are written to the version of the claim that was read:
of one who launches and one who stops at the same moment, the later sees what the earlier has done.

Jobs are created, not applied: a job that exists is never changed, whatever a later version of dayrun would render.
"""

import logging
from datetime import UTC, datetime

from k8s.api import CONFIG_MAP, POD, Api, Away, Kind, Object, Refused, kind_of
from k8s.attempt import ATTEMPT, DAYRUN, MANAGED_BY, RUN, Attempt, attempt_of, label_of, labels_of, name_of
from k8s.observe import LAUNCHED, STOPPED, is_over
from k8s.pods import CONTAINER
from k8s.profile import ClusterProfile
from k8s.render import API_OF, claim, job

OVER = ("Succeeded", "Failed")
"""Phases of a pod that does nothing any more."""
LOG_LINES = 2000
log = logging.getLogger("dayrun")


def of_run(run_id: str) -> str:
    """Label selector of everything that belongs to a run."""
    return f"{MANAGED_BY}={DAYRUN},{RUN}={label_of(run_id)}"


class Groups:
    """The groups of pods of one cluster."""

    def __init__(self, api: Api, profile: ClusterProfile) -> None:
        self._api, self._profile, self.namespace = api, profile, profile.namespace
        self.kind: Kind = API_OF[profile.back_end]

    def launch(self, attempt: Attempt) -> bool:
        """Begin the attempt unless it was begun or stopped before. False while another group of the run is still there: ask again.

        Raises Refused where the cluster will not have it, NoSuchHardware and TooWide, and Away.
        """
        if self._others_remain(attempt):
            return False
        held = self._make(claim(attempt, self._owned()))
        if not {LAUNCHED, STOPPED}.isdisjoint(notes_of(held)):
            return True
        owner = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": attempt.name,
            "uid": held["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
        made = self._make(job(attempt, self._profile, owner))
        try:
            self._note(held, LAUNCHED, made["metadata"]["uid"])
        except Refused as refused:
            if refused.reason != "Conflict":
                raise
            now_held = self._api.get(CONFIG_MAP, self.namespace, attempt.name)
            if now_held is None or STOPPED in notes_of(now_held):
                self._api.delete(self.kind, self.namespace, attempt.name, uid=made["metadata"]["uid"])
        return True

    def rehearse(self, attempt: Attempt) -> None:
        """Let the API server and its webhooks judge what `launch` would make, and make nothing. Raises as `launch` does."""
        self._api.create(claim(attempt, self._owned()), dry_run=True)
        self._api.create(job(attempt, self._profile), dry_run=True)

    def stop(self, run_id: str, attempt: int, force: bool) -> None:
        """Let every pod write its checkpoint and end; with `force`, end them now. An attempt that never began never will.

        Raises Away and Refused.
        """
        name = name_of(run_id, attempt)
        metadata = {"name": name, "namespace": self.namespace, "labels": labels_of(run_id, attempt)}
        never = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        held = self._api.get(CONFIG_MAP, self.namespace, name) or self._make(never)
        if STOPPED not in notes_of(held):
            self._note(held, STOPPED, datetime.now(UTC).isoformat())
        self._api.delete(self.kind, self.namespace, name)
        if force:
            self._end_pods([pod for pod in self._pods(run_id) if attempt_of(pod["metadata"].get("labels")) == (run_id, attempt)])

    def job(self, run_id: str, attempt: int) -> Object | None:
        """As the cluster has it now. Raises Away and Refused."""
        return self._api.get(self.kind, self.namespace, name_of(run_id, attempt))

    def output(self, run_id: str, attempt: int) -> str | None:
        """The newest lines that each pod printed, under its name; None where there are no pods any more. Raises Away and Refused."""
        parts: list[str] = []
        for pod in self._pods(run_id):
            if attempt_of(pod["metadata"].get("labels")) != (run_id, attempt):
                continue
            name = pod["metadata"]["name"]
            try:
                said = self._api.log(self.namespace, name, CONTAINER, LOG_LINES)
            except Refused as refused:  # not started yet, or just gone
                said = f"({refused.message})\n"
            parts.append(f"==> {name} <==\n{said}")
        return "\n".join(parts) or None

    def forget(self, run_id: str, attempt: int) -> None:
        """Remove the claim, and with it what it owns. Raises Away and Refused."""
        self._api.delete(CONFIG_MAP, self.namespace, name_of(run_id, attempt))

    def _others_remain(self, attempt: Attempt) -> bool:
        """Whether another attempt of the run still has pods that could do something, or a job that could make some; sees to their end.

        Asked of the cluster itself and not of a mirror: here two groups at once are kept from each other.
        """
        remain = False
        for other in self._api.list(self.kind, self.namespace, of_run(attempt.run_id))[0]:
            number = int(other["metadata"]["labels"].get(ATTEMPT, "0"))
            if number == attempt.number or is_over(other):
                continue
            if number > attempt.number:
                raise Refused(409, "Overtaken", f"attempt {number} of {attempt.run_id} is there already")
            self._api.delete(self.kind, self.namespace, other["metadata"]["name"])
            remain = True
        left = [pod for pod in self._pods(attempt.run_id) if pod["metadata"]["labels"].get(ATTEMPT) != str(attempt.number)]
        alive = [pod for pod in left if pod.get("status", {}).get("phase") not in OVER]
        leaving = [pod for pod in alive if "deletionTimestamp" in pod["metadata"]]
        if alive and not remain:
            # their job is gone or over: what they wait for is a node that does not answer, or a grace that nobody needs any more
            self._end_pods([pod for pod in alive if pod not in leaving or overdue(pod)])
        return remain or bool(alive)

    def _owned(self) -> ClusterProfile:
        """The profile with its owner by the uid that it has now: without one the API server refuses what names it, and with one that is
        no more the garbage collector takes what names it at once. Raises Away and Refused.
        """
        owner = self._profile.owner
        if owner is None:
            return self._profile
        found = self._api.get(kind_of(owner), self.namespace, owner["name"])
        if found is None:
            raise Refused(404, "NotFound", f"{owner['kind']} {owner['name']}, which is to own every run, is not in {self.namespace}")
        return self._profile.model_copy(update={"owner": {**owner, "uid": found["metadata"]["uid"]}})

    def _end_pods(self, pods: list[Object]) -> None:
        for pod in pods:
            self._api.delete(POD, self.namespace, pod["metadata"]["name"], grace_seconds=0, uid=pod["metadata"]["uid"])

    def _pods(self, run_id: str) -> list[Object]:
        return self._api.list(POD, self.namespace, of_run(run_id))[0]

    def _make(self, document: Object) -> Object:
        """The object as it is, made now or by whoever came first."""
        try:
            return self._api.create(document)
        except Refused as refused:
            if refused.reason != "AlreadyExists":
                raise
        found = self._api.get(kind_of(document), self.namespace, document["metadata"]["name"])
        if found is None:
            raise Away(f"{document['kind']} {document['metadata']['name']} was there, and is gone in the same moment")
        return found

    def _note(self, held: Object, name: str, value: str) -> None:
        """Write a note to that version of the claim. Raises Refused (Conflict) where it has changed since."""
        about = {"resourceVersion": held["metadata"]["resourceVersion"], "annotations": {name: value}}
        self._api.patch(CONFIG_MAP, self.namespace, held["metadata"]["name"], {"metadata": about})


def notes_of(held: Object) -> dict[str, str]:
    return held["metadata"].get("annotations", {})


def overdue(pod: Object) -> bool:
    """Whether a pod that is being deleted should have been gone by now: `deletionTimestamp` is when its grace is over."""
    return datetime.fromisoformat(pod["metadata"]["deletionTimestamp"]) < datetime.now(UTC)
