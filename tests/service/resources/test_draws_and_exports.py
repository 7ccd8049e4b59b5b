"""Work on a run's checkpoints: pictures of given prompts, diffusers folders; bounded, stopped on request, found again after a crash."""

import hashlib
import io
import json
from pathlib import Path

import httpx
import psutil
import pytest
from PIL import Image

from dayrun.answers import Draw
from dayrun.client import Run, Sample
from tests.conftest import Service, until
from tests.service.resources.conftest import problem


@pytest.fixture(scope="module")
def draw(service: Service, trained: Run) -> Draw:
    """Two pictures, the second one of what the run itself drew."""
    sample = the_runs_own(service, trained)
    asked = service.client.draw(trained.id, ["a blue pear", "a pear"], step=10, seed=sample.seed - 1)
    assert asked.state in ("queued", "drawing")
    return service.client.finished(asked)


def the_runs_own(service: Service, trained: Run) -> Sample:
    return next(one for one in service.client.samples(trained.id, steps=[10]) if one.prompt == "a pear")


def test_given_prompts_are_drawn_from_the_checkpoint_that_was_named(service: Service, trained: Run, draw: Draw):
    assert draw.state == "done", draw.error
    assert [(one.prompt, one.seed, one.steps) for one in draw.pictures] == [("a blue pear", 0, 2), ("a pear", 1, 2)]
    assert draw.checkpoint == {one.step: one.digest for one in service.client.checkpoints(trained.id)}[10]
    told = [one.type for one in service.client.events(trained.id) if one.data.get("id") == draw.id]
    assert told == ["draw_requested", "draw_done"]


def test_what_the_run_itself_drew_is_drawn_again_to_the_pixel(service: Service, trained: Run, draw: Draw):
    both = [the_runs_own(service, trained), draw.pictures[1]]
    pixels = [Image.open(io.BytesIO(service.client.picture(one))).tobytes() for one in both]
    assert pixels[0] == pixels[1]


def test_an_export_is_downloaded_as_its_manifest_says(service: Service, trained: Run, http: httpx.Client, tmp_path: Path):
    export = service.client.finished(service.client.export(trained.id))
    assert export.state == "done", export.error
    assert (export.step, export.ema) == (10, True)
    assert export.bytes == sum(file.bytes for file in export.files)
    assert {"transformer/config.json", "transformer/diffusion_pytorch_model.safetensors"} <= {file.path for file in export.files}
    for file in export.files:
        service.client.download(file, tmp_path / file.path)
        assert hashlib.sha256((tmp_path / file.path).read_bytes()).hexdigest() == file.sha256
    assert json.loads((tmp_path / "transformer/config.json").read_text())["depth"] == 2
    assert next(iter(service.client.exports(trained.id))).id == export.id  # newest first
    problem(http.get(f"/runs/{trained.id}/exports/{export.id}/files/../complete.json"), 404, "not-found")
    problem(http.get(f"/runs/{trained.id}/exports/{export.id}/files/complete.json"), 404, "no-such-file")


def test_what_cannot_be_drawn_is_told_at_once(http: httpx.Client, trained: Run):
    body = problem(http.post(f"/runs/{trained.id}/samples", json={"prompts": ["x"], "step": 7}), 422, "no-such-checkpoint")
    assert body["errors"][0] == body["errors"][0] | {"pointer": "/step", "value": 7, "nearest": [5, 10]}
    body = problem(http.post(f"/runs/{trained.id}/samples", json={"prompts": ["x"], "pixels": 7}), 422, "cannot-be-drawn")
    assert body["errors"][0]["nearest"] == [4, 8]
    problem(http.post(f"/runs/{trained.id}/samples", json={"prompts": []}), 422, "invalid-request")
    problem(http.post("/runs/run_nope/samples", json={"prompts": ["x"]}), 404, "no-such-run")
    problem(http.get(f"/runs/{trained.id}/draws/draw_nope"), 404, "no-such-draw")
    problem(http.get(f"/runs/{trained.id}/exports/export_nope"), 404, "no-such-export")


def test_who_has_a_draw_as_it_is_gets_no_more(http: httpx.Client, draw: Draw):
    at = f"/runs/{draw.run}/draws/{draw.id}"
    tag = http.get(at).headers["ETag"]
    again = http.get(at, headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    held = http.get(at, headers={"If-None-Match": tag, "Prefer": "wait=0"})
    assert (held.status_code, held.headers["Preference-Applied"]) == (304, "wait=0")


def test_a_cancelled_draw_leaves_no_process_behind(service: Service, trained: Run, http: httpx.Client):
    prompts = [f"a pear {number}" for number in range(256)]
    draw = service.client.draw(trained.id, prompts, steps=1000)  # minutes
    until(lambda: service.client.draw_of(trained.id, draw.id).state == "drawing", "the draw to start")
    waiting = service.client.draw(trained.id, ["after it"])
    queued = http.post(f"/runs/{trained.id}/draws/{waiting.id}:cancel")
    assert (queued.status_code, queued.json()["state"]) == (202, "cancelled")  # one at a time: this one had not begun
    assert http.post(f"/runs/{trained.id}/draws/{draw.id}:cancel").status_code == 202
    assert service.client.finished(draw).state == "cancelled"
    assert processes_of(draw.id) == []
    problem(http.post(f"/runs/{trained.id}/draws/{draw.id}:cancel"), 409, "over-already")


def processes_of(job_id: str) -> list[psutil.Process]:
    return [process for process in psutil.process_iter(["environ"]) if (process.info["environ"] or {}).get("DAYRUN_JOB") == job_id]


@pytest.mark.long
def test_a_draw_outlives_the_service_and_is_found_again(service: Service, trained: Run):
    draw = service.client.draw(trained.id, [f"a pear {number}" for number in range(48)], steps=200)
    until(lambda: service.folder(trained).prefix.exists(f"draws/{draw.id}/index.json"), "the first pictures")
    started = service.home / "jobs" / draw.id / "started.json"
    before = started.read_bytes()
    service.kill()
    service.start()
    done = service.client.finished(draw)
    assert (done.state, len(done.pictures)) == ("done", 48), done.error
    assert started.read_bytes() == before  # the same process has done it
    assert [one.type for one in service.client.events(trained.id) if one.data.get("id") == draw.id] == ["draw_requested", "draw_done"]
