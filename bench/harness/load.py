"""A load generator that costs little beside what it asks: prepared bytes over kept-open connections, answers read by their length.

`httpx` takes as long for a request as a small server does for its answer, and on two cores would be what is measured.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Result:
    requests_a_second: float
    median_seconds: float
    worst_seconds: float  # 99th percentile


def request(method: str, url: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    """The bytes of one HTTP/1.1 request."""
    parts = urlsplit(url)
    lines = [f"{method} {parts.path}{'?' + parts.query if parts.query else ''} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to `message`."""
    writer.write(message)
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    return status, await reader.readexactly(length)


def measure(url: str, clients: int, seconds: float, make: Callable[[int], bytes], expected: int) -> Result:
    """Ask for `seconds` with `clients` connections; `make(i)` is the i-th request. Raises RuntimeError at an unexpected status."""

    async def work() -> Result:
        parts = urlsplit(url)
        taken: list[float] = []
        number = 0
        end = time.perf_counter() + seconds

        async def client() -> None:
            nonlocal number
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            while time.perf_counter() < end:
                number += 1
                message = make(number)
                begun = time.perf_counter()
                status, body = await ask(reader, writer, message)
                taken.append(time.perf_counter() - begun)
                if status != expected:
                    raise RuntimeError(f"{url} answered {status} instead of {expected}: {body[:300]!r}")
            writer.close()

        begun = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        elapsed = time.perf_counter() - begun
        taken.sort()
        return Result(len(taken) / elapsed, taken[len(taken) // 2], taken[min(len(taken) - 1, len(taken) * 99 // 100)])

    return asyncio.run(work())
