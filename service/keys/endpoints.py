"""API keys over HTTP: in and out, nothing else."""

from typing import Any

from fastapi import APIRouter, Request, Response

from service.context import Ctx
from service.http.idempotency import Answer, IdempotencyKey, once
from service.http.identity import ManageKeys
from service.http.paging import Cursor, Limit, link_next
from service.http.problem import problems
from service.keys import repository, service
from service.keys.schemas import Key, KeyPage, MadeKey, NewKey

router = APIRouter(tags=["keys"])


@router.post("/keys", status_code=201, response_model=MadeKey, responses=problems(404, 409, 422))
async def create_key(request: Request, context: Ctx, permit: ManageKeys, new: NewKey, idempotency_key: IdempotencyKey = None) -> Response:
    """Make a key. This answer alone holds it: a repetition of the request gets the same answer without it."""

    async def work(session: Any) -> Answer:
        row, secret = await service.create(session, new, permit)
        made = MadeKey(**Key.of(row).model_dump(), key=secret)
        kept = made.model_copy(update={"key": None}).model_dump_json().encode()
        headers = {"Location": f"/keys/{row.id}", "Cache-Control": "no-store"}
        return Answer(status=201, body=made.model_dump_json().encode(), headers=headers, kept=kept)

    return await once(request, context.database, idempotency_key, work)


@router.get("/keys", responses=problems(422))
async def list_keys(
    request: Request, response: Response, context: Ctx, permit: ManageKeys, limit: Limit = 50, cursor: Cursor = None
) -> KeyPage:
    """Keys of the projects whose admin you are, newest first; revoked and expired ones too."""
    async with context.database.read() as session:
        rows = await repository.page(session, cursor, limit + 1, permit.projects)
    following = rows[limit - 1].id if len(rows) > limit else None
    link_next(request, response, following)
    return KeyPage(items=[Key.of(row) for row in rows[:limit]], next=following)


@router.get("/keys/{key_id}", responses=problems(404))
async def show_key(context: Ctx, permit: ManageKeys, key_id: str) -> Key:
    """What is known of one key: its scope, when it was used last, whether it still works."""
    async with context.database.read() as session:
        return Key.of(await service.find(session, key_id, permit))


@router.delete("/keys/{key_id}", status_code=204, responses=problems(404))
async def revoke_key(context: Ctx, permit: ManageKeys, key_id: str) -> None:
    """Revoke a key, for good. Its row stays, so that what was done with it keeps a name."""
    async with context.database.write() as session:
        await service.revoke(session, key_id, permit)
    context.credentials.forget(f"key:{key_id}")
