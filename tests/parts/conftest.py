"""Processes of the service, as many of each as a test wants, on the real parts."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.parts import free_port
from service.revisions import bring_up_to_date
from service.settings import Settings
from service.stack import Stack
from tests.conftest import PATIENCE_SECONDS, ROOT, cluster, until, without_settings

HTTP = httpx.Client(timeout=60, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
"""One for all, since each would read the machine's certificates anew; every request has a connection of its own."""


class Process:
    """One API or worker process that trains in no time (`quick.py`)."""

    def __init__(self, kind: str, home: Path, settings: dict[str, str]) -> None:
        self.kind, self.home, self.settings = kind, home, {**settings, "DAYRUN_HOME": str(home), "DAYRUN_PORT": str(free_port())}
        self.url = f"http://127.0.0.1:{self.settings['DAYRUN_PORT']}"
        self.log = home / f"{kind}-{self.settings['DAYRUN_PORT']}.log"
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.parts.quick", self.kind],
                cwd=ROOT,
                env={**without_settings(), **self.settings},
                stdout=log,
                stderr=log,
            )

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_SECONDS)

    def until_it_answers(self) -> None:
        until(lambda: self.get("/healthz") is not None, f"{self.kind} to answer; {self.log}")

    def get(self, path: str) -> httpx.Response | None:
        """None while nobody listens."""
        try:
            return HTTP.get(self.url + path)
        except httpx.TransportError:
            return None


class Plane:
    """A database, a queue and a home of one's own, and processes on them."""

    def __init__(self, home: Path, settings: dict[str, str]) -> None:
        self.home, self.settings, self.processes = home, {"DAYRUN_RUNS_AT_ONCE": "1000", **settings}, list[Process]()
        bring_up_to_date(Settings(home=home, database=settings.get("DAYRUN_DATABASE")), may_migrate=True)

    def start(self, kind: str, **settings: str) -> Process:
        self.processes.append(Process(kind, self.home, self.settings | settings))
        return self.processes[-1]

    def api(self, **settings: str) -> Process:
        process = self.start("api", **settings)
        process.until_it_answers()
        return process

    def close(self) -> None:
        for process in self.processes:
            if process.process.poll() is None:
                process.process.send_signal(signal.SIGCONT)
                process.stop()

    def launched(self) -> Counter[str]:
        """How often each run's attempt was begun: 'run_… 1' → times."""
        try:
            return Counter((self.home / "launched").read_text().splitlines())
        except FileNotFoundError:
            return Counter()

    def until_all_succeeded(self, api: Process, runs: set[str]) -> None:
        def over() -> bool:
            found = HTTP.get(f"{api.url}/runs", params={"limit": 1000, "state": "succeeded"}).json()["items"]
            return runs <= {run["id"] for run in found}

        until(over, f"{len(runs)} runs to succeed", pause=0.2)


@pytest.fixture
def plane(stack: Stack, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Plane]:
    name = f"plane_{os.getpid()}_{request.node.name}"[:60].lower().replace("[", "_").replace("]", "").replace("-", "_")
    made = Plane(tmp_path, cluster(stack, name))
    yield made
    made.close()
