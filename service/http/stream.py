"""Server-sent events: the response that never waits for ever for a client that does not read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from fastapi.responses import StreamingResponse
from starlette.types import Message, Send

EVENT_STREAM = "text/event-stream"
KEEPALIVE_SECONDS = 15.0
SLOW_SECONDS = 30.0
"""A client that takes nothing for this long is disconnected; it comes back with the Last-Event-ID that it has."""


class EventStream(StreamingResponse):
    def __init__(self, stream: AsyncIterator[bytes], slow_seconds: float = SLOW_SECONDS) -> None:
        super().__init__(stream, media_type=EVENT_STREAM, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._slow_seconds = slow_seconds

    async def stream_response(self, send: Send) -> None:
        async def in_time(message: Message) -> None:
            async with asyncio.timeout(self._slow_seconds):
                await send(message)

        with suppress(TimeoutError):  # leaving the response unfinished makes the server close the connection
            await super().stream_response(in_time)
