"""Forks: where they begin, what they may change, and that they train on from there."""

import httpx
import pytest

from dayrun.client import Run
from tests.conftest import Service
from tests.service.resources.conftest import problem


def test_a_fork_goes_on_from_the_checkpoint_with_the_parents_state(service: Service, trained: Run):
    stages = [{"name": "tiny", "pixels": 8, "steps": 12, "batch_size": 8}]
    made = service.client.fork(trained.id, 10, overrides={"stages": stages, "name": "longer"}, labels={"purpose": "fork"})
    assert made.parent is not None
    assert (made.parent.run, made.parent.step, made.parent.weights) == (trained.id, 10, "all")
    assert made.diff is not None
    assert {(one.pointer, one.before, one.after) for one in made.diff} == {("/name", "drawing", "longer"), ("/stages/0/steps", 10, 12)}
    run = service.end(made)
    assert (run.state, run.progress.step) == ("succeeded", 12), run.evidence
    assert sorted(service.losses(run)) == [11, 12]  # it trained nothing twice
    forked = next(event for event in service.client.events(run.id) if event.type == "forked")
    assert forked.data["checkpoint"] == 10
    assert [one.pointer for one in service.client.recipe_diff(run.id)] == ["/name", "/stages/0/steps"]


@pytest.mark.long
def test_a_fork_of_the_averages_begins_at_step_0(service: Service, trained: Run):
    overrides = {"optimizer": {"learning_rate": 0.001}, "samples": {"sets": []}}
    run = service.end(service.client.fork(trained.id, overrides=overrides, weights="ema"))
    assert run.state == "succeeded", run.evidence
    assert run.parent is not None
    assert (run.parent.step, run.parent.weights, run.labels) == (10, "ema", trained.labels)
    assert min(service.losses(run)) == 1
    assert run.id in [one.id for one in service.client.runs(parent=trained.id)]


def test_weights_that_do_not_fit_are_refused_before_anything_is_made(http: httpx.Client, trained: Run):
    before = http.get("/runs", params={"parent": trained.id}).json()["items"]
    body = problem(http.post(f"/runs/{trained.id}:fork", json={"overrides": {"model": {"depth": 3}}}), 422, "cannot-be-forked")
    assert (body["errors"][0]["pointer"], body["errors"][0]["nearest"]) == ("/overrides/model/depth", [2])
    assert http.get("/runs", params={"parent": trained.id}).json()["items"] == before


def test_what_cannot_be_forked_says_what_can(http: httpx.Client, trained: Run):
    body = problem(http.post(f"/runs/{trained.id}:fork", json={"step": 7}), 422, "no-such-checkpoint")
    assert body["errors"][0]["nearest"] == [5, 10]
    problem(http.post("/runs/run_nope:fork", json={}), 404, "no-such-run")
    problem(http.post(f"/runs/{trained.id}:fork", json={"overrides": {"model": {"heads": 3}}}), 422, "cannot-be-forked")
    problem(http.get(f"/runs/{trained.id}/recipe:diff"), 409, "no-parent")


def test_a_fork_with_one_key_is_made_once(http: httpx.Client, trained: Run):
    answers = [http.post(f"/runs/{trained.id}:fork", json={"step": 5}, headers={"Idempotency-Key": "fork-once"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].content == answers[1].content
    http.post(f"/runs/{answers[0].json()['id']}:cancel")
