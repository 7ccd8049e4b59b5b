"""Real runs of two processes through the whole service, undisturbed and disturbed. A fault may cost an attempt; it never changes a loss."""

import os
import signal
from pathlib import Path

import httpx
import psutil
import pytest

from dayrun.client import Run, ServiceError
from tests.conftest import Service, until
from tests.tiny import tiny_recipe

STEPS = 240
EVERY = 40


@pytest.fixture(scope="module")
def recipe(tiny_data: Path) -> dict:
    return tiny_recipe(tiny_data, steps=STEPS, checkpoints={"every": EVERY, "keep_last": 3})


@pytest.fixture(scope="module")
def straight(service: Service, recipe: dict) -> Run:
    """An undisturbed run."""
    run = service.end(service.client.create_run(recipe, labels={"team": "tests"}))
    assert run.state == "succeeded", (run.cause, run.evidence)
    return run


def test_an_undisturbed_run_takes_one_attempt_and_tells_everything(service: Service, straight: Run):
    assert (straight.attempt, straight.cause, straight.progress.step, straight.progress.fraction) == (1, None, STEPS, 1.0)
    assert service.moves(straight) == ["launch", "start", "succeed"]
    types = [event.type for event in service.client.events(straight.id)]
    assert types[0] == "run_created"
    assert {"attempt_started", "stage_started", "checkpoint_saved", "ended"} <= set(types)
    assert list(service.losses(straight)) == list(range(1, STEPS + 1))
    assert [c.step for c in service.client.checkpoints(straight.id)] == [STEPS - 2 * EVERY, STEPS - EVERY, STEPS]
    assert "attempt_started" in service.client.logs(straight.id, rank="0")
    assert "attempt_started" not in service.client.logs(straight.id, rank="1")
    assert service.client.manifest(straight.id)["command"][-2:] == ["--attempt", "1"]
    assert straight.labels == {"team": "tests"}


def test_cost_is_the_time_that_machines_were_held(service: Service, straight: Run):
    assert straight.started_at
    assert straight.ended_at
    held = (straight.ended_at - straight.started_at).total_seconds()
    assert 0 < straight.cost.accelerator_hours <= 2 * held / 3600  # two processes
    assert straight.cost.dollars == pytest.approx(36.0 * straight.cost.accelerator_hours)


def disturbed(service: Service, recipe: dict, straight: Run, fault, attempts: int) -> Run:
    """A run that `fault` strikes once its second checkpoint is there; checks that nothing but the attempts differs."""
    run = service.client.create_run(recipe)
    service.at_checkpoint(run, 2 * EVERY)
    fault(run)
    run = service.end(run)
    assert run.state == "succeeded", (run.cause, run.evidence)
    assert run.attempt == attempts
    assert service.losses(run) == service.losses(straight)  # bitwise
    return run


def test_kill_9_of_a_worker_costs_one_attempt(service: Service, recipe: dict, straight: Run):
    def fault(run: Run) -> None:
        service.ranks(run)[1].kill()

    run = disturbed(service, recipe, straight, fault, attempts=2)
    assert service.moves(run) == ["launch", "start", "retry", "launch", "start", "succeed"]
    retry = next(e for e in service.client.events(run.id) if e.type == "state_changed" and e.data["move"] == "retry")
    assert retry.data["cause"] == "unknown"  # a kill tells nobody why
    assert any("rank 1 was killed by SIGKILL" in line for line in retry.data["evidence"])
    resumed = next(e for e in service.client.events(run.id) if e.type == "resumed")
    assert resumed.attempt == 2
    assert resumed.data["checkpoint"] >= 2 * EVERY


@pytest.mark.long
def test_kill_9_of_the_launchers_process_group_costs_one_attempt(service: Service, recipe: dict, straight: Run):
    survivors: list[psutil.Process] = []

    def fault(run: Run) -> None:
        survivors.extend(service.ranks(run))
        os.killpg(os.getpgid(service.started(run)["pid"]), signal.SIGKILL)

    run = disturbed(service, recipe, straight, fault, attempts=2)
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in survivors)  # nobody trains beside attempt 2
    retry = next(e for e in service.client.events(run.id) if e.type == "state_changed" and e.data["move"] == "retry")
    assert "the launcher's own process was killed" in retry.data["evidence"]


@pytest.mark.long
def test_kill_9_of_the_celery_worker_costs_nothing(service: Service, recipe: dict, straight: Run):
    def fault(_: Run) -> None:
        worker = service.pids["worker"]
        os.kill(worker, signal.SIGKILL)
        until(lambda: service.pids["worker"] != worker, "a new worker")

    disturbed(service, recipe, straight, fault, attempts=1)


@pytest.mark.long
def test_kill_9_of_the_celery_worker_right_after_the_post_costs_nothing(service: Service, recipe: dict, straight: Run):
    run = service.client.create_run(recipe)
    os.kill(service.pids["worker"], signal.SIGKILL)
    run = service.end(run)
    assert (run.state, run.attempt) == ("succeeded", 1)
    assert service.losses(run) == service.losses(straight)


@pytest.mark.long
def test_kill_9_of_the_service_leaves_the_training_alone(service: Service, recipe: dict, straight: Run):
    def fault(run: Run) -> None:
        ranks = service.ranks(run)
        service.kill()
        assert all(rank.is_running() for rank in ranks)
        service.start()

    disturbed(service, recipe, straight, fault, attempts=1)


@pytest.mark.long
def test_pause_and_resume_change_nothing_but_the_attempt(service: Service, recipe: dict, straight: Run):
    run = service.client.create_run(recipe)
    service.at_checkpoint(run, EVERY)
    assert service.client.pause(run.id).state == "pausing"
    with pytest.raises(ServiceError) as refused:
        service.client.pause(run.id)
    assert refused.value.status == 409
    until(lambda: service.client.run(run.id).state in ("paused", "succeeded"), "the run to pause")
    paused = service.client.run(run.id)
    assert paused.state == "paused", "it was over before the signal came"
    assert service.client.checkpoints(run.id)[-1].step == paused.progress.step  # nothing that was trained is lost
    service.client.resume(run.id)
    run = service.end(run)
    assert (run.state, run.attempt) == ("succeeded", 2)
    assert service.losses(run) == service.losses(straight)


def test_a_cancelled_run_stops_and_keeps_what_it_made(service: Service, recipe: dict):
    run = service.client.create_run(recipe)
    service.at_checkpoint(run, EVERY)
    ranks = service.ranks(run)
    service.client.cancel(run.id)
    run = service.end(run)
    assert run.state == "cancelled"
    assert not any(rank.is_running() for rank in ranks)
    assert service.client.checkpoints(run.id)
    with pytest.raises(ServiceError, match="a run that is cancelled cannot resume"):
        service.client.resume(run.id)


def test_a_run_waits_while_another_holds_the_machine(service: Service, recipe: dict):
    first, second = service.client.create_run(recipe), service.client.create_run(recipe)
    until(lambda: service.client.run(first.id).state == "running", "the first to run")
    assert service.client.run(second.id).state == "queued"
    assert service.client.cancel(second.id).state == "cancelled"  # at once: nothing was launched for it
    service.client.cancel(first.id)
    assert service.end(first).state == "cancelled"


def test_missing_data_fail_the_run_before_training_and_name_the_file(service: Service, tmp_path: Path):
    run = service.end(service.client.create_run(tiny_recipe(tmp_path / "nothing-here")))
    assert (run.state, run.cause, run.attempt) == ("failed", "data", 1)  # another attempt would only meet it again
    assert any(str(tmp_path / "nothing-here") in line for line in run.evidence)


def test_a_limit_pauses_the_run_with_its_cause(service: Service, tiny_data: Path):
    recipe = tiny_recipe(
        tiny_data, steps=100_000, limits={"dollars": 0.05}, checkpoints={"every": 1000}
    )  # $36 an hour: five seconds of one
    run = service.client.create_run(recipe)
    until(lambda: service.client.run(run.id).state == "paused", "the budget to be used up")
    paused = service.client.run(run.id)
    assert paused.cause == "budget"
    assert "/limits/dollars" in paused.evidence[0]
    service.client.cancel(run.id)


def test_prometheus_sees_runs_and_requests(service: Service, straight: Run):
    text = httpx.get(f"{service.url}/metrics").text
    states = {line.split('"')[1]: float(line.split()[-1]) for line in text.splitlines() if line.startswith("dayrun_runs{")}
    assert states["succeeded"] >= 1
    assert len(states) == 9
    assert 'route="/runs/{run_id}"' in text
    assert straight.id not in text
