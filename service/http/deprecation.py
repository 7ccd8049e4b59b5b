"""Operations that will go away, and say so: `Deprecation` (RFC 9745), `Sunset` (RFC 8594) and a link to what replaces them.

`@router.get("/old", dependencies=[Depends(Deprecated(since=..., sunset=..., instead="/new"))])` is all: every answer of the operation
carries the headers, also its problems, and the OpenAPI document marks it.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from fastapi import Request

from service.http.request_id import add_header


@dataclass(frozen=True)
class Deprecated:
    """A dependency that marks an operation as going away. `instead`: the path of what replaces it."""

    since: datetime
    sunset: datetime
    instead: str | None = None

    def __post_init__(self) -> None:
        if not self.since < self.sunset:
            raise ValueError(f"deprecated since {self.since:%Y-%m-%d}, gone on {self.sunset:%Y-%m-%d}: the sunset must come later")

    def headers(self) -> dict[str, str]:
        """Deprecation is a structured field (an @ and seconds), Sunset an HTTP date: their RFCs say so."""
        found = {"Deprecation": f"@{self.since.timestamp():.0f}", "Sunset": format_datetime(self.sunset.astimezone(UTC), usegmt=True)}
        return found | ({"Link": f'<{self.instead}>; rel="successor-version"'} if self.instead else {})

    def said(self) -> str:
        instead = f"; {self.instead} replaces it" if self.instead else ""
        return f"Deprecated since {self.since:%Y-%m-%d}, gone on {self.sunset:%Y-%m-%d}{instead}."

    async def __call__(self, request: Request) -> None:
        for name, value in self.headers().items():
            add_header(request.scope, name, value)
