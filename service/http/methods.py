"""HEAD and OPTIONS for every operation, and what `Allow` says: nobody has to write them per endpoint."""

import re

from fastapi import Request
from fastapi.routing import iter_route_contexts
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Heads:
    """Answers HEAD as GET without the body. What would be a stream is answered as its page: a stream's headers would come for ever."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            return await self._app(scope, receive, send)

        async def without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        headers = [(name, value) for name, value in scope["headers"] if name != b"accept"]
        await self._app({**scope, "method": "GET", "headers": headers}, receive, without_body)


def allowed(request: Request) -> list[str]:
    """Methods that some operation has at this path. `/runs/x:pause` is a path of its own, though `/runs/{run_id}` would match it too."""
    found: dict[str, set[str]] = {}
    for context in iter_route_contexts(request.app.routes):
        if context.path and context.methods and compile_path(context.path)[0].match(request.url.path):
            found.setdefault(context.path, set()).update(context.methods)
    methods = found[max(found, key=literal_letters)] if found else set[str]()
    return sorted({*methods, "OPTIONS", *(["HEAD"] if "GET" in methods else [])})


def literal_letters(path: str) -> int:
    return len(re.sub(r"\{[^}]*\}", "", path))
