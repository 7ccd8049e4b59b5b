"""A request as a span and as a line of the log, where the settings ask for these. The service's own probes are neither.

The caller's W3C `traceparent` is gone on with; without one, or with one that is none, a trace begins here.
"""

import logging
import re
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dayrun import json_logs, tracing
from service.http.request_id import present_request_id

UNSEEN = ("/healthz", "/readyz", "/metrics")
"""Asked for every few seconds, for ever."""
MADE = re.compile(rb"/runs/(run_[0-9a-z]+)")
log = logging.getLogger("dayrun.requests")


class Observed:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNSEEN:
            return await self._app(scope, receive, send)
        begun, status, made = time.perf_counter(), 500, None

        async def noted(message: Message) -> None:
            nonlocal status, made
            if message["type"] == "http.response.start":
                status = message["status"]
                found = next((MADE.match(value) for name, value in message.get("headers", ()) if name.lower() == b"location"), None)
                made = found[1].decode() if found else None
            await send(message)

        method, request_id = scope["method"], present_request_id()
        parent = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"), None)
        about = {"http.request.method": method, "dayrun.request": request_id}
        with tracing.span(method, parent, about, kind="server") as span, json_logs.about(request_id=request_id):
            try:
                await self._app(scope, receive, noted)
            finally:
                path: Any = getattr(scope.get("route"), "path", None)
                run = scope.get("path_params", {}).get("run_id") or made
                span.name(f"{method} {path}" if path else method)
                span.set({"http.route": path, "http.response.status_code": status, "dayrun.run": run})
                if status >= 500:
                    span.failed(f"answered {status}")
                seconds = round(time.perf_counter() - begun, 6)
                more = json_logs.fields(method=method, route=path, status=status, seconds=seconds, run=run)
                log.info("%s %s: %d", method, scope["path"], status, extra=more)
