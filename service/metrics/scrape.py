"""An answer to a scrape: what this process counts, what the database and the broker say now, in the format that was asked for.

Where the database is away the rest is told all the same: that it is away is what somebody will want to see.
"""

import asyncio
import logging
from collections.abc import Iterator

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from service.context import Context
from service.metrics import rows
from service.metrics.certificates import expiries
from service.metrics.families import family, of_rows, single
from service.metrics.live import of_live
from service.metrics.queue import QUEUE, Depth
from service.metrics.requests import REGISTRY
from service.metrics.rows import Rows

log = logging.getLogger("dayrun")


class Answer(Collector):
    """Families that were made for one answer."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


async def scrape(context: Context, accept: str) -> tuple[bytes, str]:
    """(body, content type): OpenMetrics, which alone has exemplars, where `accept` names it, else Prometheus' text."""
    found, depth, objects = await asyncio.gather(looked(context), context.queue.depth(), context.objects.says())
    encode, content_type = choose_encoder(accept)
    answer = Answer([*REGISTRY.collect(), *made(context, found, depth, objects == "ok")])
    return await asyncio.to_thread(encode, answer), content_type  # with many runs it takes a while, and requests should not wait for it


async def looked(context: Context) -> Rows | None:
    """None while the database is away."""
    try:
        async with context.database.read() as session:
            return await rows.look(session)
    except SQLAlchemyError as error:
        log.warning("/metrics tells nothing of the database: %s", type(error).__name__)
        return None


def made(context: Context, found: Rows | None, depth: Depth | None, objects: bool) -> Iterator[Metric]:
    up = {("database",): found is not None, ("broker",): depth is not None, ("objects",): objects}
    yield family("dayrun_part_up", {part: float(there) for part, there in up.items()})
    used, most = context.database.connections
    yield family("dayrun_database_connections", {(state,): count for state, count in used.items()})
    yield single("dayrun_database_connections_max", most)
    yield single("dayrun_event_stream_clients", context.broadcast.listening)
    yield single("dayrun_hints_waiting", len(context.hints))
    when = expiries(context.settings.certificates)
    yield family("dayrun_certificate_expiry_timestamp_seconds", {(file,): seconds for file, seconds in when.items()})
    if depth is not None:
        yield family("dayrun_celery_queue_messages", {(QUEUE,): depth.messages})
        yield family("dayrun_celery_queue_oldest_seconds", {(QUEUE,): depth.oldest_seconds})
    if found is not None:
        yield from of_rows(found, context.settings.accelerators)
        yield from of_live(found.live, found.at)
