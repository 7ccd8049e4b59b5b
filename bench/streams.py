"""Claim: one API process holds 1,000 open event streams; prints the memory that each takes and how late an event reaches them.

The limit beside it is a plain asyncio server that holds as many open sockets and writes the same bytes to all of them, in the same run.
"""

import asyncio
import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from control_plane import BODY, dayrun  # noqa: E402

from service.stack import Stack  # noqa: E402

STREAMS, EVENTS = 1000, 5


async def held_open(port: int, path: str, headers: dict[str, str], cause, count: int = STREAMS) -> tuple[list[float], float]:
    """Delays from `cause()` (which makes an event) to each of `count` streams, and memory a stream as `cause.memory()` tells it."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n{lines}\r\n".encode()
    before = cause.memory()
    streams = []
    for first in range(0, count, 50):
        opened = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in range(min(50, count - first))))
        for reader, writer in opened:
            writer.write(request)
            await reader.readuntil(b"\r\n\r\n")
            if cause.greets:
                await reader.readuntil(b"data: ")  # the run's first event: the stream is live
            streams.append((reader, writer))
    memory = (cause.memory() - before) / count
    delays: list[float] = []
    for number in range(EVENTS):
        mark = f"mark-{number}".encode()
        begun = time.perf_counter()

        async def arrival(reader: asyncio.StreamReader, mark: bytes = mark, begun: float = begun) -> float:
            await reader.readuntil(mark)
            return time.perf_counter() - begun

        waiting = [asyncio.ensure_future(arrival(reader)) for reader, _ in streams]
        await cause(mark.decode())
        delays += await asyncio.gather(*waiting)
    for _, writer in streams:
        writer.close()
    return delays, memory


class Plain:
    """The limit: a server without HTTP, database or fan-out logic."""

    greets = False

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []

    async def start(self) -> int:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            self.writers.append(writer)

        self.server = await asyncio.start_server(accept, "127.0.0.1", 0, backlog=2048)
        return self.server.sockets[0].getsockname()[1]

    def memory(self) -> float:
        return psutil.Process().memory_full_info().uss

    async def __call__(self, mark: str) -> None:
        for writer in self.writers:
            writer.write(f'data: {{"labels": {{"mark": "{mark}"}}}}\n\n'.encode())


class Labelled:
    """An event of a run: its labels change."""

    greets = True

    def __init__(self, url: str, pid: int, run_id: str, headers: dict[str, str]) -> None:
        self.pid, self.run_id, self.http = pid, run_id, httpx.AsyncClient(base_url=url, headers=headers, timeout=60)

    def memory(self) -> float:
        return psutil.Process(self.pid).memory_full_info().uss

    async def __call__(self, mark: str) -> None:
        (await self.http.patch(f"/runs/{self.run_id}", json={"labels": {"mark": mark}})).raise_for_status()


def said(name: str, delays: list[float], memory: float) -> None:
    ranked = sorted(delays)
    print(
        f"{name:>8}: {memory / 1024:6.1f} KiB a stream; an event reaches a stream after {statistics.median(ranked) * 1000:.0f} ms "
        f"(99 %: {ranked[len(ranked) * 99 // 100] * 1000:.0f} ms, last: {ranked[-1] * 1000:.0f} ms)",
        flush=True,
    )


async def limit() -> None:
    plain = Plain()
    port = await plain.start()
    said("sockets", *await held_open(port, "/", {}, plain))
    plain.server.close()


def main() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    asyncio.run(limit())
    with tempfile.TemporaryDirectory() as name, Stack(Path(name) / "stack") as stack:
        server = dayrun(stack.postgres.create_database("dayrun"), Path(name) / "home")
        made = httpx.post(f"{server.url}/runs", content=BODY, headers={**server.headers, "Content-Type": "application/json"})
        run_id = json.loads(made.raise_for_status().content)["id"]
        port = int(server.url.rsplit(":", 1)[1])
        cause = Labelled(server.url, server.process.pid, run_id, server.headers)
        said("dayrun", *asyncio.run(held_open(port, f"/runs/{run_id}/events", server.headers, cause)))
        server.stop()


if __name__ == "__main__":
    main()
