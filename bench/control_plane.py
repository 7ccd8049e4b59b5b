"""Claims about the control plane on Postgres, with sign-in, roles, quotas and audit on, each against a bare control in the same run:

create, get and list 50 at least half as fast as `harness/bare.py`; a list among 100,000 runs at least 0.9 as fast as among 100; a page of
50 under 25 kB; ready within 1.5 × the control's cold start; at most 150 MiB in the API process after the load.

Each server is one process on the same Postgres, asked in turns. `--quick` takes fewer runs, clients and seconds; `--embedded` asks both on
SQLite, without sign-in, as `dayrun serve` on a laptop runs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import psycopg

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench" / "harness")]

from load import Result, measure, request  # noqa: E402

from dayrun import builtin  # noqa: E402
from service.parts import free_port  # noqa: E402
from service.stack import Stack  # noqa: E402

DOCUMENT = builtin.get("demo")
BODY = json.dumps({"recipe": DOCUMENT}).encode()


class Server:
    """A process that serves runs, and how long it took to answer first."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], port: int, headers: dict[str, str]) -> None:
        self.name, self.headers, self.url = name, headers, f"http://127.0.0.1:{port}"
        begun = time.perf_counter()
        self.process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment, "PYTHONPATH": str(ROOT)})
        while True:
            try:
                httpx.get(f"{self.url}/runs?limit=1", headers=headers).raise_for_status()
                break
            except httpx.TransportError:
                if self.process.poll() is not None:
                    raise SystemExit(f"{name} ended with code {self.process.returncode}") from None
                time.sleep(0.01)
        self.cold_start_seconds = time.perf_counter() - begun

    @property
    def mebibytes(self) -> float:
        """Memory that would be free without the process: its unique pages."""
        return psutil.Process(self.process.pid).memory_full_info().uss / 2**20

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()

    def create(self, clients: int, seconds: float) -> Result:
        def make(_: int) -> bytes:
            return request("POST", f"{self.url}/runs", BODY, {**self.headers, "Idempotency-Key": uuid.uuid4().hex})

        return measure(self.url, clients, seconds, make, 201)

    def get(self, clients: int, seconds: float) -> Result:
        run_id = httpx.get(f"{self.url}/runs?limit=1", headers=self.headers).json()["items"][0]["id"]
        message = request("GET", f"{self.url}/runs/{run_id}", headers=self.headers)
        return measure(self.url, clients, seconds, lambda _: message, 200)

    def list_50(self, clients: int, seconds: float) -> Result:
        message = request("GET", f"{self.url}/runs?limit=50", headers=self.headers)
        return measure(self.url, clients, seconds, lambda _: message, 200)


def bare(database: str) -> Server:
    port, url = free_port(), database.replace("postgresql://", "postgresql+psycopg://")
    return Server("bare", [sys.executable, "bench/harness/bare.py", url, str(port)], {}, port, {})


def python(*arguments: str, environment: dict[str, str]) -> str:
    """What `python ARGUMENTS` prints."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


def dayrun(database: str | None, home: Path, parts: dict[str, str] | None = None) -> Server:
    """The API process alone, with everything on; its worker would only add noise to what is measured. No database: SQLite."""
    port, headers = free_port(), {}
    environment = {"DAYRUN_HOME": str(home), "DAYRUN_PORT": str(port)}
    if database is not None:
        environment |= {**(parts or {}), "DAYRUN_DATABASE": database, "DAYRUN_AUTH": "required", "DAYRUN_REQUESTS_PER_SECOND": "0"}
    python("-m", "service.migrate", environment=environment)
    if database is not None:
        made = python(
            "-c", "from dayrun.cli import main; main()", "keys", "create", "bench", "--bootstrap", "--force", environment=environment
        )
        headers["Authorization"] = f"Bearer {next(word for word in made.split() if word.startswith('dayrun_'))}"
    return Server("dayrun", [sys.executable, "-m", "service.api"], environment, port, headers)


def fill(database: str, table: str, runs: int) -> None:
    """Copy one stored run until there are `runs` of them, in SQL: posting 100,000 would take most of an hour."""
    with psycopg.connect(database, autocommit=True) as connection:
        columns = [row[0] for row in connection.execute(f"SELECT column_name FROM information_schema.columns WHERE table_name = '{table}'")]
        have = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        assert have is not None
        # below the ids of what is posted later, and in a state that nobody reconciles
        values = {"id": "'run_0' || lpad(n::text, 25, '0')", "state": "'cancelled'"}
        names = ", ".join(columns)
        chosen = ", ".join(values.get(name, name) for name in columns)
        if runs > have[0]:
            one = f"(SELECT * FROM {table} ORDER BY id DESC LIMIT 1)"
            connection.execute(
                f"INSERT INTO {table} ({names}) SELECT {chosen} FROM {one} AS one, generate_series({have[0]}, {runs - 1}) AS n"
            )
        # now, and not by the server itself while requests are timed
        connection.execute(f"VACUUM ANALYZE {table}")
        connection.execute("CHECKPOINT")


def compare(servers: list[Server], what: str, clients: int, seconds: float, turns: int) -> tuple[dict[str, float], Result]:
    """Requests a second of each server, the median of `turns`, and the last result of ours."""
    found: dict[str, list[Result]] = {server.name: [] for server in servers}
    for _ in range(turns):
        for server in servers:
            found[server.name].append(getattr(server, what)(clients, seconds))
    return {name: statistics.median(one.requests_a_second for one in results) for name, results in found.items()}, found["dayrun"][-1]


def compare_sizes(few: Server, many: Server, said: str, seconds: float) -> None:
    """A list of 50 of each in turns: minutes apart, this machine is not the same machine."""
    rates: dict[Server, list[float]] = {few: [], many: []}
    for _ in range(7):
        for server, found in rates.items():
            found.append(server.list_50(8, seconds).requests_a_second)
    print(f"{said}: {statistics.median(rates[many]) / statistics.median(rates[few]):.2f} (claim: at least 0.9)", flush=True)


def report(servers: list[Server], sizes: tuple[int, ...], crowds: tuple[int, ...], seconds: float, fill_to) -> None:
    """The table, and under it what a list among many costs, the size of a page, the memory."""
    control, own = servers
    ratio = own.cold_start_seconds / control.cold_start_seconds
    print(f"cold start: bare {control.cold_start_seconds:.2f} s, dayrun {own.cold_start_seconds:.2f} s ({ratio:.2f} ×; claim: at most 1.5)")
    print(f"{'runs':>8} {'clients':>7} {'what':>8} {'bare/s':>8} {'dayrun/s':>8} {'ratio':>6}   median, 99 % ms")
    for server in servers:
        server.create(1, 0.2)
    for size in sizes:
        fill_to(size)
        for clients in crowds:
            for what in ("get", "list_50", "create"):
                rate, last = compare(servers, what, clients, seconds, turns=3)
                times = f"{last.median_seconds * 1000:.1f}, {last.worst_seconds * 1000:.1f}"
                figures = f"{rate['bare']:8.0f} {rate['dayrun']:8.0f} {rate['dayrun'] / rate['bare']:6.2f}"
                print(f"{size:>8} {clients:>7} {what:>8} {figures}   {times}", flush=True)
    page = httpx.get(f"{own.url}/runs?limit=50", headers=own.headers)
    print(f"a page of 50 runs: {len(page.content) / 1000:.1f} kB (claim: under 25)")
    print(f"memory after all that: bare {control.mebibytes:.0f} MiB, dayrun's API {own.mebibytes:.0f} MiB (claim: at most 150)")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="100 and 1,000 runs, 8 clients, a second each")
    options.add_argument("--embedded", action="store_true", help="both on SQLite; as many runs as the bench itself makes")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as held:
        if chosen.embedded:
            databases: tuple[str, str | None] = (f"sqlite+aiosqlite:///{name}/bare.db", None)
            sizes: tuple[int, ...] = (0,)
            parts: dict[str, str] = {}
        else:
            stack = held.enter_context(Stack(Path(name)))
            databases = (stack.postgres.create_database("bare"), stack.postgres.create_database("dayrun"))
            parts = stack.environment
            sizes = (100, 1000) if chosen.quick else (100, 10_000, 100_000)

        def fill_to(size: int) -> None:
            if not chosen.embedded:
                fill(databases[0], "bare_runs", size)
                fill(str(databases[1]), "runs", size)

        def both() -> list[Server]:
            return [bare(databases[0]), dayrun(databases[1], Path(name) / "home", parts)]

        for server in both():  # compiles bytecode, fills the file cache, migrates
            server.stop()
        servers = both()
        crowds, seconds = ((8,), 1.0) if chosen.quick else ((1, 8, 32), 2.0)
        report(servers, sizes, crowds, seconds, fill_to)
        if not chosen.embedded:
            small = stack.postgres.create_database("small")
            few = dayrun(small, Path(name) / "few", parts)
            few.create(1, 0.2)
            fill(small, "runs", sizes[0])
            compare_sizes(few, servers[1], f"list among {sizes[-1]:,} against {sizes[0]}", seconds)
            few.stop()
        for server in servers:
            server.stop()


if __name__ == "__main__":
    main()
