"""The decisions about keys, each inside the caller's transaction."""

from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from service import events
from service.access import Permit, Role
from service.database import new_id, now
from service.http.problem import Problem
from service.keys import repository
from service.keys.schemas import NewKey
from service.keys.secret import digest_of, new_secret
from service.keys.tables import KeyRow
from service.projects import service as projects


async def create(session: AsyncSession, new: NewKey, permit: Permit) -> tuple[KeyRow, str]:
    """Store a key; returns it with the key itself, which nobody can learn later. Raises Problem 403, and 404 for the project."""
    if new.project is not None:
        await projects.find(session, new.project, permit)
    else:
        permit.on_service()
    return await store(session, new, permit.actor.subject)


async def store(session: AsyncSession, new: NewKey, by: str) -> tuple[KeyRow, str]:
    """Make the key that `new` asks for. Whether it may be made is decided by who calls."""
    at, key_id = now(), new_id("key")
    secret = new_secret(key_id)
    row = KeyRow(
        id=key_id,
        name=new.name,
        digest=digest_of(secret),
        project_id=new.project,
        role=Role[new.role.upper()],
        operator=new.role == "operator",
        created_at=at,
        created_by=by,
        expires_at=None if new.days is None else at + timedelta(days=new.days),
    )
    session.add(row)
    await events.record_project(session, new.project, "key_created", by=by, key=key_id, name=new.name, role=new.role, days=new.days)
    return row, secret


async def find(session: AsyncSession, key_id: str, permit: Permit, *, to_change: bool = False) -> KeyRow:
    """The key, if `permit` covers it. Raises Problem 403 and 404."""
    row = await repository.get(session, key_id, to_change=to_change)
    seen = row is not None and (permit.actor.operator if row.project_id is None else permit.sees(row.project_id))
    if row is None or not seen:
        raise Problem(404, f"there is no key {key_id[:60]!r} that you can see; GET /keys lists those that you can", kind="no-such-key")
    if row.project_id is not None:
        permit.on(row.project_id)
    return row


async def revoke(session: AsyncSession, key_id: str, permit: Permit) -> None:
    """From now on the key opens nothing; other processes notice within `identity_seconds`. Twice is as good as once."""
    row = await find(session, key_id, permit, to_change=True)
    if row.revoked_at is None:
        row.revoked_at = now()
        await events.record_project(session, row.project_id, "key_revoked", by=permit.actor.subject, key=row.id, name=row.name)
