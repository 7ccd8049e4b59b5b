"""The API process alone, without a worker: what is posted stays queued, nothing is ever launched."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from service.revisions import bring_up_to_date
from service.settings import Settings
from tests.conftest import ROOT


@contextmanager
def api(home: Path, database: str | None = None) -> Iterator[str]:
    """The address of an API process on an up-to-date database."""
    settings = Settings(home=home, database=database)
    bring_up_to_date(settings, False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        environment = {**settings.for_children(), "DAYRUN_PARENT": str(os.getpid()), "DAYRUN_LISTENER": str(listener.fileno())}
        process = subprocess.Popen(
            [sys.executable, "-m", "service.api"],
            cwd=ROOT,
            env=environment,
            pass_fds=[listener.fileno()],
            stderr=(home / "api.log").open("wb"),
        )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        # the listener is bound: a request waits in its queue until the process accepts
        assert httpx.get(f"{url}/healthz", timeout=60).status_code == 200, (home / "api.log").read_text()
        yield url
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def url(address: str | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with api(tmp_path_factory.mktemp("api"), address) as found:
        yield found


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def run_id(url: str) -> str:
    """A run that is queued and stays so."""
    return httpx.post(f"{url}/runs", json={"recipe": "demo"}).json()["id"]
