"""What tests of several folders share: the tiny data, and a whole service of one's own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from dayrun.client import Client, Run
from dayrun.objects import Prefix
from dayrun.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_SECONDS = 120.0
"""A condition that is not met by then never will be: no test passes or fails by how fast the machine is."""


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE_SECONDS) -> Any:
    """What `condition` returns once it is true."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {patience:.0f} s in vain for: {what}")


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.tiny import write_data

    return write_data(tmp_path_factory.mktemp("data") / "tiny")


class Service:
    """`python -m service` on a folder and a free port, as a person starts it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.start()

    def start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DAYRUN_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service", "--home", str(self.home), "--port", "0"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        line = self.process.stdout.readline()
        assert "ready" in line, line + self.process.stderr.read()
        self.url = line.split()[-1]
        self.client = Client(self.url)

    @property
    def pids(self) -> dict[str, int]:
        """Of the parts: api, worker."""
        return json.loads((self.home / "serve.json").read_text())["parts"]

    def kill(self) -> None:
        """kill −9 of the service, which takes its parts along."""
        parts = [psutil.Process(pid) for pid in self.pids.values()]
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        psutil.wait_procs(parts, timeout=PATIENCE_SECONDS)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE_SECONDS)

    def folder(self, run: Run | str) -> RunFolder:
        return RunFolder(Prefix(self.home / "runs" / (run if isinstance(run, str) else run.id)))

    def started(self, run: Run, attempt: int = 1) -> dict[str, int]:
        """Pids of the launcher's own process and of torchrun."""
        file = self.home / "launches" / f"{run.id}-{attempt:04d}" / "started.json"
        until(file.exists, f"attempt {attempt} of {run.id} to start")
        return json.loads(file.read_text())

    def ranks(self, run: Run, attempt: int = 1) -> list[psutil.Process]:
        """The trainer's processes of an attempt."""
        agent = psutil.Process(self.started(run, attempt)["child"])
        return [p for p in agent.children() if "trainer" in p.cmdline()]

    def at_checkpoint(self, run: Run, step: int) -> None:
        """Return as soon as the run folder holds a complete checkpoint of `step` or later."""
        until(lambda: (self.folder(run).checkpoints() or [0])[-1] >= step, f"a checkpoint at step {step}")

    def end(self, run: Run) -> Run:
        """The run once it is over."""
        return until(lambda: (now := self.client.run(run.id)).over and now, f"{run.id} to be over")

    def losses(self, run: Run) -> dict[int, float]:
        return {step: value for step, value, _ in self.client.metrics(run.id, ["loss"])["loss"]}

    def moves(self, run: Run) -> list[str]:
        return [event.data["move"] for event in self.client.events(run.id) if event.type == "state_changed"]


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all tests that do not mistreat it beyond what it must survive."""
    running = Service(tmp_path_factory.mktemp("home"))
    yield running
    if running.process.poll() is None:
        assert running.stop() == 0


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One S3 server, for this process and all that it starts."""
    from tests.stack import S3Server

    server = S3Server(tmp_path_factory.mktemp("s3"))
    with pytest.MonkeyPatch.context() as patched:
        for name, value in server.environment.items():
            patched.setenv(name, value)
        server.start()
        yield server
        server.stop()
