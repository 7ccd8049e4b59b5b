"""How many hints wait in the broker and how old the oldest is, asked of the broker itself: Celery tells neither."""

import asyncio
import json
import os
import time
from datetime import UTC, datetime
from typing import Any, NamedTuple

from service.hints import HINT_SECONDS
from service.settings import Settings

QUEUE = "celery"
PATIENCE_SECONDS = 1.0


class Depth(NamedTuple):
    messages: int
    oldest_seconds: float


class Queue:
    """The broker of the settings. Connections are kept between scrapes."""

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.queue_folder / "messages" if settings.broker is None else None
        self._address = settings.broker
        self._redis: Any = None

    async def depth(self) -> Depth | None:
        """None while the broker is away."""
        return await asyncio.to_thread(self._in_redis if self._folder is None else self._in_folder)

    def close(self) -> None:
        if self._redis is not None:
            self._redis.close()

    def _in_folder(self) -> Depth | None:
        """Messages are named by when they were sent (`service/queue.py`)."""
        assert self._folder is not None
        try:
            names = os.listdir(self._folder)
        except OSError:
            return None
        sent = [int(name.partition("_")[0]) for name in names if name[0].isdigit() and name.endswith(f".{QUEUE}.msg")]
        return Depth(len(sent), max(0.0, (time.time_ns() - min(sent)) / 1e9) if sent else 0.0)

    def _in_redis(self) -> Depth | None:
        import redis  # with the first scrape: an API that starts is waited for

        try:
            if self._redis is None:
                client: Any = redis.Redis
                waits = {"socket_timeout": PATIENCE_SECONDS, "socket_connect_timeout": PATIENCE_SECONDS}
                self._redis = client.from_url(str(self._address), **waits)
            asked: Any = self._redis.pipeline(transaction=False)
            messages, oldest = asked.llen(QUEUE).lindex(QUEUE, -1).execute()  # new ones are put in front
        except (redis.RedisError, OSError):
            return None
        return Depth(messages, age_of(oldest, datetime.now(UTC)) if oldest else 0.0)


def age_of(message: bytes, at: datetime) -> float:
    """Seconds since a message of Celery's was sent. All that it says of that is when it expires; 0 for one that does not."""
    try:
        expires = datetime.fromisoformat(json.loads(message)["headers"]["expires"])
    except (ValueError, KeyError, TypeError):
        return 0.0
    return max(0.0, HINT_SECONDS - (expires - at).total_seconds())
