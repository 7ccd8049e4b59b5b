"""Pages by keyset: a cursor names the last item seen, so that new items never shift a page."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import Query, Request, Response

LARGEST = 2**31 - 1
"""Of an INTEGER in Postgres: ids of events, steps and attempts are asked for up to here."""
Limit = Annotated[int, Query(ge=1, le=1000, description="Items in a page.")]
Cursor = Annotated[str | None, Query(max_length=200, description="`next` of the page before.")]


def link_next(request: Request, response: Response, cursor: str | None) -> None:
    """The Link header (RFC 8288) of the page after."""
    if cursor is not None:
        query = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"] + [("cursor", cursor)]
        response.headers["Link"] = f'<{request.url.path}?{urlencode(query)}>; rel="next"'
