"""What several tests of the service look at: one small run that was trained, with checkpoints and pictures."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dayrun import builtin
from dayrun.client import Run
from tests.conftest import Service
from tests.tiny import tiny_recipe, write_data

PROMPTS = ["a red apple", "a pear"]


def drawing_recipe(data: Path, **more: Any) -> dict[str, Any]:
    """Ten steps; draws at 0, 5 and 10, keeps checkpoints of 5 and 10."""
    sets = [{"name": "preview", "prompts": PROMPTS, "every": 5, "at_start": True}]
    recipe = tiny_recipe(data, steps=10, processes=1, samples={"sets": sets, "steps": 2, "guidance": 1.0})
    text = {"model": recipe["model"] | {"text_width": 384}, "text": builtin.get("demo")["text"]}
    return recipe | text | {"schedule": {"warmup_steps": 1}, "checkpoints": {"every": 5, "keep_last": 5}, "name": "drawing"} | more


@pytest.fixture(scope="session")
def drawing_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("drawing") / "data", tokens=16, width=384)


@pytest.fixture(scope="session")
def trained(service: Service, drawing_data: Path) -> Run:
    """A run that is over: 10 steps, checkpoints and pictures."""
    made = service.client.create_run(drawing_recipe(drawing_data), labels={"purpose": "look", "team": "tests"})
    run = service.end(made)
    assert run.state == "succeeded", run.evidence
    return run


@pytest.fixture
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=100) as client:
        yield client


def problem(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """The problem that a response is; fails where it is none, or another."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (body["status"], body["type"]) == (status, f"urn:dayrun:problem:{kind}")
    assert body["detail"]
    return body
