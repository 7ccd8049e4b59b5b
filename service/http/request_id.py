"""`X-Request-Id`: one name for a request in the client's log, the service's log, and the problem that it got.

A client's own is taken when it is harmless to write into a log; otherwise the service makes one. Also the place where anything may add
a header to an answer that it does not make itself.
"""

import re
from contextvars import ContextVar
from typing import Any
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = b"x-request-id"
VALID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,64}")
ADDED = "dayrun.headers"
_present: ContextVar[str] = ContextVar("request_id", default="")


def present_request_id() -> str:
    """Of the request that is being answered; empty outside of one."""
    return _present.get()


def add_header(scope: Any, name: str, value: str) -> None:
    """Let the answer to the request of `scope` carry one more header, whoever makes it."""
    scope[ADDED].append((name.lower().encode("latin-1"), value.encode("latin-1")))


def accepted(headers: list[tuple[bytes, bytes]]) -> bytes:
    """The client's name for its request, or a new one where it has none that is valid."""
    for name, value in headers:
        if name == HEADER:
            return value if VALID.fullmatch(value) else uuid4().hex.encode()
    return uuid4().hex.encode()


class Named:
    """Gives each request its id, and its answer the headers that were added on the way."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request_id = accepted(scope["headers"])
        _present.set(request_id.decode("ascii"))  # never reset: the log of a failure is written further out
        added = scope[ADDED] = [(HEADER, request_id)]

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        await self._app(scope, receive, named)
