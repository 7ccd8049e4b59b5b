"""From what a request sends to who sent it: API keys and OpenID tokens to an `Actor`, and what is known of them for a few seconds.

In the warm case it is one digest and one look into a dict. The dict holds digests, never keys or tokens, and what it knows is dropped
after `identity_seconds`: a key that was revoked in another process, or a member who was removed there, has an effect here by then.
"""

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from service.access import Actor, Role
from service.database import Database, now
from service.http.problem import Problem
from service.keys import repository as keys
from service.keys import secret
from service.projects import repository as projects
from service.settings import Settings

if TYPE_CHECKING:
    from service.http.oidc import Issuer, Person

MOST_KNOWN = 10_000
NOTE_USE_EVERY = timedelta(minutes=1)
log = logging.getLogger("dayrun")


@dataclass(frozen=True)
class Known:
    actor: Actor
    until: float
    """Monotonic time."""


class Unrecognised(Problem):
    """401. `is_guess`: credentials came and were wrong, as a guesser's would be."""

    def __init__(self, kind: str, detail: str, *, is_guess: bool = True) -> None:
        challenge = 'Bearer realm="dayrun"' + (', error="invalid_token"' if is_guess else "")
        super().__init__(401, detail, kind=kind, headers={"WWW-Authenticate": challenge})
        self.is_guess = is_guess


class Credentials:
    """Of one API process."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings, self._database = settings, database
        self._known: OrderedDict[bytes, Known] = OrderedDict()
        self._later: set[asyncio.Task[None]] = set()
        self._issuer: Issuer | None = None
        if settings.oidc_issuer is not None:
            from service.http import oidc  # jwt and its cryptography are 20 MB that a service without a provider does not need

            self._issuer = oidc.Issuer(settings)

    def known(self, sent: bytes) -> Actor | None:
        """Who sent this Authorization header, if that was found out a moment ago."""
        found = self._known.get(hashlib.sha256(sent).digest())
        return found.actor if found is not None and found.until > time.monotonic() else None

    async def recognise(self, sent: bytes | None) -> Actor:
        """Who sent this Authorization header. Raises Unrecognised, and Problem 503 where that cannot be found out now."""
        if sent is None:
            said = "this service takes requests with a key: send it as `Authorization: Bearer dayrun_…`; `dayrun` reads it from DAYRUN_KEY"
            raise Unrecognised("no-credentials", said, is_guess=False)
        scheme, _, text = sent.decode("latin-1").partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not text.isascii():
            raise malformed("the Authorization header is not `Bearer` and a key")
        until = time.monotonic() + self._settings.identity_seconds
        if text.startswith(secret.PREFIX):
            actor, left = await self._of_key(text)
        else:
            actor, left = await self._of_token(text)
        if left > 0:
            self._known[hashlib.sha256(sent).digest()] = Known(actor, min(until, time.monotonic() + left))
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return actor

    async def _of_key(self, text: str) -> tuple[Actor, float]:
        """The actor of an API key, and the seconds until it expires."""
        if secret.FORM.fullmatch(text) is None:
            raise malformed(f"the key is cut short or has something added: it has {len(text)} characters, not {secret.LENGTH}")
        async with self._database.read() as session:
            row = await keys.by_digest(session, secret.digest_of(text))
        if row is None:
            raise Unrecognised("unknown-credentials", "the key is none of this service's; ask an admin of your project for one")
        if row.revoked_at is not None:
            raise Unrecognised(
                "revoked-credentials", f"the key {row.id} was revoked ({row.revoked_at:%Y-%m-%d %H:%M} UTC); ask for another"
            )
        at = now()
        if row.expires_at is not None and row.expires_at <= at:
            raise Unrecognised("expired-credentials", f"the key {row.id} has expired ({row.expires_at:%Y-%m-%d %H:%M} UTC)")
        if row.last_used_at is None or row.last_used_at <= at - NOTE_USE_EVERY:
            self._do_later(self._note_use(row.id))
        roles = {} if row.project_id is None else {row.project_id: Role(row.role)}
        left = float("inf") if row.expires_at is None else (row.expires_at - at).total_seconds()
        return Actor(f"key:{row.id}", f"the key {row.name!r}", roles, operator=row.operator), left

    async def _of_token(self, text: str) -> tuple[Actor, float]:
        """The actor of an OpenID token, and the seconds until it expires."""
        if text.count(".") != 2:
            raise malformed("what was sent is neither a key (`dayrun_…`) nor a JSON web token")
        if self._issuer is None:
            raise malformed("this service takes keys (`dayrun_…`) only, no tokens: no OpenID provider is set")
        from service.http import oidc

        try:
            person = await self._issuer.person(text)
        except oidc.Refused as error:
            kind = "expired-credentials" if isinstance(error, oidc.Expired) else "unknown-credentials"
            raise Unrecognised(kind, f"the token is refused: {error}") from error
        async with self._database.read() as session:
            roles = await projects.roles_of(session, person.subject)
        return person_as_actor(person, roles, self._settings.oidc_groups), person.until - time.time()

    async def _note_use(self, key_id: str) -> None:
        try:
            async with self._database.write() as session:
                await keys.note_use(session, key_id, now(), NOTE_USE_EVERY)
        except (SQLAlchemyError, OSError) as error:  # when a key was last used is not worth a request
            log.warning("the use of %s could not be noted: %s", key_id, type(error).__name__)

    def _do_later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._later.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._later.discard)

    def forget(self, subject: str) -> None:
        """Look at `subject` anew at its next request: its key was revoked, or its roles have changed."""
        for digest in [digest for digest, known in self._known.items() if known.actor.subject == subject]:
            del self._known[digest]

    async def close(self) -> None:
        await asyncio.gather(*self._later)
        if self._issuer is not None:
            await self._issuer.close()


def malformed(said: str) -> Unrecognised:
    return Unrecognised("malformed-credentials", said)


def person_as_actor(person: "Person", roles: dict[str, Role], by_group: dict[str, str]) -> Actor:
    """Somebody with the roles of their memberships and of their groups; where both give one, the higher counts."""
    roles, operator = dict(roles), False
    for group in person.groups:
        project, _, name = by_group.get(group, "").rpartition(":")
        if name == "operator":
            operator = True
        elif project:
            roles[project] = max(Role[name.upper()], roles.get(project, Role.VIEWER))
    return Actor(person.subject, person.name, roles, operator=operator)
