"""Runs from `POST /runs` to pictures, on dayrun as its chart installs it: real torchrun in pods, and what happens when something breaks."""

import io
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from dayrun.client import Client, Run, ServiceError
from tests.cluster.installed import Installation, until_run
from tests.tiny import tiny_recipe


def recipe(steps: int = 60, nodes: int = 2, **more: Any) -> dict[str, Any]:
    found = tiny_recipe("tiny", steps=steps, processes=1)
    found["hardware"] |= {"nodes": nodes}
    return found | more


def trains(run: Run) -> bool:
    return run.state == "running" and run.progress.step >= 20


def attempts(dayrun: Installation, run: Run) -> list[str]:
    return sorted(job["metadata"]["labels"]["dayrun.dev/attempt"] for job in dayrun.jobs(run))


@pytest.fixture(scope="module")
def demo(dayrun: Installation, key: str) -> Run:
    """The demo's recipe on two pods, cut to 40 steps."""
    prompts = {"name": "preview", "prompts": ["a red apple on a blue background"], "seed": 1, "every": 20, "at_start": True, "at_end": True}
    overrides = {
        "text": {"source": "/data/tower"},
        "stages": [{"name": "32px", "pixels": 32, "steps": 40, "batch_size": 16}],
        "schedule": {"warmup_steps": 10},
        "checkpoints": {"every": 20},
        "samples": {"steps": 4, "sets": [prompts]},
        "hardware": {"nodes": 2, "processes_per_node": 1, "threads_per_process": 1},
    }
    with dayrun.client(key) as client:
        return client.create_run("demo", overrides=overrides)


def test_the_demo_recipe_trains_as_a_pytorchjob_of_two_pods_and_shows_pictures(dayrun: Installation, demo: Run, client: Client):
    until_run(client, demo, lambda run: run.state == "running", "train")
    assert {pod["spec"]["containers"][0]["image"] for pod in dayrun.pods(demo, 1)} == {dayrun.cluster.images.trainer}
    said = client.logs(demo.id, rank="launcher")
    assert all(f"==> {demo.id.replace('_', '-')}-1-{member}-0 <==" in said for member in ("master", "worker"))
    ended = until_run(client, demo, lambda run: run.over, "end", patience=600)
    assert (ended.state, ended.attempt, ended.progress.step) == ("succeeded", 1, 40)
    assert attempts(dayrun, demo) == ["1"]
    pictures = list(client.samples(demo.id))
    assert {picture.step for picture in pictures} == {0, 20, 40}
    assert Image.open(io.BytesIO(client.picture(pictures[-1]))).size == (32, 32)
    assert all(client.logs(demo.id, rank=rank) for rank in ("0", "1"))


def test_pictures_are_drawn_and_weights_exported_by_programs_beside_training(
    dayrun: Installation, demo: Run, client: Client, tmp_path: Path
):
    until_run(client, demo, lambda run: run.state == "succeeded", "end")
    draw = client.finished(client.draw(demo.id, ["a red apple on a blue background"], step=20))
    assert Image.open(io.BytesIO(client.picture(draw.pictures[0]))).size == (32, 32)
    export = client.finished(client.export(demo.id, step=20))
    weights = next(file for file in export.files if file.path.endswith(".safetensors"))
    client.download(weights, tmp_path / "weights")
    assert (tmp_path / "weights").stat().st_size == weights.bytes
    programs = dayrun.get("jobs", "-l", "dayrun.dev/program")["items"]
    assert len(programs) == 2


def test_an_image_that_does_not_exist_fails_the_run_and_is_named(dayrun: Installation, client: Client, key: str):
    dayrun.upgrade(image={**dayrun.values["image"], "trainer": {"repository": "localhost/no-such-image", "tag": "1"}})
    try:
        with dayrun.client(key) as client:
            run = client.create_run(recipe(retries={"attempts": 1}))
            ended = until_run(client, run, lambda run: run.over, "fail")
    finally:
        dayrun.upgrade()
    assert (ended.state, ended.cause) == ("failed", "image_pull")
    assert any("localhost/no-such-image:1" in line for line in ended.evidence)


def test_more_gpus_a_node_than_there_are_are_refused_with_how_many_there_are(client: Client):
    patch = {"hardware": {"accelerator": "h200", "nodes": 1, "processes_per_node": 16, "dollars_per_accelerator_hour": 2.0}}
    wide = recipe()
    wide["hardware"] |= patch["hardware"]
    wide["stages"][0]["batch_size"] = 16
    planned = client.plan(wide)
    verdict = next(one for one in planned.verdicts if one["about"] == "cluster")
    assert (verdict["level"], verdict["at"], verdict["nearest"][0]["value"]) == ("no", "/hardware/processes_per_node", 8)
    with pytest.raises(ServiceError, match="a node of 'h200' has room for 8; nearest: 8") as refused:
        client.create_run(wide)
    assert refused.value.status == 422


def test_what_has_no_room_waits_and_says_so_in_the_schedulers_words(client: Client):
    wide = recipe()
    wide["hardware"] |= {"accelerator": "h200", "nodes": 64, "processes_per_node": 8}  # more than test_scale.py adds, too
    wide["stages"][0]["batch_size"] = 512
    run = client.create_run(wide)
    waits = until_run(client, run, lambda run: run.waiting is not None and run.waiting.code == "unschedulable", "wait for nodes")
    assert waits.state == "launching"
    assert "Insufficient nvidia.com/gpu" in waits.waiting.because  # pyright: ignore[reportOptionalMemberAccess]
    client.cancel(run.id)
    until_run(client, run, lambda run: run.state == "cancelled", "be cancelled")


def test_nobody_without_a_key_is_let_in(client: Client):
    with pytest.raises(httpx.HTTPStatusError):
        httpx.get(f"{client.url}/runs").raise_for_status()


def test_out_of_memory_in_the_container_is_named_with_the_limit(client: Client):
    narrow = recipe(retries={"attempts": 1})
    narrow["hardware"] |= {"accelerator": "h100"}
    run = client.create_run(narrow)
    ended = until_run(client, run, lambda run: run.over, "fail")
    assert (ended.state, ended.cause) == ("failed", "oom")
    assert any("150Mi" in line for line in ended.evidence)


# ---- what happens to one that trains -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def training(dayrun: Installation, key: str) -> Run:
    """One that has long to train: each of these tests finds it healthy, in whichever attempt, and leaves it so; the last one ends it."""
    with dayrun.client(key) as client:
        return client.create_run(recipe(steps=200_000))


def test_an_upgrade_and_a_rollback_leave_a_run_untouched(dayrun: Installation, training: Run, key: str):
    with dayrun.client(key) as client:
        until_run(client, training, trains, "train")
    before = {pod["metadata"]["uid"] for pod in dayrun.pods(training, 1)}
    dayrun.upgrade(settings={**dayrun.values["settings"], "keep_logs_days": 30})
    dayrun.cluster.helm("rollback", "dayrun", "--namespace", dayrun.namespace, "--wait", "--timeout", "5m")
    with dayrun.client(key) as client:
        goes_on(client, training)
    assert {pod["metadata"]["uid"] for pod in dayrun.pods(training, 1)} == before


def test_an_operator_that_restarts_changes_nothing(dayrun: Installation, training: Run, client: Client):
    until_run(client, training, trains, "train")
    dayrun.cluster.kubectl("-n", "kubeflow", "rollout", "restart", "deployment/training-operator")
    dayrun.cluster.kubectl("-n", "kubeflow", "rollout", "status", "deployment/training-operator", "--timeout=120s")
    goes_on(client, training)


def goes_on(client: Client, run: Run) -> None:
    """In its first attempt, as if nothing had happened."""
    step = client.run(run.id).progress.step
    now = until_run(client, run, lambda run: run.progress.step > step or run.state != "running", "go on")
    assert (now.state, now.attempt, now.cause) == ("running", 1, None)


def test_pause_and_resume_go_on_from_the_checkpoint(dayrun: Installation, training: Run, client: Client):
    number = until_run(client, training, trains, "train").attempt
    client.pause(training.id)
    paused = until_run(client, training, lambda run: run.state == "paused", "pause")
    assert paused.progress.step >= 20
    assert dayrun.pods(training, number) == []
    client.resume(training.id)
    until_run(client, training, lambda run: run.attempt == number + 1 and run.progress.step > paused.progress.step, "train on")
    resumed = next(event for event in client.events(training.id) if event.type == "resumed")
    assert resumed.data["checkpoint"] >= 20


def test_a_killed_worker_pod_costs_one_attempt(dayrun: Installation, training: Run, client: Client):
    number = until_run(client, training, trains, "train").attempt
    dayrun.kubectl("delete", "pod", "--force", "--grace-period=0", f"{training.id.replace('_', '-')}-{number}-worker-0")
    trains_again(client, training, number + 1)
    # the one before had failed, and can be looked at, or was ended with what was left of it
    assert attempts(dayrun, training) in ([str(number), str(number + 1)], [str(number + 1)])


def test_a_job_deleted_by_hand_is_an_ended_attempt(dayrun: Installation, training: Run, client: Client):
    number = until_run(client, training, trains, "train").attempt
    dayrun.kubectl("delete", "pytorchjob", f"{training.id.replace('_', '-')}-{number}", "--wait=false")
    trains_again(client, training, number + 1)


def trains_again(client: Client, run: Run, number: int) -> None:
    """In its attempt `number`, since the one before was taken from it."""
    now = until_run(client, run, lambda run: run.attempt == number and run.state == "running", "train again")
    assert now.cause is None
    ended = [event for event in client.events(run.id) if event.type == "state_changed" and event.attempt == number - 1]
    assert [event.data["cause"] for event in ended if "cause" in event.data] == ["preempted"]


def test_a_cancelled_run_leaves_no_job(dayrun: Installation, training: Run, client: Client):
    number = client.run(training.id).attempt
    client.cancel(training.id)
    until_run(client, training, lambda run: run.state == "cancelled", "be cancelled")
    assert str(number) not in attempts(dayrun, training)
