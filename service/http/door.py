"""The door: nothing but the open paths is reached without saying who asks, and nobody asks too often.

It stands before routing and before the body is read, so that a 401 or 429 comes first, costs little, and tells nothing of what is behind;
a route that somebody adds is closed until it is listed here. What the sender may do is decided behind it (`identity.py`).
"""

import asyncio
import logging
import math
import time

from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access import LOCAL, Actor
from service.http.credentials import Credentials, Unrecognised
from service.http.limits import Buckets, Left
from service.http.problem import Problem
from service.settings import Settings

OPEN = frozenset({"/", "/healthz", "/readyz", "/openapi.json"})
"""What an orchestrator, a browser and a generator of clients ask for before there is a key. None of it is anybody's."""
OPEN_BELOW = "/web/"
EVENT_STREAM = b"text/event-stream"
log = logging.getLogger("dayrun")


class Door:
    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._closed, self._trust_seconds = app, settings.needs_credentials, settings.identity_seconds
        self._open = OPEN if settings.metrics_need_key else OPEN | {"/metrics"}
        limited = self._closed and settings.requests_per_second > 0
        self._asked = Buckets(settings.requests_per_second, settings.requests_burst) if limited else None
        self._guessed = Buckets(settings.wrong_keys_per_minute / 60, settings.wrong_keys_per_minute)
        if self._asked is not None:
            self._policy = f'"requests";q={self._asked.burst};w={self._asked.window_seconds}'.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        if not self._closed:
            scope.setdefault("state", {})["actor"] = LOCAL
            return await self._app(scope, receive, send)
        path: str = scope["path"]
        if path in self._open or path.startswith(OPEN_BELOW):
            return await self._app(scope, receive, send)
        try:
            actor = await self._sender(scope)
        except Problem as problem:
            return await problem.response(path)(scope, receive, send)
        scope.setdefault("state", {})["actor"] = actor
        if self._asked is None:
            return await self._inside(scope, receive, send)
        left = self._asked.take(actor.subject, time.monotonic())
        send = self._telling(left, send)
        if not left.allowed:
            said = f"more than {self._asked.burst} requests in {self._asked.window_seconds} s from {actor.name}"
            return await too_many(said, left).response(path)(scope, receive, send)
        await self._inside(scope, receive, send)

    async def _inside(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request; of a stream, only as long as its sender is who they were when it began."""
        if EVENT_STREAM not in header(scope, b"accept"):
            return await self._app(scope, receive, send)
        answer = asyncio.ensure_future(self._app(scope, receive, send))
        try:
            while not (await asyncio.wait({answer}, timeout=max(0.1, self._trust_seconds)))[0]:
                if not await self._is_still(scope):
                    answer.cancel()
                    await asyncio.wait({answer})
                    return await send({"type": "http.response.body", "body": b""})  # who asks again is told why
            answer.result()
        finally:
            answer.cancel()

    async def _is_still(self, scope: Scope) -> bool:
        """Whether the sender would be let in now with the same roles; also where that cannot be found out."""
        try:
            return await self._sender(scope) == scope["state"]["actor"]
        except Problem as problem:
            return problem.status != 401

    async def _sender(self, scope: Scope) -> Actor:
        """Who sends the request. Raises Problem: 401, 429 for who guesses, 503 where it cannot be found out."""
        credentials: Credentials = scope["app"].state.context.credentials
        sent = header(scope, b"authorization") or None
        if sent is not None and (actor := credentials.known(sent)) is not None:
            return actor
        address = scope["client"][0] if scope.get("client") else "unknown"
        guesses = self._guessed.take(address, time.monotonic(), 0)
        if sent is not None and not guesses.allowed:
            raise too_many(f"too many wrong keys and tokens came from {address}", guesses)
        try:
            return await credentials.recognise(sent)
        except Unrecognised as error:
            if error.is_guess:
                self._guessed.take(address, time.monotonic())
            raise
        except (SQLAlchemyError, OSError) as error:
            log.warning("who asks cannot be looked up: %s", type(error).__name__)
            said = "the database does not answer, so that keys cannot be looked up; ask again in a moment"
            raise Problem(503, said, kind="database-unreachable", headers={"Retry-After": "2"}) from error

    def _telling(self, left: Left, send: Send) -> Send:
        """`send` with the RateLimit headers (draft-ietf-httpapi-ratelimit-headers-10)."""
        now_left = f'"requests";r={left.tokens};t={math.ceil(left.seconds)}'.encode()

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"ratelimit-policy", self._policy), (b"ratelimit", now_left)]
            await send(message)

        return told


def header(scope: Scope, wanted: bytes) -> bytes:
    """The first header of that name; empty where there is none."""
    return next((value for name, value in scope["headers"] if name == wanted), b"")


def too_many(said: str, left: Left) -> Problem:
    seconds = max(1, math.ceil(left.seconds))
    return Problem(429, f"{said}; ask again in {seconds} s", kind="too-many-requests", headers={"Retry-After": str(seconds)})
