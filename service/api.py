"""`python -m service.api`: the API process. Listens on a socket that `serve` has bound, so that the port is known to be ours."""

import os
import socket

import uvicorn

from service.app import create_app
from service.parent import die_with_parent
from service.settings import Settings


def main() -> None:
    die_with_parent()
    listener = socket.socket(fileno=int(os.environ["DAYRUN_LISTENER"]))
    # open event streams of browsers must not hold a Ctrl-C back for longer than this
    config = uvicorn.Config(create_app(Settings()), log_level="warning", timeout_graceful_shutdown=2, lifespan="on")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
