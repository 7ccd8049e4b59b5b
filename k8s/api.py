"""The Kubernetes API as documents: get, list, create, patch, delete, watch. Credentials and TLS are the official client's business.

Objects are plain dictionaries, as they are on the wire: a renderer makes them, a golden file shows them, and a field that this code does
not know is never lost on the way.
"""

import json
import os
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
from kubernetes import config
from kubernetes.client import ApiClient, Configuration

Object = dict[str, Any]

FIELD_MANAGER = "dayrun"
CONNECT_SECONDS, READ_SECONDS = 3.0, 15.0
PAGE = 500
JSON = "application/json"
PLURALS = {
    "ConfigMap": "configmaps",
    "Pod": "pods",
    "Job": "jobs",
    "Event": "events",
    "Node": "nodes",
    "ResourceQuota": "resourcequotas",
    "PyTorchJob": "pytorchjobs",
    "TrainJob": "trainjobs",
    "LocalQueue": "localqueues",
    "ClusterQueue": "clusterqueues",
    "Workload": "workloads",
}


class Away(Exception):
    """The API server cannot be reached, or cannot answer now. Nothing is known; nothing was refused."""


class Refused(Exception):
    """The API server said no. `reason` is its own word for why (NotFound, AlreadyExists, Forbidden, Invalid, Conflict, …)."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        self.status, self.reason, self.message = status, reason, message
        super().__init__(f"{reason or status}: {message}")


@dataclass(frozen=True)
class Kind:
    """A kind of object and where it lives."""

    api_version: str
    kind: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """In all namespaces where none is given."""
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        within = f"/namespaces/{quote(namespace)}" if self.namespaced and namespace is not None else ""
        return f"{root}{within}/{PLURALS[self.kind]}" + (f"/{quote(name)}" if name is not None else "")


CONFIG_MAP = Kind("v1", "ConfigMap")
POD = Kind("v1", "Pod")
EVENT = Kind("v1", "Event")
NODE = Kind("v1", "Node", namespaced=False)
QUOTA = Kind("v1", "ResourceQuota")
BATCH_JOB = Kind("batch/v1", "Job")
LOCAL_QUEUE = Kind("kueue.x-k8s.io/v1beta1", "LocalQueue")
CLUSTER_QUEUE = Kind("kueue.x-k8s.io/v1beta1", "ClusterQueue", namespaced=False)
WORKLOAD = Kind("kueue.x-k8s.io/v1beta1", "Workload")


def kind_of(document: Object) -> Kind:
    return Kind(document["apiVersion"], document["kind"])


class Api:
    """One connection pool to one API server; may be used from several threads."""

    def __init__(self, client: ApiClient) -> None:
        self._configuration: Any = client.configuration  # pyright: ignore[reportUnknownMemberType]
        self._pool: urllib3.PoolManager = client.rest_client.pool_manager
        self.requests = 0
        """How many were sent, watches included."""
        self._ends_at: float | None = None

    @classmethod
    def from_environment(cls) -> "Api":
        """By the pod's service account, or else by KUBECONFIG. Raises Away where there is neither."""
        configuration = Configuration()
        try:
            try:
                config.load_incluster_config(client_configuration=configuration)  # pyright: ignore[reportUnknownMemberType]
            except config.ConfigException:
                config.load_kube_config(os.environ.get("KUBECONFIG"), client_configuration=configuration)  # pyright: ignore[reportUnknownMemberType]
        except (config.ConfigException, OSError) as error:
            raise Away(f"no service account of a pod and no usable KUBECONFIG: {error}") from error
        configuration.connection_pool_maxsize = 32
        return cls(ApiClient(configuration))

    def within(self, seconds: float) -> "Api":
        """The same API server, for somebody who does not wait: whatever is not answered `seconds` from now on is Away."""
        hurried = copy(self)
        hurried._ends_at = time.monotonic() + seconds
        return hurried

    def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """None where there is none. Raises Away and Refused."""
        try:
            return self._ask("GET", kind.path(namespace, name))
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def list(self, kind: Kind, namespace: str | None = None, labels: str = "", fields: str = "") -> tuple[list[Object], str]:
        """Every object, read in pages, and the version of the list that a watch goes on from. Raises Away and Refused (410 among them)."""
        found: list[Object] = []
        query: dict[str, str] = {"limit": str(PAGE), **selectors(labels, fields)}
        while True:
            page = self._ask("GET", kind.path(namespace), query)
            found += page["items"]
            query["continue"] = page["metadata"].get("continue", "")
            if not query["continue"]:
                return found, page["metadata"]["resourceVersion"]

    def create(self, document: Object, dry_run: bool = False) -> Object:
        """Raises Away and Refused: AlreadyExists above all."""
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}
        return self._ask("POST", kind_of(document).path(document["metadata"]["namespace"]), query, document)

    def patch(self, kind: Kind, namespace: str | None, name: str, patch: Object) -> Object:
        """JSON merge patch; with `metadata.resourceVersion` in it, only of that version (else Refused, Conflict). Raises Away too."""
        content_type = "application/merge-patch+json"
        return self._ask("PATCH", kind.path(namespace, name), {"fieldManager": FIELD_MANAGER}, patch, content_type)

    def delete(self, kind: Kind, namespace: str | None, name: str, *, grace_seconds: int | None = None, uid: str | None = None) -> None:
        """In the foreground: it stays to be seen until all that it owns is gone. One that is gone is no error. Raises Away and Refused."""
        options: Object = {"propagationPolicy": "Foreground"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        try:
            self._ask("DELETE", kind.path(namespace, name), body=options)
        except Refused as refused:
            if refused.status not in (404, 409):  # gone, or another of the same name by now
                raise

    def log(self, namespace: str, pod: str, container: str, lines: int) -> str:
        """The newest `lines` that a container printed. Raises Away and Refused."""
        query = {"container": container, "tailLines": str(lines)}
        with self._answer("GET", f"{POD.path(namespace, pod)}/log", query) as answer:
            return answer.read(decode_content=True).decode(errors="replace")

    def watch(
        self, kind: Kind, namespace: str | None, version: str, labels: str, fields: str, seconds: int, silence_seconds: float
    ) -> Generator[Object]:
        """Changes after `version`, as {type, object}, until the server ends it after `seconds`.

        Raises Away when nothing, not even a bookmark, comes for `silence_seconds`, and Refused (410) when `version` is too old.
        """
        query = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds), "resourceVersion": version}
        query |= selectors(labels, fields)
        with self._answer("GET", kind.path(namespace), query, read_seconds=silence_seconds) as answer:
            for line in lines_of(answer):
                change = json.loads(line)
                if change["type"] == "ERROR":
                    said = change["object"]
                    raise Refused(said.get("code", 500), said.get("reason", ""), said.get("message", ""))
                yield change

    def _ask(
        self, method: str, path: str, query: dict[str, str] | None = None, body: Object | None = None, content_type: str = JSON
    ) -> Object:
        with self._answer(method, path, query, body, content_type) as answer:
            try:
                return json.loads(answer.read(decode_content=True))
            except ValueError as error:
                raise Away(f"{method} {path}: the answer is no JSON") from error

    @contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: Object | None = None,
        content_type: str = JSON,
        read_seconds: float = READ_SECONDS,
    ) -> Generator[urllib3.BaseHTTPResponse]:
        """The answer, unread; whatever goes wrong is Away or Refused."""
        url = f"{self._configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": JSON, "User-Agent": FIELD_MANAGER}
        for setting in self._configuration.auth_settings().values():  # looked up each time: tokens are renewed on disk
            headers[setting["key"]] = setting["value"]
        content = None
        if body is not None:
            content, headers["Content-Type"] = json.dumps(body).encode(), content_type
        connect_seconds = CONNECT_SECONDS
        if self._ends_at is not None:
            if (left := self._ends_at - time.monotonic()) <= 0:
                raise Away(f"{method} {path}: no time is left")
            connect_seconds, read_seconds = min(connect_seconds, left), min(read_seconds, left)
        self.requests += 1
        try:
            answer = self._pool.request(
                method,
                url,
                body=content,
                headers=headers,
                preload_content=False,
                retries=False,
                timeout=urllib3.Timeout(connect=connect_seconds, read=read_seconds),
            )
            try:
                if answer.status >= 400:
                    raise refusal(answer.status, answer.read(decode_content=True))
                yield answer
            finally:
                with suppress(Exception):
                    answer.drain_conn() if method != "GET" or "watch=1" not in url else answer.close()
                answer.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Away(f"{method} {path}: {type(error).__name__}") from error


def refusal(status: int, body: bytes) -> Refused | Away:
    """What the server said. A server that is starting, shutting down or too busy says so by 429 or 5xx, and has refused nothing."""
    try:
        said = json.loads(body)
        reason, message = said.get("reason", ""), said.get("message", "")
    except (ValueError, AttributeError):
        reason, message = "", body[:200].decode(errors="replace")
    # an admission webhook that cannot be reached answers as 500 too, with its own words: that is the cluster's no
    if (status == 429 or status >= 500) and "webhook" not in message:
        return Away(f"{status} {reason}: {message}")
    return Refused(status, reason, message)


def selectors(labels: str, fields: str) -> dict[str, str]:
    return {name: value for name, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}


def lines_of(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """Whole lines as they come: a change of an object may be cut anywhere on its way."""
    rest = b""
    for part in answer.stream(None, decode_content=True):
        *whole, rest = (rest + part).split(b"\n")
        yield from (line for line in whole if line)
