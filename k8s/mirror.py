"""What a cluster holds, kept here by list and watch: one `Mirror` a kind of object, each in a thread of its own.

The rules of the API's watches are in this file and nowhere else: a list comes first; a watch goes on from the list's version; bookmarks
move that version on; 410 Gone says that it is too old, and everything is listed anew. So it is every `RELIST_SECONDS`, since a change that
was lost would be lost for ever. A change may come twice: versions are compared for being the same, never for their order.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from k8s.api import Api, Away, Kind, Object, Refused

RELIST_SECONDS = 600.0
WATCH_SECONDS = 240
SILENCE_SECONDS = 90.0
"""Bookmarks come about once a minute: without one for longer the connection is dead, whatever TCP believes."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 15.0
Key = tuple[str, str]
log = logging.getLogger("dayrun")


@dataclass(frozen=True)
class Wanted:
    """Which objects a mirror keeps."""

    kind: Kind
    namespace: str | None = None
    labels: str = ""
    fields: str = ""
    has_bookmarks: bool = True
    """The API server sends none for events, which it does not cache: their silence says nothing, and their watches are short instead."""
    is_needed: bool = True
    """Whether nothing can be said without them. What is not needed and may not be read counts as there being none."""


def key_of(item: Object) -> Key:
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


class Mirror:
    """The objects of one kind. Reading never waits and never asks the cluster.

    changed: called with each object that changed, and whether it is gone: then with its last state that is known.
    """

    def __init__(self, api: Api, wanted: Wanted, changed: Callable[[Object, bool], None] | None = None) -> None:
        self._api, self._wanted, self._changed = api, wanted, changed
        self._objects: dict[Key, Object] = {}
        self._version = ""
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._filled = threading.Event()
        self._heard = 0.0  # monotonic time of the last sign of life
        self._following = False
        self._may_not_look = False
        self._relist_at = 0.0
        self.lists = 0
        self._thread = threading.Thread(target=self._keep, name=f"mirror {wanted.kind.kind}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Soon: a watch that is open ends with its next word, and with the process at the latest."""
        self._stopped.set()

    def wait_until_filled(self, seconds: float) -> bool:
        return self._filled.wait(seconds)

    @property
    def is_current(self) -> bool:
        """Whether what it holds is what the cluster holds, but for moments."""
        return self._may_not_look or (self._following and time.monotonic() - self._heard < SILENCE_SECONDS)

    def all(self) -> list[Object]:
        with self._lock:
            return list(self._objects.values())

    def get(self, namespace: str, name: str) -> Object | None:
        with self._lock:
            return self._objects.get((namespace, name))

    def _keep(self) -> None:
        wait = FIRST_WAIT_SECONDS
        while not self._stopped.is_set():
            try:
                if not self._version or time.monotonic() > self._relist_at:
                    self._list()
                    self._relist_at = time.monotonic() + RELIST_SECONDS * random.uniform(0.8, 1.2)  # not all mirrors of all workers at once
                begun = time.monotonic()
                self._watch()
                wait = FIRST_WAIT_SECONDS
                if time.monotonic() - begun < 1:  # a proxy that ends each watch at once must not be asked without pause
                    self._stopped.wait(1)
            except (Away, Refused) as error:
                self._following = False
                if isinstance(error, Refused) and error.status == 410:
                    self._version = ""
                    continue
                if isinstance(error, Refused) and error.status == 403 and not self._wanted.is_needed:
                    self._may_not_look = True
                    self._filled.set()
                if isinstance(error, Refused):
                    self._version = ""  # no rights, or no such kind yet: asked again, since both can be mended outside
                if wait == FIRST_WAIT_SECONDS or isinstance(error, Refused):
                    log.warning("%s cannot be watched: %s", self._wanted.kind.kind, error)
                self._stopped.wait(wait * random.uniform(0.7, 1.3))
                wait = min(wait * 2, LONGEST_WAIT_SECONDS)

    def _list(self) -> None:
        wanted = self._wanted
        found, version = self._api.list(wanted.kind, wanted.namespace, wanted.labels, wanted.fields)
        fresh = {key_of(item): lean(item) for item in found}
        with self._lock:
            before, self._objects = self._objects, fresh
        self.lists += 1
        self._may_not_look = False
        self._version, self._heard = version, time.monotonic()
        self._filled.set()
        for key in before.keys() | fresh.keys():
            if version_of(before.get(key)) != version_of(fresh.get(key)):
                self._tell(fresh.get(key) or before[key], key not in fresh)

    def _watch(self) -> None:
        wanted = self._wanted
        self._heard, self._following = time.monotonic(), True
        seconds = round((WATCH_SECONDS if wanted.has_bookmarks else SILENCE_SECONDS / 2) * random.uniform(0.8, 1.2))
        for change in self._api.watch(wanted.kind, wanted.namespace, self._version, wanted.labels, wanted.fields, seconds, SILENCE_SECONDS):
            self._heard = time.monotonic()
            self._take(change["type"], change["object"])
            if self._stopped.is_set():
                return

    def _take(self, type: str, item: Object) -> None:
        self._version = item["metadata"]["resourceVersion"]
        if type == "BOOKMARK":
            return
        key = key_of(item)
        with self._lock:
            before = self._objects.get(key)
            if type == "DELETED":
                self._objects.pop(key, None)
            else:
                self._objects[key] = lean(item)
        if type == "DELETED" or version_of(before) != version_of(item):
            self._tell(item, type == "DELETED")

    def _tell(self, item: Object, gone: bool) -> None:
        if self._changed is not None:
            self._changed(item, gone)


def lean(item: Object) -> Object:
    """Without what nobody here reads, and what is half of an object's size."""
    item["metadata"].pop("managedFields", None)
    return item


def version_of(item: Object | None) -> str | None:
    return item["metadata"]["resourceVersion"] if item is not None else None
