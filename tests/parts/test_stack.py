"""`dayrun serve --stack`: the whole service on real parts of its own, which are there again at the next start."""

import tempfile
from pathlib import Path

import httpx
import pytest

from tests.conftest import Service, until
from tests.parts.test_exactly_once import BODY
from tests.tiny import tiny_recipe


@pytest.mark.long
def test_a_second_start_finds_what_the_first_has_stored_even_after_a_kill():
    with tempfile.TemporaryDirectory(prefix="dayrun-home-") as folder:  # not below pytest's: Postgres could not enter it
        Path(folder).chmod(0o711)
        own = Service(Path(folder), options=("--stack",))
        said = httpx.get(f"{own.url}/readyz").json()
        assert (said["database"], said["broker"], said["objects"]) == ("ok", "ok", "ok")
        run = httpx.post(f"{own.url}/runs", json=BODY, headers={"Idempotency-Key": "a"})
        assert run.status_code == 201
        assert httpx.post(f"{own.url}/runs/{run.json()['id']}:cancel").status_code == 202
        own.kill()
        own.start()
        again = httpx.post(f"{own.url}/runs", json=BODY, headers={"Idempotency-Key": "a"})
        assert again.content == run.content
        assert own.stop() == 0


@pytest.mark.long  # as tests/service/test_runs.py does on the cluster's parts
def test_a_run_trains_to_its_end_with_its_folder_in_s3(tiny_data: Path):
    with tempfile.TemporaryDirectory(prefix="dayrun-home-") as folder:
        Path(folder).chmod(0o711)
        own = Service(Path(folder), options=("--stack",))
        run = own.end(own.client.create_run(tiny_recipe(tiny_data, steps=40)))
        assert (run.state, run.attempt) == ("succeeded", 1), (run.cause, run.evidence)
        assert [c.step for c in own.client.checkpoints(run.id)] == [20, 40]
        assert "attempt_started" in own.client.logs(run.id, rank="0")
        assert own.client.logs(run.id, rank="launcher") is not None
        assert not (Path(folder) / "runs").exists()
        until(lambda: httpx.get(f"{own.url}/readyz").status_code == 200, "the service to be ready")
        assert own.stop() == 0
