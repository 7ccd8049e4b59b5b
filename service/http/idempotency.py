"""`Idempotency-Key`: the same request twice has one effect and one answer.

A key is claimed in a transaction of its own, so that others see the request in flight; the answer is stored in the transaction that
does the work. A claim whose process died is taken over after a while, and its late owner can no longer commit.
"""

import hashlib
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import Header, Request, Response
from pydantic import BaseModel
from sqlalchemy import Integer, LargeBinary, TextClause, bindparam, delete, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from service.database import Beside, Database, Json, UtcDateTime, finish, new_id, now
from service.http.identity import actor_of
from service.http.problem import Problem
from service.runs.tables import IdempotencyRow

LONGEST_PATH = 150

IdempotencyKey = Annotated[
    str | None, Header(min_length=1, max_length=255, description="Any unique string: repeating the request repeats the answer.")
]


def claiming(condition: str) -> TextClause:
    return text(
        "INSERT INTO idempotency (operation, key, digest, claim, created_at, headers) "
        f"SELECT :operation, :key, :digest, :claim, :created_at, :headers WHERE {condition} "
        "ON CONFLICT (operation, key) DO NOTHING RETURNING id"
    ).bindparams(bindparam("created_at", type_=UtcDateTime()), bindparam("headers", type_=Json()))


CLAIM = {
    "sqlite": claiming("true"),
    # need not reach the disk: a commit that does takes all before it along, so that none can outlive its claim
    "postgresql": claiming("set_config('synchronous_commit', 'off', true) = 'off'"),
}
KEEP = Beside(
    "UPDATE idempotency SET status = :status, headers = :headers, body = :body "
    "WHERE operation = :operation AND key = :key AND claim = :claim RETURNING id",
    (bindparam("status", type_=Integer()), bindparam("headers", type_=Json()), bindparam("body", type_=LargeBinary())),
)
"""Every POST begins and ends with these two: as text they are compiled once."""


class Answer(BaseModel):
    """What an operation answers: kept and replayed byte for byte, unless a secret is in it."""

    status: int
    body: bytes
    headers: dict[str, str] = {}
    kept: bytes | None = None
    """What is stored and replayed instead of `body`, where that holds a secret that is shown once."""

    def response(self, replayed: bool = False) -> Response:
        extra = {"Idempotency-Replayed": "true"} if replayed else {}
        return Response(self.body, self.status, {**self.headers, **extra}, "application/json")


async def once(request: Request, database: Database, key: str | None, work: Callable[[AsyncSession], Awaitable[Answer]]) -> Response:
    """Do `work` in one write transaction; with a `key`, at most once for this operation.

    Raises Problem 409 while the first request is in flight, 422 when the key came with another body.
    """
    if key is None:
        async with database.write() as session:
            return (await work(session)).response()
    operation = operation_of(request.method, request.url.path, actor_of(request).subject)
    digest = hashlib.sha256(await request.body()).hexdigest()
    claim = new_id("claim")
    earlier = await claim_key(database, operation, key, digest, claim)
    if earlier is not None:
        return earlier.response(replayed=True)
    try:
        async with database.write() as session:
            answer = await work(session)
            kept = {"status": answer.status, "headers": answer.headers, "body": answer.kept or answer.body}
            if not await finish(session, KEEP, {**kept, "operation": operation, "key": key, "claim": claim}):
                raise Problem(409, "the request took so long that another one with its Idempotency-Key has taken over", kind="in-flight")
    except BaseException:
        async with database.write() as session:  # nothing happened: the key is free again
            await session.execute(delete(IdempotencyRow).where(IdempotencyRow.claim == claim))
        raise
    return answer.response()


def operation_of(method: str, path: str, subject: str) -> str:
    """What a key is unique within; of a path that is longer than any of ours, its digest.

    Whose key it is belongs to it: another sender of the same key must neither see nor disturb this one's answer.
    """
    sender = hashlib.sha256(subject.encode()).hexdigest()[:32]
    return f"{method} {path if len(path) <= LONGEST_PATH else hashlib.sha256(path.encode()).hexdigest()} {sender}"


async def claim_key(database: Database, operation: str, key: str, digest: str, claim: str) -> Answer | None:
    """Claim the key, or the answer that it has already. Raises Problem."""
    at = now()
    async with database.single() as session:
        row: dict[str, Any] = {"operation": operation, "key": key, "digest": digest, "claim": claim, "created_at": at, "headers": {}}
        if (await session.execute(CLAIM[session.get_bind().dialect.name], row)).first() is not None:
            return None
    async with database.write() as session:
        # locked: of two that find the same claim abandoned, the second must see what the first has made of it
        the_key = select(IdempotencyRow).where(IdempotencyRow.operation == operation, IdempotencyRow.key == key).with_for_update()
        held = (await session.scalars(the_key)).one_or_none()
        if held is None:  # its request was refused in this moment, and has freed it
            raise Problem(
                409, f"the request with Idempotency-Key {key!r} has just ended; ask again", kind="in-flight", headers={"Retry-After": "1"}
            )
        if held.digest != digest:
            raise Problem(422, f"Idempotency-Key {key!r} was used before with another body; take a new key", kind="key-reused")
        if held.status is not None and held.body is not None:
            return Answer(status=held.status, body=held.body, headers=held.headers)
        if held.created_at > at - timedelta(seconds=database.settings.idempotency_claim_seconds):
            detail = f"the first request with Idempotency-Key {key!r} is still in flight; ask again in a second"
            raise Problem(409, detail, kind="in-flight", headers={"Retry-After": "1"})
        held.claim, held.created_at = claim, at
        return None


async def forget_old(database: Database, hours: float, at: datetime) -> None:
    """Drop answers that at `at` are older than `hours`."""
    async with database.write() as session:
        await session.execute(delete(IdempotencyRow).where(IdempotencyRow.created_at < at - timedelta(hours=hours)))
