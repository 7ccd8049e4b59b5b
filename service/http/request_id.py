"""The id of a request: the caller's `X-Request-Id`, or a new one. It is in the answer, and in every event that the request caused."""

import re
from contextvars import ContextVar

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.database import new_id

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Of the request that is being answered; None in a worker."""
ACCEPTABLE = re.compile(rb"[A-Za-z0-9._:+/=-]{1,64}")


class RequestId:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        given: bytes = dict(scope["headers"]).get(b"x-request-id", b"")
        chosen = given.decode() if ACCEPTABLE.fullmatch(given) else new_id("req")

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-Id"] = chosen
            await send(message)

        token = request_id.set(chosen)
        try:
            await self._app(scope, receive, named)
        finally:
            request_id.reset(token)
