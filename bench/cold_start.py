"""How long `dayrun serve` takes to be ready, on an empty folder and on one that exists, and what memory its processes hold then.

Beside it, the time that a bare one-route FastAPI process takes to answer, as the limit of what Python allows on this machine.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).resolve().parents[1]
BARE = """
import fastapi, uvicorn, sys
app = fastapi.FastAPI()
app.get('/')(lambda: {})
uvicorn.run(app, port=int(sys.argv[1]), log_level='error')
"""


def bare() -> tuple[float, float]:
    """(seconds to the first answer, MiB) of a bare FastAPI process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", BARE, str(port)])
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/")
            break
        except httpx.TransportError:
            time.sleep(0.01)
    seconds, memory = time.perf_counter() - begun, mebibytes(process.pid)
    process.terminate()
    process.wait()
    return seconds, memory


def mebibytes(pid: int) -> float:
    """Memory that would be free without the process: its unique pages."""
    return psutil.Process(pid).memory_full_info().uss / 2**20


def main() -> None:
    for _ in range(2):  # the first fills the file cache
        seconds, memory = bare()
    print(f"bare FastAPI: first answer after {seconds:.2f} s, {memory:.0f} MiB")
    with tempfile.TemporaryDirectory() as home:
        for what in ("an empty folder", "the same folder again"):
            begun = time.perf_counter()
            command = [sys.executable, "-m", "service", "--home", home, "--port", "0"]
            process = subprocess.Popen(command, cwd=ROOT, env={**os.environ}, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            assert "ready" in process.stdout.readline()
            ready = time.perf_counter() - begun
            parts = {"serve": process.pid, **json.loads((Path(home) / "serve.json").read_text())["parts"]}
            held = {name: mebibytes(pid) for name, pid in parts.items()}
            print(
                f"dayrun serve on {what}: ready after {ready:.2f} s ({ready / seconds:.1f} × bare), "
                + ", ".join(f"{k} {v:.0f} MiB" for k, v in held.items())
            )
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
