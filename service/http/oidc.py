"""Tokens of an OpenID provider: whose they are, by the provider's published signing keys. Knows nothing of projects and roles.

The signing keys are fetched once and kept; a token that names a key we do not have makes us look again, at most every few seconds,
so that tokens made up by a stranger cannot make us ask the provider without end. While the provider is down the keys we have go on
working, up to an age. What cannot be decided for want of the provider is a 503, never a 401: the token may be good.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import httpx
import jwt

from service.http.problem import Problem
from service.settings import Settings

ALGORITHMS = ("RS256", "ES256", "EdDSA")
"""Public keys only: with `none` or HS256 anybody could sign."""
FRESH_SECONDS = 3600.0
"""Keys older than this are fetched anew when a token comes, so that a key the provider has withdrawn stops working."""
LOOK_AGAIN_SECONDS = 10.0
"""Between two requests to the provider, whatever tokens come."""
PATIENCE_SECONDS = 5.0
LARGEST_DOCUMENT = 2**20
LONGEST_SUBJECT = 300
"""Characters that events and members have room for."""


class Refused(Exception):
    """The token is no good; the message says why."""


class Expired(Refused):
    """It was good once."""


@dataclass(frozen=True)
class Person:
    """Who a token speaks for."""

    subject: str
    name: str
    groups: tuple[str, ...]
    until: float
    """Unix time after which the token must not be taken any more."""


class Issuer:
    """The provider at `settings.oidc_issuer`."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.time) -> None:
        assert settings.oidc_issuer is not None
        assert settings.oidc_audience is not None
        self._url, self._audience, self._settings, self._clock = settings.oidc_issuer, settings.oidc_audience, settings, clock
        self._http = httpx.AsyncClient(timeout=PATIENCE_SECONDS)
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched_at, self._asked_at, self._answered = -float("inf"), -float("inf"), True
        self._fetching = asyncio.Lock()

    async def close(self) -> None:
        await self._http.aclose()

    async def person(self, token: str) -> Person:
        """Raises Refused for a token that is no good, Problem 503 where the provider would have to be asked and does not answer."""
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError as error:
            raise Refused("it is no JSON web token") from error
        if header.get("alg") not in ALGORITHMS:
            raise Refused(f"it is signed with {str(header.get('alg'))[:20]!r}; only {', '.join(ALGORITHMS)} are taken")
        key = await self._key(header.get("kid"))
        if key is None:
            raise Refused("it is signed with a key that its issuer does not publish")
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=self._audience,
                issuer=self._url,
                leeway=self._settings.oidc_skew_seconds,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise Expired("it has expired") from error
        except jwt.PyJWTError as error:
            raise Refused(in_words(error, self._audience, self._url)) from error
        return self._person(claims)

    def _person(self, claims: Mapping[str, Any]) -> Person:
        subject = f"oidc:{self._url}|{claims['sub']}"
        if len(subject) > LONGEST_SUBJECT or not subject.isprintable():
            raise Refused(f"its subject has more than {LONGEST_SUBJECT} characters, or some that cannot be printed")
        name = next((claims[field] for field in ("email", "preferred_username", "name") if isinstance(claims.get(field), str)), subject)
        groups = claims.get(self._settings.oidc_groups_claim)
        listed = cast("list[object]", groups) if isinstance(groups, list) else [groups]
        until = float(claims["exp"]) + self._settings.oidc_skew_seconds
        return Person(subject, name[:100], tuple(group for group in listed if isinstance(group, str)), until)

    async def _key(self, kid: str | None) -> jwt.PyJWK | None:
        """The published key of that name; without a name the only one there is. Fetches where it must and may."""
        if (found := self._find(kid)) is None or self._clock() - self._fetched_at > FRESH_SECONDS:
            async with self._fetching:
                found = self._find(kid)  # another request may have fetched while this one waited
                if found is None or self._clock() - self._fetched_at > FRESH_SECONDS:
                    await self._fetch()
                    found = self._find(kid)
        too_old = self._clock() - self._fetched_at > self._settings.oidc_max_age_hours * 3600
        if too_old or (found is None and not self._answered):
            said = f"the issuer {self._url} does not answer, so that the token cannot be checked; keys of this service work all the same"
            raise Problem(503, said, kind="issuer-unreachable", headers={"Retry-After": f"{LOOK_AGAIN_SECONDS:.0f}"})
        return found

    def _find(self, kid: str | None) -> jwt.PyJWK | None:
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)

    async def _fetch(self) -> None:
        """Fetch the keys, unless the provider was asked a moment ago. What it says is taken whole or not at all."""
        if self._clock() - self._asked_at < LOOK_AGAIN_SECONDS:
            return
        self._asked_at, self._answered = self._clock(), False
        try:
            about = await self._get(f"{self._url.rstrip('/')}/.well-known/openid-configuration")
            if about.get("issuer") != self._url or not isinstance(place := about.get("jwks_uri"), str):
                return
            self._keys = usable(await self._get(place))
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, TypeError):
            return
        self._fetched_at, self._answered = self._clock(), True

    async def _get(self, url: str) -> dict[str, Any]:
        response = await self._http.get(url)
        response.raise_for_status()
        if len(response.content) > LARGEST_DOCUMENT or not isinstance(document := response.json(), dict):
            raise ValueError(f"{url} is no such document")
        return cast("dict[str, Any]", document)


def usable(published: Mapping[str, Any]) -> dict[str | None, jwt.PyJWK]:
    """Signing keys of a JWKS that we take, by name; what we do not know is skipped, as RFC 7517 asks."""
    keys: dict[str | None, jwt.PyJWK] = {}
    for one in published.get("keys", []):
        if not isinstance(one, dict) or cast("dict[str, Any]", one).get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK(cast("dict[str, Any]", one))
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        if key.algorithm_name in ALGORITHMS:
            keys[key.key_id] = key
    return keys


def in_words(error: jwt.PyJWTError, audience: str, issuer: str) -> str:
    """Why a token was refused. Never the token, never what is in it."""
    match error:
        case jwt.ImmatureSignatureError():
            return "it is not valid yet"
        case jwt.InvalidAudienceError():
            return f"it is meant for another audience than {audience!r}"
        case jwt.InvalidIssuerError():
            return f"it was not issued by {issuer}"
        case jwt.MissingRequiredClaimError(claim=claim):
            return f"it has no claim {claim!r}"
        case jwt.InvalidSignatureError() | jwt.InvalidAlgorithmError() | jwt.InvalidKeyError():
            return "its signature does not match"
        case _:
            return "its claims are not of the kinds that they should be"
