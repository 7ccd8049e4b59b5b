"""What one process knows of all attempts on a cluster, without asking for each: mirrors of five kinds, sorted by attempt."""

import threading
import time
from collections import OrderedDict, defaultdict
from datetime import UTC, datetime

from k8s.api import CONFIG_MAP, EVENT, NODE, POD, WORKLOAD, Api, Object
from k8s.attempt import ATTEMPT, DAYRUN, MANAGED_BY, RUN, attempt_of
from k8s.launch import Groups
from k8s.mirror import Mirror, Wanted
from k8s.observe import LAUNCHED, Seen, Verdict, is_over, judge
from k8s.profile import ClusterProfile

FIRST_LOOK_SECONDS = 30.0
SORT_AGAIN_SECONDS = 0.2
MOST_REMEMBERED = 2000
"""Pods that were deleted, whose last state says why an attempt broke."""
WARNINGS_AN_OBJECT = 5

Key = tuple[str, int]


class View:
    """Start it once in a process that reconciles. Reading asks the cluster for nothing, but to be sure that a job is gone."""

    def __init__(self, api: Api, profile: ClusterProfile, groups: Groups) -> None:
        ours, here = f"{MANAGED_BY}={DAYRUN},{RUN},{ATTEMPT}", profile.namespace
        self._groups, self._profile = groups, profile
        self._lock = threading.Lock()
        self._gone: OrderedDict[str, Object] = OrderedDict()
        self._sorted_at, self._by_attempt = 0.0, dict[Key, Seen]()
        self._claims = Mirror(api, Wanted(CONFIG_MAP, here, ours))
        self._jobs = Mirror(api, Wanted(groups.kind, here, ours))
        self._pods = Mirror(api, Wanted(POD, here, ours), self._pod_changed)
        self._events = Mirror(api, Wanted(EVENT, here, fields="type=Warning", has_bookmarks=False, is_needed=False))
        self._nodes = Mirror(api, Wanted(NODE, is_needed=False))
        self.mirrors = (self._claims, self._jobs, self._pods, self._events, self._nodes)

    def start(self) -> None:
        for mirror in self.mirrors:
            mirror.start()

    def stop(self) -> None:
        for mirror in self.mirrors:
            mirror.stop()

    def wait_until_filled(self, seconds: float = FIRST_LOOK_SECONDS) -> bool:
        until = time.monotonic() + seconds
        return all(mirror.wait_until_filled(max(0.0, until - time.monotonic())) for mirror in self.mirrors)

    @property
    def is_current(self) -> bool:
        return all(mirror.is_current for mirror in self.mirrors)

    def verdict(self, run_id: str, attempt: int) -> Verdict | None:
        """On one attempt; None while the cluster cannot be seen. Raises Away and Refused where it had to be asked, and did not say."""
        if not self.is_current:
            return None
        seen = self._sorted().get((run_id, attempt)) or Seen(None, None, [], [], [], {})
        if seen.job is None and seen.claim is not None and LAUNCHED in seen.claim["metadata"].get("annotations", {}):
            # a mirror may be behind another: that somebody deleted the job is believed only of the cluster itself
            seen = Seen(seen.claim, self._groups.job(run_id, attempt), seen.pods, seen.gone, seen.warnings, seen.nodes)
        return judge(seen, self._profile.pull_patience_seconds, datetime.now(UTC))

    def unfinished(self) -> list[Key]:
        """Attempts with a job that is not over, whoever made it."""
        return [key for key, seen in self._sorted().items() if seen.job is not None and not is_over(seen.job)]

    def nodes(self) -> list[Object]:
        return self._nodes.all()

    def pods(self) -> list[Object]:
        return self._pods.all()

    def claimed(self) -> list[tuple[Key, datetime]]:
        """Attempts that have a claim, and since when."""
        found = ((attempt_of(claim["metadata"]["labels"]), claim["metadata"]["creationTimestamp"]) for claim in self._claims.all())
        return [(key, datetime.fromisoformat(made)) for key, made in found if key is not None]

    def _pod_changed(self, pod: Object, gone: bool) -> None:
        """Keep the last state of each pod that is deleted: once it is gone, nobody else knows it."""
        metadata = pod["metadata"]
        if not gone and "deletionTimestamp" not in metadata:
            return
        with self._lock:
            self._gone[metadata["uid"]] = pod
            while len(self._gone) > MOST_REMEMBERED:
                self._gone.popitem(last=False)

    def _sorted(self) -> dict[Key, Seen]:
        with self._lock:
            if time.monotonic() - self._sorted_at < SORT_AGAIN_SECONDS:
                return self._by_attempt
            gone = list(self._gone.values())
        by = by_attempt(self._claims.all()), by_attempt(self._jobs.all()), by_attempt(self._pods.all())
        claims, jobs, pods = by
        warnings = self._warnings()
        nodes = {node["metadata"]["name"]: node for node in self._nodes.all()}
        there = {pod["metadata"]["uid"] for some in pods.values() for pod in some}
        lost = by_attempt([pod for pod in gone if pod["metadata"]["uid"] not in there])
        found: dict[Key, Seen] = {}
        for key in claims.keys() | jobs.keys() | pods.keys():
            job, members = (jobs.get(key) or [None])[0], pods.get(key, [])
            about = [one for item in [*([job] if job else []), *members] for one in warnings.get(item["metadata"]["uid"], [])]
            about += warnings.get(workload_of(job), []) if job else []
            found[key] = Seen((claims.get(key) or [None])[0], job, members, lost.get(key, []), about, nodes)
        with self._lock:
            self._by_attempt, self._sorted_at = found, time.monotonic()
        return found

    def _warnings(self) -> dict[str, list[Object]]:
        """The newest of each object, oldest first; by the object's uid, or as `workload_of` its job."""
        found: dict[str, list[Object]] = defaultdict(list)
        for event in sorted(self._events.all(), key=lambda one: str(one.get("lastTimestamp") or one.get("eventTime") or "")):
            what = event.get("involvedObject", {})
            about = found[what.get("name", "").rpartition("-")[0] if what.get("kind") == WORKLOAD.kind else what.get("uid", "")]
            about.append(event)
            del about[:-WARNINGS_AN_OBJECT]
        return found


def workload_of(job: Object) -> str:
    """What Kueue calls the workload that it makes of a job, but for a hash behind the last dash."""
    return f"{job['kind'].lower()}-{job['metadata']['name']}"


def by_attempt(items: list[Object]) -> dict[Key, list[Object]]:
    found: dict[Key, list[Object]] = defaultdict(list)
    for item in items:
        if (key := attempt_of(item["metadata"].get("labels"))) is not None:
            found[key].append(item)
    return found
