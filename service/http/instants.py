"""Instants in a query: as RFC 3339 writes them. Left alone, pydantic takes a number for one too, which the document does not promise."""

import re
from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator

BEGINS = re.compile(r"\d{4}-\d\d-\d\d[Tt ]")


def written_out(value: Any) -> Any:
    if isinstance(value, str) and not BEGINS.match(value):
        raise ValueError("an instant is written as 2026-01-31T12:00:00Z")
    return value


Instant = Annotated[AwareDatetime, BeforeValidator(written_out)]
