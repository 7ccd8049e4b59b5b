"""Webhooks over HTTP: in and out, nothing else."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from service.context import Context, Ctx
from service.http.idempotency import Answer, IdempotencyKey, once
from service.http.identity import ManageWebhooks
from service.http.paging import Cursor, Limit, link_next
from service.http.problem import problems
from service.webhooks import repository, service
from service.webhooks.addresses import check_url, networks
from service.webhooks.courier import secret_of
from service.webhooks.schemas import Delivery, DeliveryPage, DeliveryState, MadeWebhook, NewWebhook, Webhook, WebhookPage

router = APIRouter(tags=["webhooks"])


@router.post("/webhooks", status_code=201, response_model=MadeWebhook, responses=problems(403, 404, 409, 413, 422))
async def create_webhook(
    request: Request, context: Ctx, permit: ManageWebhooks, new: NewWebhook, idempotency_key: IdempotencyKey = None
) -> Response:
    """Send a project's events to an address. The answer holds the secret that verifies them; no other answer does."""
    permit.on(new.project)
    service.check_types(new)
    await check_url(new.url, networks(context.settings.webhook_networks))

    async def work(session: AsyncSession) -> Answer:
        webhook = Webhook.of(await service.create(session, new, permit))
        return Answer(status=201, body=webhook.model_dump_json().encode(), headers={"Location": f"/webhooks/{webhook.id}"})

    stored = await once(request, context.database, idempotency_key, work)
    # the secret is put in here, not above: what is kept for a repeated key must not hold it
    webhook = Webhook.model_validate_json(bytes(stored.body))
    made = MadeWebhook(**webhook.model_dump(), secret=secret_of(context.settings, webhook.id))
    headers = {name: value for name, value in stored.headers.items() if name not in ("content-length", "content-type")}
    return Response(made.model_dump_json(), 201, headers, "application/json")


@router.get("/webhooks", responses=problems(422))
async def list_webhooks(
    request: Request, response: Response, context: Ctx, permit: ManageWebhooks, limit: Limit = 50, cursor: Cursor = None
) -> WebhookPage:
    """Webhooks of your projects, newest first."""
    async with context.database.read() as session:
        rows = await repository.page(session, cursor, permit.projects, limit + 1)
    following = rows[limit - 1].id if len(rows) > limit else None
    link_next(request, response, following)
    return WebhookPage(items=[Webhook.of(row) for row in rows[:limit]], next=following)


@router.get("/webhooks/{webhook_id}", responses=problems(403, 404))
async def show_webhook(context: Ctx, permit: ManageWebhooks, webhook_id: str) -> Webhook:
    """One webhook, without its secret."""
    async with context.database.read() as session:
        return Webhook.of(await service.find(session, webhook_id, permit))


@router.delete("/webhooks/{webhook_id}", status_code=204, responses=problems(403, 404))
async def delete_webhook(context: Ctx, permit: ManageWebhooks, webhook_id: str) -> None:
    """Send nothing more; what was still due is dropped."""
    async with context.database.write() as session:
        await service.remove(session, await service.find(session, webhook_id, permit, to_change=True), permit)


@router.post("/webhooks/{webhook_id}:enable", response_model=Webhook, responses=problems(403, 404, 409))
async def enable_webhook(
    request: Request, context: Ctx, permit: ManageWebhooks, webhook_id: str, idempotency_key: IdempotencyKey = None
) -> Response:
    """Send events to a disabled webhook again."""

    async def work(session: AsyncSession) -> Answer:
        webhook = await service.find(session, webhook_id, permit, to_change=True)
        await service.enable(session, webhook, permit)
        return Answer(status=200, body=Webhook.of(webhook).model_dump_json().encode())

    return await once(request, context.database, idempotency_key, work)


@router.post("/webhooks/{webhook_id}:test", status_code=202, response_model=Delivery, responses=problems(403, 404, 409))
async def send_test(
    request: Request, context: Ctx, permit: ManageWebhooks, webhook_id: str, idempotency_key: IdempotencyKey = None
) -> Response:
    """Send a test message, of the type `webhook_test`. The delivery says what became of it."""

    async def work(session: AsyncSession) -> Delivery:
        return Delivery.of(await service.test(session, await service.find(session, webhook_id, permit, to_change=True), permit))

    return await accepted(request, context, idempotency_key, work)


@router.get("/webhooks/{webhook_id}/deliveries", responses=problems(403, 404, 422))
async def list_deliveries(
    request: Request,
    response: Response,
    context: Ctx,
    permit: ManageWebhooks,
    webhook_id: str,
    state: Annotated[DeliveryState | None, Query(description="Only those in this state.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> DeliveryPage:
    """What was sent and what is due, newest first."""
    async with context.database.read() as session:
        await service.find(session, webhook_id, permit)
        rows = await repository.deliveries(session, webhook_id, cursor, state, limit + 1)
    following = rows[limit - 1].id if len(rows) > limit else None
    link_next(request, response, following)
    return DeliveryPage(items=[Delivery.of(row) for row in rows[:limit]], next=following)


@router.get("/webhooks/{webhook_id}/deliveries/{delivery_id}", responses=problems(403, 404))
async def show_delivery(context: Ctx, permit: ManageWebhooks, webhook_id: str, delivery_id: str) -> Delivery:
    """One message, and what became of it."""
    async with context.database.read() as session:
        return Delivery.of(await service.find_delivery(session, await service.find(session, webhook_id, permit), delivery_id))


@router.post(
    "/webhooks/{webhook_id}/deliveries/{delivery_id}:replay", status_code=202, response_model=Delivery, responses=problems(403, 404, 409)
)
async def replay_delivery(
    request: Request, context: Ctx, permit: ManageWebhooks, webhook_id: str, delivery_id: str, idempotency_key: IdempotencyKey = None
) -> Response:
    """Send a message again, with the same `webhook-id`."""

    async def work(session: AsyncSession) -> Delivery:
        webhook = await service.find(session, webhook_id, permit, to_change=True)
        delivery = await service.find_delivery(session, webhook, delivery_id, to_change=True)
        await service.replay(session, webhook, delivery, permit)
        return Delivery.of(delivery)

    return await accepted(request, context, idempotency_key, work)


async def accepted(request: Request, context: Context, key: str | None, work: Callable[[AsyncSession], Awaitable[Delivery]]) -> Response:
    async def answer(session: AsyncSession) -> Answer:
        delivery = await work(session)
        location = f"/webhooks/{delivery.webhook}/deliveries/{delivery.id}"
        return Answer(status=202, body=delivery.model_dump_json().encode(), headers={"Location": location})

    return await once(request, context.database, key, answer)
