"""`python -m service.api`: an API process. Under `serve` it listens on the socket that `serve` has bound, so that the port is known to be
ours; alone it binds its own. Any number may run.
"""

import os
import socket
from typing import Any

import uvicorn

from dayrun import json_logs, tracing
from service.app import create_app
from service.parent import die_with_parent
from service.settings import Settings

DRAIN_SECONDS = 5
"""From SIGTERM on: requests that are being answered are finished, open event streams of browsers are cut then."""


def main() -> None:
    die_with_parent()
    settings = Settings()
    json_logs.begin()
    tracing.begin("api")
    if (number := os.environ.get("DAYRUN_LISTENER")) is not None:
        listener = socket.socket(fileno=int(number))
    else:
        listener = socket.create_server((settings.host, settings.port), backlog=512)
    # asyncio does this only for sockets whose protocol it can see, and not for one that was handed over: without it, Nagle's algorithm and
    # the other side's delayed acknowledgement hold each answer back for 40 ms
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    logs: dict[str, Any] = {"log_config": None} if json_logs.is_wanted() else {}  # what uvicorn logs goes the way of all lines
    config = uvicorn.Config(create_app(settings), log_level="warning", timeout_graceful_shutdown=DRAIN_SECONDS, lifespan="on", **logs)
    uvicorn.Server(config).run(sockets=[listener])
    tracing.end()


if __name__ == "__main__":
    main()
