"""What one API process counts of its own requests, in a registry of its own: the rest of /metrics is made anew for each answer."""

import re
import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.metrics import MetricWrapperBase
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dayrun import __version__
from service.http.request_id import present_request_id
from service.metrics.catalogue import CATALOGUE, Kind

REGISTRY = CollectorRegistry()
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER_METHOD = "other"
"""Anybody may send any word as a method, and each would be a series."""
TRACE_PARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
"""W3C Trace Context, level 1."""


def kept(name: str) -> Any:
    """The figure `name` of the catalogue, kept in REGISTRY."""
    figure = CATALOGUE[name]
    made: dict[Kind, type[MetricWrapperBase]] = {Kind.COUNTER: Counter, Kind.GAUGE: Gauge, Kind.HISTOGRAM: Histogram}
    more: dict[str, Any] = {"buckets": figure.buckets} if figure.buckets else {}
    return made[figure.kind](figure.name, figure.help, figure.labels, registry=REGISTRY, **more)


disable_created_metrics()  # when each series began: twice the series, and Prometheus' `rate` asks for none of them
ProcessCollector(registry=REGISTRY)
REQUESTS: Counter = kept("dayrun_http_requests_total")
SECONDS: Histogram = kept("dayrun_http_request_seconds")
IN_PROGRESS: Gauge = kept("dayrun_http_requests_in_progress")
kept("dayrun_build_info").labels(__version__).set(1)


class Measured:
    """Counts and times requests by route, not by path: ids would make endless series."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        begun, answered, status = time.perf_counter(), None, 500

        async def noted(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status = message["status"]
                if is_stream(message["headers"]):  # it lasts as long as its client wishes
                    answered = time.perf_counter()
            await send(message)

        IN_PROGRESS.inc()
        try:
            await self._app(scope, receive, noted)
        finally:
            IN_PROGRESS.dec()
            method = scope["method"] if scope["method"] in METHODS else OTHER_METHOD
            route = getattr(scope.get("route"), "path", "none")
            REQUESTS.labels(method, route, str(status)).inc()
            SECONDS.labels(method, route).observe((answered or time.perf_counter()) - begun, exemplar(scope))


def is_stream(headers: Any) -> bool:
    return any(name == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers)


def exemplar(scope: Scope) -> dict[str, str] | None:
    """What leads from a point of the histogram to this request: its id, and its trace where the client has one. At most 114 letters,
    of the 128 that OpenMetrics allows.
    """
    labels = {"request_id": name} if (name := present_request_id()) else {}
    for header, value in scope["headers"]:
        if header == b"traceparent" and (found := TRACE_PARENT.fullmatch(value)):
            labels["trace_id"] = found[1].decode()
    return labels or None
