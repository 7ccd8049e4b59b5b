"""`ETag` and `If-Match` (RFC 9110): a change is made to the version that its sender has seen, or not at all.

An entity tag is the row's `version` in quotes. It knows no resource.
"""

import re
from typing import Annotated

from fastapi import Depends, Header

from service.http.problem import Problem

IfMatch = Annotated[str | None, Header(max_length=1000, description="ETag that it must still have.")]
TAG = re.compile(r'(?:W/)?"[^"]*"')


def etag(version: int) -> str:
    return f'"{version}"'


def check_match(match: str | None, version: int, what: str = "it") -> None:
    """Raises Problem 412 where `If-Match` names other versions only. Weak tags never match: they promise too little."""
    if match is None or match.strip() == "*" or etag(version) in TAG.findall(match):
        return
    raise Problem(412, f"If-Match is {match[:60]}, {what} is at {etag(version)}: look at it again", kind="changed-since")


def must_match(if_match: IfMatch = None) -> str:
    """For changes that nobody should make unseen. Raises Problem 428."""
    if if_match is None:
        raise Problem(
            428, "this change takes an If-Match header with the ETag of the version that you have seen (or *)", kind="no-if-match"
        )
    return if_match


MustMatch = Annotated[str, Depends(must_match)]
