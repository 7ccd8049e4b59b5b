"""Entity tags (RFC 9110, 8.8 and 13.1): `If-Match` for who changes, `If-None-Match` for who has seen it before. Knows no resource.

Our tags are strong: of a resource its version, of bytes their digest. A tag that a proxy has weakened still spares a transfer, but it
allows no change.
"""

import hashlib
import re
from typing import Annotated

from fastapi import Depends, Header

from service.http.problem import ErrorDetail, Problem

TAGS = re.compile(r'\s*(W/)?("[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|$)')

IfMatch = Annotated[str | None, Header(max_length=1000, description="ETags: go on only if the resource still has one of them.")]
IfNoneMatch = Annotated[str | None, Header(max_length=1000, description="ETags that the client has: 304 while one of them holds.")]


def version_tag(version: int) -> str:
    return f'"{version}"'


def content_tag(*parts: bytes) -> str:
    """Of bytes, or of what they are made from."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return f'"{digest.hexdigest()[:32]}"'


def tags_of(header: str) -> list[tuple[bool, str]]:
    """(weak, tag) of every entity tag in a header; what is none is skipped and so matches nothing."""
    return [(bool(match[1]), match[2]) for match in TAGS.finditer(header)]


def check_match(header: str | None, tag: str | None, *, needed: bool = False) -> None:
    """Raises Problem 412 unless `If-Match` allows to change what now has the tag `tag` (None: there is nothing yet).

    With `needed`, a change without the header is refused (428): whoever replaces a whole must say which one.
    """
    if header is None:
        if needed and tag is not None:
            because = f"replacing it takes If-Match with the ETag that you have seen; it is {tag} now"
            raise Problem(
                428, because, kind="if-match-needed", errors=[ErrorDetail(pointer="header if-match", because=because, nearest=[tag])]
            )
        return
    if tag is not None and (header.strip() == "*" or (False, tag) in tags_of(header)):
        return
    there = f"it is at {tag}: look at it again" if tag else "there is nothing yet"
    said = ErrorDetail(pointer="header if-match", value=header[:60], because=there, nearest=[tag] if tag else [])
    raise Problem(412, f"If-Match is {header[:60]}, {there}", kind="changed-since", errors=[said])


async def must_match(if_match: IfMatch = None) -> str:
    """For changes that nobody should make unseen, whatever is there. Raises Problem 428."""
    if if_match is None:
        detail = "this change takes an If-Match header with the ETag of the version that you have seen (or *)"
        raise Problem(428, detail, kind="if-match-needed")
    return if_match


MustMatch = Annotated[str, Depends(must_match)]


def check_none_match(header: str | None, tag: str | None) -> None:
    """Raises Problem 412 where `If-None-Match` (most often `*`: make it only if it is new) forbids a change."""
    if header is not None and tag is not None and is_known(header, tag):
        raise Problem(412, f"If-None-Match is {header[:60]}, and it is there already, at {tag}", kind="exists-already")


def is_known(header: str | None, tag: str) -> bool:
    """Whether the client has what has the tag `tag`, so that 304 says all: weak tags count."""
    return header is not None and (header.strip() == "*" or any(tag == one for _, one in tags_of(header)))
