"""A thousand open event streams on one API process: memory of each, queries a second, and how long an event takes to all of them.

The API runs as it does in `dayrun serve`; the clients are another process. Ratios: a stream's memory against that of a bare open connection
of the same server (uvicorn, a response that sends one line and waits), and the queries of a second against one of each stream.
"""

import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
STREAMS = int(os.environ.get("STREAMS", "1000"))
EVENTS = 20

SERVE = """
import asyncio, socket, sys
import uvicorn
listener = socket.socket(fileno=int(sys.argv[1]))
if sys.argv[2] == "bare":
    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": b": here\\n\\n", "more_body": True})
        await receive(); await receive()
else:
    from service.app import create_app
    from service.settings import Settings
    app = create_app(Settings())
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
"""


def start(kind: str, home: str) -> tuple[psutil.Process, int]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    environment = {**os.environ, "DAYRUN_HOME": home, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SERVE, str(listener.fileno()), kind]
    process = subprocess.Popen(command, env=environment, pass_fds=[listener.fileno()], cwd=ROOT)
    return psutil.Process(process.pid), listener.getsockname()[1]


async def open_stream(port: int, path: str) -> asyncio.StreamReader:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    await reader.readuntil(b"\n\n")
    reader.keep = writer  # type: ignore[attr-defined]
    return reader


async def memory_of(kind: str, home: str, path: str) -> tuple[psutil.Process, int, list[asyncio.StreamReader], float]:
    process, port = start(kind, home)
    first = await open_stream(port, path)  # everything is loaded once a stream is open
    before = process.memory_info().rss
    streams = [first]
    for _ in range(0, STREAMS, 50):
        streams += await asyncio.gather(*(open_stream(port, path) for _ in range(50)))
    await asyncio.sleep(1)
    return process, port, streams, (process.memory_info().rss - before) / STREAMS


async def main() -> None:
    from dayrun.rules import load
    from service import events
    from service.access import LOCAL, Action, Permit
    from service.database import Database
    from service.revisions import bring_up_to_date
    from service.runs import service as runs
    from service.runs.schemas import NewRun
    from service.settings import Settings

    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home), database=os.environ.get("DAYRUN_DATABASE"))
        bring_up_to_date(settings, may_migrate=True)
        database, permit = Database(settings), Permit(LOCAL, Action.MOVE_RUNS)
        from dayrun import builtin

        recipe = builtin.get("demo")
        async with database.write() as session:
            run = await runs.create(session, NewRun(recipe=recipe), load(recipe), permit, runs.AcceptedWith(None, None))
        bare, _, held, bare_bytes = await memory_of("bare", home, "/")
        bare.kill()
        del held
        api, _port, streams, bytes_each = await memory_of("service", home, f"/runs/{run.id}/events")

        async def told(reader: asyncio.StreamReader) -> float:
            await reader.readuntil(b"event: stop_sent")
            await reader.readuntil(b"\n\n")
            return time.perf_counter()

        delays: list[float] = []
        for _ in range(EVENTS):
            waiting = [asyncio.ensure_future(told(reader)) for reader in streams]
            async with database.write() as session:
                row = await runs.find(session, run.id, permit, to_change=True)
                events.record(session, row, "stop_sent", signal="SIGTERM")
            recorded = time.perf_counter()
            delays += [at - recorded for at in await asyncio.gather(*waiting)]
        delays.sort()
        rest = api.cpu_times()
        await asyncio.sleep(5)
        after = api.cpu_times()
        idle = (after.user + after.system - rest.user - rest.system) / 5
        print(
            json.dumps(
                {
                    "streams": len(streams),
                    "kB_a_stream": round(bytes_each / 1000, 1),
                    "kB_a_bare_connection": round(bare_bytes / 1000, 1),
                    "ratio_of_memory": round(bytes_each / bare_bytes, 2),
                    "seconds_to_half_of_all": round(delays[len(delays) // 2], 3),
                    "seconds_to_the_last": round(delays[-1], 3),
                    "part_of_a_core_when_idle": round(idle, 3),
                    "api_MiB": round(api.memory_info().rss / 2**20),
                },
                indent=1,
            )
        )
        api.kill()
        await database.close()


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    asyncio.run(main())
