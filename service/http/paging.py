"""Pages by keyset: a cursor names the last item seen, so that new items never shift a page.

Cursors are sealed: a client can only hand back what it was given, to the list and the filters that it was given for.
"""

import base64
import binascii
import hashlib
import hmac
from typing import Annotated
from urllib.parse import urlencode

from fastapi import Query, Request, Response

from service.context import Context
from service.http.problem import ErrorDetail, Problem
from service.seals import seal_key

LARGEST = 2**31 - 1
"""Of an INTEGER in Postgres: ids of events, steps and attempts are asked for up to here."""
Limit = Annotated[int, Query(ge=1, le=1000, description="Items in a page.")]
Cursor = Annotated[str | None, Query(max_length=1000, description="`next` of the page before.")]
SEAL_BYTES = 12


class Pages:
    """The cursors of one list, as one request asks for it."""

    def __init__(self, key: bytes, request: Request) -> None:
        self._key, self._path = key, request.url.path
        given = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
        self._query = given
        self._bound = urlencode(sorted(pair for pair in given if pair[0] != "limit"))

    def seal(self, position: str) -> str:
        """The cursor that goes on after `position`."""
        return base64.urlsafe_b64encode(self._mark(position) + position.encode()).rstrip(b"=").decode()

    def open(self, cursor: str | None) -> str | None:
        """The position that a cursor names. Raises Problem 400 for one that was not given for this list with these filters."""
        if cursor is None:
            return None
        try:
            raw = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
            position = raw[SEAL_BYTES:].decode()
        except (UnicodeError, binascii.Error, ValueError):
            raw, position = b"", ""
        if not hmac.compare_digest(raw[:SEAL_BYTES], self._mark(position)):
            because = "none that was given for this list with these filters; take `next` of the page before, or leave it out to begin anew"
            detail = ErrorDetail(pointer="query cursor", value=cursor[:60], because=because)
            raise Problem(400, f"cursor {cursor[:60]!r} is {because}", kind="bad-cursor", errors=[detail])
        return position

    def link(self, response: Response, following: str | None) -> None:
        """The Link header (RFC 8288): the first page, and the one after this where there is one."""
        links = [self._link(None, "first")] + ([self._link(following, "next")] if following else [])
        response.headers["Link"] = ", ".join(links)

    def _link(self, cursor: str | None, rel: str) -> str:
        query = urlencode([*self._query, *([("cursor", cursor)] if cursor else [])])
        return f'<{self._path}{"?" if query else ""}{query}>; rel="{rel}"'

    def _mark(self, position: str) -> bytes:
        return hmac.digest(self._key, f"{self._path}?{self._bound}\n{position}".encode(), hashlib.sha256)[:SEAL_BYTES]


async def pages_of(request: Request, context: Context) -> Pages:
    return Pages(await seal_key(context), request)


def link_next(request: Request, response: Response, cursor: str | None) -> None:
    """The Link header of the page after, for lists whose cursor is a plain number."""
    if cursor is not None:
        query = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"] + [("cursor", cursor)]
        response.headers["Link"] = f'<{request.url.path}?{urlencode(query)}>; rel="next"'
