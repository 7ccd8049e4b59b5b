"""Attempts as PyTorchJobs, through `k8s/`: what an order means there, and what a verdict on a group of pods means here.

The cluster is looked at through mirrors, which start with the first look: an API process, which only shows what would be launched and
reads output, never starts them. A cluster that cannot be reached is told as such; nothing follows from it for any run.
"""

import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from dayrun.plan import Finding, Verdict
from dayrun.recipe import Recipe
from dayrun.run_folder import Cause
from k8s.api import Api, Away, Refused
from k8s.attempt import Attempt
from k8s.launch import Groups
from k8s.pods import NoSuchHardware, TooWide, hardware_of
from k8s.preflight import PREVENTS, QUICK_SECONDS, quick
from k8s.profile import ClusterProfile
from k8s.program import Programs
from k8s.render import claim, job
from k8s.room import block_with_room
from k8s.trial import tried
from k8s.view import View
from service.launchers import Launched, Observation, Order, Unsuitable
from service.settings import Settings

NEVER = ("Invalid", "BadRequest")
"""Reasons of the API server's no that no waiting changes."""
PATIENT_SECONDS = 10.0
"""For a look before a trial, which takes longer anyway."""
log = logging.getLogger("dayrun")


class KubernetesLauncher:
    def __init__(self, settings: Settings, profile: ClusterProfile, api: Api) -> None:
        self._settings, self._profile, self._api = settings, profile, api
        self.groups = Groups(api, profile)
        self._view = View(api, profile, self.groups)
        self._starting = threading.Lock()
        self._started = False
        self._not_launched: dict[tuple[str, int], Observation] = {}

    def launch(self, order: Order) -> None:
        key = (order.run_id, order.attempt)
        try:
            with suitable():
                launched = self.groups.launch(self._attempt(order))
            found = None if launched else waits("pods", "an earlier attempt's pods are still stopping")
        except Away as error:
            found = waits("unreachable", f"the cluster does not answer: {error}")
        except Unsuitable as error:
            found = broken("spec", f"{error.at}: {error.because}; nearest: {', '.join(map(str, error.nearest))}")
        except Refused as refused:
            denied = "admission webhook" in refused.message and "denied" in refused.message
            if refused.reason in NEVER or denied:
                found = broken("spec", f"the cluster refuses the job: {refused.message}")
            else:
                found = waits("cluster_quota" if "quota" in refused.message else "cluster", refused.message)
        if found is None:
            self._not_launched.pop(key, None)
        else:
            self._not_launched[key] = found

    def observe(self, run_id: str, attempt: int) -> Observation:
        self._start()
        try:
            seen = self._view.verdict(run_id, attempt)
        except (Away, Refused) as error:
            log.warning("%s, attempt %d cannot be looked at: %s", run_id, attempt, error)
            seen = None
        if seen is None:
            return Observation(Launched.UNREACHABLE)
        launched = Launched(seen.launched)
        if launched == Launched.ABSENT:
            return self._not_launched.get((run_id, attempt)) or Observation(Launched.ABSENT)
        self._not_launched.pop((run_id, attempt), None)
        return Observation(
            launched,
            seen.exit_code,
            seen.ended_at,
            seen.evidence,
            cause=cast("Cause | None", seen.cause),
            is_broken=seen.is_hopeless,
            waits_for=seen.waits_for,
            bad_nodes=seen.bad_nodes,
        )

    def stop(self, run_id: str, attempt: int, force: bool) -> None:
        self._not_launched.pop((run_id, attempt), None)
        try:
            self.groups.stop(run_id, attempt, force)
        except (Away, Refused) as error:  # the next look stops it again
            log.warning("%s, attempt %d cannot be stopped: %s", run_id, attempt, error)

    def logs(self, run_id: str, attempt: int) -> str | None:
        try:
            return self.groups.output(run_id, attempt)
        except (Away, Refused):
            return None

    def manifest(self, order: Order) -> dict[str, Any]:
        attempt = self._attempt(order)
        with suitable():
            objects = [claim(attempt, self._profile), job(attempt, self._profile)]
        return {"apiVersion": "v1", "kind": "List", "items": objects}

    def must_suit(self, recipe: Recipe) -> None:
        with suitable():
            hardware_of(recipe, self._profile)

    def verdicts(self, order: Order) -> list[Verdict]:
        found = self._looked_at(order, QUICK_SECONDS)
        return [Verdict(about="cluster", level=one.level, at=one.at, because=one.because, nearest=one.nearest) for one in found]

    def preflight(self, order: Order, with_nodes: bool) -> list[Finding]:
        found = self._looked_at(order, PATIENT_SECONDS)
        if any(one.check in PREVENTS and one.level != "ok" for one in found):
            return found
        return found + tried(self._api, self._profile, self._attempt(order), with_nodes)

    def unfinished(self) -> list[tuple[str, int]]:
        return self._view.unfinished() if self._started and self._view.is_current else []

    def old(self, at: datetime) -> list[tuple[str, int]]:
        before = at - timedelta(seconds=self._profile.keep_finished_seconds)
        return [key for key, since in self._view.claimed() if since < before] if self._started else []

    def forget(self, run_id: str, attempt: int) -> None:
        try:
            self.groups.forget(run_id, attempt)
        except (Away, Refused) as error:
            log.warning("what is left of %s, attempt %d cannot be removed: %s", run_id, attempt, error)

    def close(self) -> None:
        self._view.stop()

    def _looked_at(self, order: Order, seconds: float) -> list[Finding]:
        try:
            with suitable():
                return quick(self._api, self._profile, self._attempt(order), seconds)
        except Unsuitable as error:
            return [Finding(check="manifest", level="no", at=error.at, because=error.because, nearest=error.changes)]

    def _attempt(self, order: Order) -> Attempt:
        hardware = self._profile.hardware.get(order.recipe.hardware.accelerator)
        block = None
        if hardware is not None and hardware.block_label and self._started:
            block = block_with_room(self._view.nodes(), self._view.pods(), hardware, order.recipe.hardware, order.avoid_nodes)
        return Attempt(
            order.run_id,
            order.attempt,
            order.folder,
            order.recipe,
            order.stop_seconds,
            project=order.project,
            deadline_seconds=order.deadline_seconds,
            avoid_nodes=order.avoid_nodes,
            block=block,
            environment=order.environment,
        )

    def _start(self) -> None:
        with self._starting:
            if not self._started:
                self._started = True
                self._view.start()
                self._view.wait_until_filled()


class KubernetesPrograms:
    """Programs on the cluster: any worker looks after any of them."""

    def __init__(self, settings: Settings, profile: ClusterProfile, api: Api) -> None:
        self._settings, self._programs, self.place = settings, Programs(api, profile), f"cluster:{profile.namespace}"[:60]

    def start(self, job_id: str, arguments: list[str]) -> None:
        with told(job_id):
            self._programs.start(job_id, arguments, 1.5 * self._settings.job_seconds)  # the reconciler's own limit comes first

    def observe(self, job_id: str) -> Observation:
        try:
            seen = self._programs.verdict(job_id)
        except (Away, Refused):
            return Observation(Launched.UNREACHABLE)
        return Observation(Launched(seen.launched), seen.exit_code, seen.ended_at, seen.evidence)

    def stop(self, job_id: str, force: bool) -> None:
        with told(job_id):
            self._programs.stop(job_id, force)


@contextmanager
def told(job_id: str) -> Generator[None]:
    """What the cluster does not take now is tried again with the next look."""
    try:
        yield
    except (Away, Refused) as error:
        log.warning("%s: %s", job_id, error)


@contextmanager
def suitable() -> Generator[None]:
    """Raises Unsuitable, with the place in the recipe, for what the profile has no nodes for."""
    try:
        yield
    except NoSuchHardware as error:
        raise Unsuitable("/hardware/accelerator", error.name, str(error), list(error.nearest)) from error
    except TooWide as error:
        raise Unsuitable("/hardware/processes_per_node", error.asked, str(error), [error.nearest]) from error


def waits(code: str, because: str) -> Observation:
    return Observation(Launched.ABSENT, waits_for=(code, because))


def broken(cause: Cause, because: str) -> Observation:
    return Observation(Launched.RUNNING, cause=cause, evidence=[because], is_broken=True, ended_at=datetime.now(UTC))
