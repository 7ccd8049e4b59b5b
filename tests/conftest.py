"""What tests of several folders share: the tiny data, and a whole service of one's own."""

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis
import psutil
import pytest
from xdist.scheduler import LoadFileScheduling

from dayrun.client import Client, Run
from dayrun.objects import Prefix
from dayrun.run_folder import RunFolder
from service.parts import PartFailed
from service.stack import BUCKET, Stack

# no test may fail by how slow the machine is, nor by luck that nobody can have again
hypothesis.settings.register_profile("dayrun", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("dayrun")

ROOT = Path(__file__).resolve().parents[1]
QUEUES = itertools.count(1)
"""Valkey's databases: one a service."""
PATIENCE_SECONDS = 120.0
"""A condition that is not met by then never will be: no test passes or fails by how fast the machine is."""


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE_SECONDS, pause: float = 0.02) -> Any:
    """What `condition` returns once it is true; asked every `pause` seconds."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(pause)
    raise AssertionError(f"waited {patience:.0f} s in vain for: {what}")


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.tiny import write_data

    return write_data(tmp_path_factory.mktemp("data") / "tiny")


def without_settings() -> dict[str, str]:
    """The environment, less what would tell a service how to be."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DAYRUN_")}


def started_stack(folder: Path, tries: int = 3) -> Stack:
    """One that could start: between the choice of a free port and its use, another worker of pytest-xdist may take it."""
    parts = Stack(folder / str(tries))
    try:
        parts.start()
    except PartFailed:
        if tries == 1:
            raise
        return started_stack(folder, tries - 1)
    return parts


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Postgres, Valkey and S3, and the credentials of the last in the environment. Not below pytest's folder: Postgres cannot enter it."""
    with tempfile.TemporaryDirectory(prefix="dayrun-stack-") as folder, pytest.MonkeyPatch.context() as patched:
        Path(folder).chmod(0o711)  # its account must pass
        parts = started_stack(Path(folder))
        try:
            for name, value in parts.s3.environment.items():
                patched.setenv(name, value)
            yield parts
        finally:
            parts.stop()


@pytest.fixture(scope="session")
def bucket(stack: Stack) -> str:
    """The address of the stack's bucket."""
    return f"s3://{BUCKET}"


def cluster(stack: Stack, name: str, runs_in_s3: bool = False) -> dict[str, str]:
    """Settings of a service on Postgres and Valkey, on a database and a queue of its own."""
    broker = f"{stack.valkey.url.removesuffix('/0')}/{next(QUEUES)}"
    settings = {"DAYRUN_DATABASE": stack.postgres.create_database(name), "DAYRUN_BROKER": broker}
    return settings | ({"DAYRUN_RUNS": f"s3://{BUCKET}/{name}"} if runs_in_s3 else {})


class Service:
    """`python -m service` on a folder and a free port, as a person starts it, with `settings` in its environment."""

    def __init__(self, home: Path, settings: dict[str, str] | None = None, options: tuple[str, ...] = ()) -> None:
        self.home, self.settings, self.options = home, settings or {}, options
        self.start()
        SERVICES.append(self)

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service", "--home", str(self.home), "--port", "0", *self.options],
            cwd=ROOT,
            env={**without_settings(), **self.settings},
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

    def end_all(self) -> None:
        """End what was begun here and would train on: runs outlive tests that fail, and services that stop."""
        if self.process.poll() is None:
            for run in [self.client.cancel(run.id) for run in self.client.runs(["queued", "launching", "running"])]:
                self.end(run)
            return
        for process in psutil.process_iter(["cmdline"]):
            if any(f"{self.home}/" in word for word in process.info["cmdline"] or ()):
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def folder(self, run: Run | str) -> RunFolder:
        runs = self.settings.get("DAYRUN_RUNS", str(self.home / "runs"))
        return RunFolder(Prefix(f"{runs}/{run if isinstance(run, str) else run.id}"))

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


SERVICES: list[Service] = []
TOGETHER = {
    "runs": ("service/test_runs.py", "service/test_cli.py", "service/test_http.py", "service/test_plans.py"),
    "resources": ("service/resources/", "service/test_report.py"),
    "kills": ("parts/test_exactly_once.py",),
    "browser": ("browser/",),
}
"""Modules that one worker of pytest-xdist takes, since they share a service or a run that takes longest to make. The longest come first."""


def group(node: str) -> str:
    """Of modules that stay together; of any other test, its module."""
    module = node.partition("::")[0]
    return next((name for name, parts in TOGETHER.items() if module.removeprefix("tests/").startswith(parts)), module)


class Grouped(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Grouped:
    return Grouped(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    yield
    order = {name: number for number, name in enumerate(TOGETHER)}
    items.sort(key=lambda item: order.get(group(item.nodeid), len(order)))


@pytest.fixture(scope="module", autouse=True)
def nothing_trains_on() -> Iterator[None]:
    """After a module, whatever its tests came to: the next one has the machine for itself."""
    yield
    for service in SERVICES:
        service.end_all()
    SERVICES[:] = [service for service in SERVICES if service.process.poll() is None]


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service on the embedded parts, for all tests that do not mistreat it beyond what it must survive."""
    running = Service(tmp_path_factory.mktemp("home"))
    yield running
    if running.process.poll() is None:
        assert running.stop() == 0
