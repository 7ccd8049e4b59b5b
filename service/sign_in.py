"""Signing in on the page with an OpenID provider: the authorization code flow with PKCE (RFC 7636), its second half done by the service.

What comes out is a token like any other; whose it is, is decided where all tokens are looked at (`http/oidc.py`).
"""

import time
from typing import Any, cast

import httpx
import jwt

from service.http.problem import Problem
from service.settings import Settings

PATIENCE_SECONDS = 5.0
FRESH_SECONDS = 3600.0
SCOPE = "openid email profile"


class SignIn:
    """The provider at `settings.oidc_issuer`, as far as a browser needs it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._about: dict[str, Any] = {}
        self._asked_at = -float("inf")

    @property
    def is_set_up(self) -> bool:
        return self._settings.oidc_issuer is not None and self._settings.oidc_client is not None

    async def provider(self) -> dict[str, str] | None:
        """Where the browser is sent to and as which client; None where it is not set up, or the provider does not answer."""
        if not self.is_set_up:
            return None
        try:
            about = await self._discovered()
        except Problem:
            return None
        client = str(self._settings.oidc_client)
        return {"issuer": str(self._settings.oidc_issuer), "authorize": about["authorization_endpoint"], "client": client, "scope": SCOPE}

    async def token(self, code: str, verifier: str, redirect_uri: str) -> str:
        """The token that this service takes. Raises Problem 401 for a code that the provider refuses, 503 where it does not answer."""
        about = await self._discovered()
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier, "redirect_uri": redirect_uri}
        form |= {"client_id": str(self._settings.oidc_client)}
        if self._settings.oidc_client_secret is not None:
            form["client_secret"] = self._settings.oidc_client_secret
        try:
            async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
                answer = await http.post(about["token_endpoint"], data=form, headers={"Accept": "application/json"})
            said = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise self._away() from error
        if answer.status_code >= 500:
            raise self._away()
        if answer.status_code != 200 or not isinstance(said, dict):
            reason = (
                str(cast("dict[str, Any]", said).get("error", answer.status_code))[:60] if isinstance(said, dict) else answer.status_code
            )
            raise Problem(
                401, f"the provider {self._settings.oidc_issuer} refused the sign-in ({reason}); sign in again", kind="refused-sign-in"
            )
        return self._fitting(cast("dict[str, Any]", said))

    def _fitting(self, tokens: dict[str, Any]) -> str:
        """The token whose `aud` names this service: an access token where the provider makes them so, else the identity token."""
        for name in ("access_token", "id_token"):
            try:
                claims = jwt.decode(str(tokens.get(name)), options={"verify_signature": False})
            except jwt.PyJWTError:  # an access token may be opaque
                continue
            audience = claims.get("aud")
            if self._settings.oidc_audience in (audience if isinstance(audience, list) else [audience]):
                return str(tokens[name])
        said = f"the provider's tokens do not name {self._settings.oidc_audience!r} (DAYRUN_OIDC_AUDIENCE) in `aud`; add an audience mapper"
        raise Problem(401, said, kind="refused-sign-in")

    async def _discovered(self) -> dict[str, Any]:
        """The provider's discovery document, at most an hour old. Raises Problem 503."""
        if time.monotonic() - self._asked_at < FRESH_SECONDS:
            return self._about
        issuer = str(self._settings.oidc_issuer)
        try:
            async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
                answer = await http.get(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            answer.raise_for_status()
            about = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise self._away() from error
        if about.get("issuer") != issuer or not all(isinstance(about.get(f"{one}_endpoint"), str) for one in ("authorization", "token")):
            raise self._away()
        self._about, self._asked_at = about, time.monotonic()
        return self._about

    def _away(self) -> Problem:
        said = f"the provider {self._settings.oidc_issuer} does not answer as one; a key of this service works all the same"
        return Problem(503, said, kind="issuer-unreachable", headers={"Retry-After": "10"})
