"""Looks at requests before anything parses them: what no endpoint could use is refused here, in bounded time and memory.

A body that says its length is refused unread when it is too long; any other is read up to the limit, once, and then judged as bytes.
JSON that Python's parser takes but no database or other program would (NaN, lone surrogates, NUL, numbers beyond a float, nesting
without end) is looked for in the bytes; only what is suspect is parsed here. It knows no operation.
"""

import json
from collections.abc import Iterable
from typing import Any, cast

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dayrun.recipe_errors import pointer
from service.http.problem import ErrorDetail, Problem

READ = ("POST", "PUT", "PATCH")
MOST_VALUES = 20_000
"""Commas, brackets and braces of a body. A recipe has some hundreds; every one more costs a Python object."""
DEEPEST = 64
SHAPE = bytes.maketrans(b"123456789E", b"000000000e")
"""All digits alike, so that a long number or a large exponent is found as a fixed text: a regular expression takes ten times as long."""
NO_NUL = "NUL (U+0000) is no text: a database could not store it"


class Bodies:
    """Refuses what is too large, no JSON, or no text. The app behind it gets the body in one piece."""

    def __init__(self, app: ASGIApp, largest: int) -> None:
        self._app, self._largest = app, largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        try:
            refuse_nul(scope["path"], scope["query_string"])
            length = declared(scope["headers"])
            if length is not None and length > self._largest:
                raise self._too_large()
            if scope["method"] in READ and length != 0:
                body = await self._read(receive)
                if body is None:
                    return  # the client has gone
                if body:
                    refuse_unfit(body, content_type(scope["headers"]))
                receive = once_more(body, receive)
        except Problem as problem:
            return await problem.response(scope["path"])(scope, receive, send)
        await self._app(scope, receive, send)

    async def _read(self, receive: Receive) -> bytes | None:
        """The whole body, None when the client went away. Raises Problem 413 at the first byte too many."""
        parts, taken = list[bytes](), 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            parts.append(message.get("body", b""))
            taken += len(parts[-1])
            if taken > self._largest:
                raise self._too_large()
            if not message.get("more_body"):
                return b"".join(parts) if len(parts) > 1 else parts[0]

    def _too_large(self) -> Problem:
        return Problem(413, f"the body has more than the {self._largest:,} bytes that a request may have", kind="body-too-large")


def once_more(body: bytes, receive: Receive) -> Receive:
    """`receive` for the app: the body that was read, then whatever else comes (that the client has gone)."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again


def declared(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """Content-Length, None where the body comes in chunks or not at all. Raises Problem 400."""
    found = {value for name, value in headers if name == b"content-length"}
    if len(found) > 1 or any(not value.isdigit() or len(value) > 18 for value in found):
        said = ", ".join(value.decode("latin-1")[:40] for value in sorted(found))
        raise Problem(400, f"Content-Length is {said}: it is one number of bytes", kind="invalid-content-length")
    return int(found.pop()) if found else None


def content_type(headers: Iterable[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name == b"content-type":
            return value.decode("latin-1")
    return ""


def refuse_nul(path: str, query: bytes) -> None:
    """Raises Problem 404 for a path that nothing can have, 422 for a query that no text can come of."""
    if "\0" in path:
        raise Problem(404, f"nothing is at {path[:100]!r}: {NO_NUL}")
    if b"%00" in query or b"\0" in query:
        raise Problem(422, f"query: {NO_NUL}", kind="invalid-request", errors=[ErrorDetail(pointer="query", because=NO_NUL)])


def refuse_unfit(body: bytes, media_type: str) -> None:
    """Raises Problem 415 for what is no JSON by its Content-Type, 422 for what JSON allows and nobody can use."""
    kind = media_type.partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        said = f"Content-Type is {kind[:60]!r}" if kind else "there is no Content-Type"
        raise Problem(415, f"{said}; send the body as application/json", headers={"Accept": "application/json"})
    values = sum(body.count(mark) for mark in (b",", b"[", b"{"))
    if values > MOST_VALUES:
        raise invalid("", f"the body has {values:,} commas, brackets and braces, of which {MOST_VALUES:,} are the most")
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise invalid("", f"not UTF-8: byte {body[error.start]:#04x} at byte {error.start}") from error
    if b"\0" in body:
        raise invalid("", NO_NUL)
    if is_suspect(body):
        refuse_values(body)


def is_suspect(body: bytes) -> bool:
    """Whether there are bytes that what `refuse_values` refuses cannot do without; within a text they may be harmless."""
    if b"\\u" in body or b"NaN" in body or b"Infinity" in body or body.count(b"[") + body.count(b"{") > DEEPEST:
        return True
    shape = body.translate(SHAPE, b"+")
    return b"e000" in shape or b"0" * 19 in shape


def refuse_values(body: bytes) -> None:
    """Raises Problem 422 for the first value that nobody can use. What is no JSON at all is left to the endpoint's parser."""
    try:
        document = json.loads(body, parse_int=number, parse_float=number)
    except json.JSONDecodeError:
        return
    except RecursionError as error:
        raise invalid("", f"nested more than {DEEPEST} deep") from error
    waiting: list[tuple[Any, tuple[str | int, ...]]] = [(document, ())]
    while waiting:
        value, at = waiting.pop()
        because = unfit(value)
        if because is None and len(at) > DEEPEST:
            because = f"nested more than {DEEPEST} deep"
        if because is not None:
            raise invalid(pointer(*at[:DEEPEST]), because)
        if isinstance(value, dict):
            for key, inner in cast("dict[str, Any]", value).items():
                if (because := unfit(key)) is not None:
                    raise invalid(pointer(*at), f"a name in it: {because}")
                waiting.append((inner, (*at, key)))
        elif isinstance(value, list):
            waiting += [(inner, (*at, place)) for place, inner in enumerate(cast("list[Any]", value))]


def number(text: str) -> float:
    """A float is exact enough to judge by, and even a million digits make one in no time."""
    return float(text)


def unfit(value: Any) -> str | None:
    """Why a single value cannot be used."""
    if isinstance(value, str):
        if "\0" in value:
            return NO_NUL
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            return "half of a surrogate pair is no text: UTF-8 cannot carry it"
    if isinstance(value, float) and not abs(value) < 2.0**1023:
        return "not a finite number"
    return None


def invalid(at: str, because: str) -> Problem:
    return Problem(422, f"{at or 'body'}: {because}", kind="invalid-request", errors=[ErrorDetail(pointer=at, because=because)])
