"""Plans over HTTP: what a run would take before it exists, held against what it came to."""

from pathlib import Path

import httpx
import pytest

from dayrun.client import Run, ServiceError
from dayrun.plan import Verdict
from dayrun.plan import plan as planned
from dayrun.rules import load
from service.launchers.local import gpus_here
from service.plans.endpoints import tag
from service.runs.schemas import NewRun
from tests.conftest import Service, until
from tests.service.inside import inside, kind
from tests.tiny import tiny_recipe


@pytest.fixture
def http(service: Service):
    with httpx.Client(base_url=service.url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def finished(service: Service, tiny_data: Path) -> Run:
    """A run that has ended well."""
    run = service.end(service.client.create_run(tiny_recipe(tiny_data, steps=80)))
    assert run.state == "succeeded", (run.cause, run.evidence)
    return run


def ids(http: httpx.Client) -> list[str]:
    return [run["id"] for run in http.get("/runs").json()["items"]]


def test_a_plan_says_what_would_run_and_stores_nothing(http: httpx.Client, tiny_data: Path):
    before = ids(http)
    answer = http.post("/runs:plan", json={"recipe": tiny_recipe(tiny_data), "overrides": {"seed": 7}})
    assert answer.status_code == 200, answer.text
    plan = answer.json()
    assert plan["recipe"]["seed"] == 7
    assert plan["can_start"] is True
    assert "--nproc-per-node=2" in plan["manifest"]["command"]
    hours = plan["estimate"]["hours"]
    assert 0 < hours["low"] <= hours["expected"] <= hours["high"]
    assert plan["estimate"]["dollars"]["expected"] == pytest.approx(hours["expected"] * 2 * 36.0)
    assert any(line["name"] == "hours" for line in plan["estimate"]["arithmetic"])
    assert ids(http) == before


def test_the_reference_recipe_can_be_planned_anywhere_and_is_not_begun_on_one_machine(http: httpx.Client):
    plan = http.post("/runs:plan", json={"recipe": "prx-24h"}).json()
    assert plan["can_start"] is False
    refusals = [(verdict["about"], verdict["at"]) for verdict in plan["verdicts"] if verdict["level"] == "no"]
    assert refusals == [("cluster", "/hardware/nodes")]
    assert plan["estimate"]["hours"]["low"] < 24 < plan["estimate"]["hours"]["high"]
    refused = http.post("/runs", json={"recipe": "prx-24h"})
    assert refused.status_code == 422
    assert [(error["pointer"], error["value"], error["nearest"]) for error in refused.json()["errors"]] == [
        ("/recipe/hardware/nodes", 4, [1])
    ]


def test_a_machine_trains_on_the_gpus_it_has(http: httpx.Client, tiny_data: Path):
    recipe = tiny_recipe(tiny_data)
    recipe["hardware"] |= {"accelerator": "h200", "processes_per_node": 99}
    recipe["stages"] = [stage | {"batch_size": 99} for stage in recipe["stages"]]
    refused = http.post("/runs", json={"recipe": recipe})
    assert refused.status_code == 422
    (error,) = refused.json()["errors"]
    gpus = gpus_here()
    expected = ("/recipe/hardware/processes_per_node", [gpus]) if gpus else ("/recipe/hardware/accelerator", ["cpu"])
    assert (error["pointer"], error["nearest"]) == expected


def test_a_plan_that_still_holds_is_accepted_and_one_that_does_not_is_refused(http: httpx.Client, tiny_data: Path):
    body = {"recipe": tiny_recipe(tiny_data, steps=50)}
    tag = http.post("/runs:plan", json=body).headers["ETag"]
    changed = {"recipe": tiny_recipe(tiny_data, steps=60)}
    refused = http.post("/runs", json=changed, headers={"If-Match": tag})
    assert refused.status_code == 412
    assert refused.json()["type"] == "urn:dayrun:problem:plan-changed"
    taken = http.post("/runs", json=body, headers={"If-Match": tag})
    assert taken.status_code == 201
    http.post(f"/runs/{taken.json()['id']}:cancel")


def test_a_plan_says_what_the_project_has_no_room_for_and_goes_stale_with_its_quota(http: httpx.Client, tiny_data: Path):
    http.post("/projects", json={"id": "planners", "name": "planners"})
    body = {"recipe": tiny_recipe(tiny_data), "project": "planners"}
    roomy = http.post("/runs:plan", json=body)
    assert roomy.json()["can_start"] is True
    project = http.get("/projects/planners")
    narrowed = http.patch("/projects/planners", json={"accelerators": 1}, headers={"If-Match": project.headers["ETag"]})
    assert narrowed.status_code == 200, narrowed.text
    tight = http.post("/runs:plan", json=body).json()
    refusal = next(verdict for verdict in tight["verdicts"] if verdict["about"] == "quota")
    assert tight["can_start"] is False
    assert (refusal["at"], refusal["level"]) == ("/hardware/processes_per_node", "no")
    assert refusal["nearest"] == [{"at": "/hardware/processes_per_node", "value": 1}]
    assert http.post("/runs", json=body, headers={"If-Match": roomy.headers["ETag"]}).status_code == 412
    assert http.post("/runs", json=body).status_code == 409


def test_a_run_keeps_its_plan_and_compares_it_with_what_it_came_to(service: Service, http: httpx.Client, finished: Run):
    run = finished
    told = http.get(f"/runs/{run.id}/estimate").json()
    assert told["predicted"]["stages"][0]["steps"] == 80
    assert told["renewed"] is None
    sides = {side["name"]: side for side in told["comparison"]}
    assert {"hours", "dollars", "tiny: a step"} <= set(sides)
    assert sides["hours"]["actual"] == pytest.approx(run.cost.accelerator_hours / 2)
    assert sides["tiny: a step"]["actual"] > 0
    recorded = next(event for event in service.client.events(run.id) if event.type == "estimate_compared")
    assert {side["name"] for side in recorded.data["comparison"]} == set(sides)


def test_the_client_plans_and_holds_a_run_to_its_plan(service: Service, tiny_data: Path):
    recipe = tiny_recipe(tiny_data, steps=50)
    planned = service.client.plan(recipe, overrides={"seed": 3})
    assert planned.recipe["seed"] == 3
    assert planned.can_start
    with pytest.raises(ServiceError) as refused:
        service.client.create_run(recipe, plan=planned)  # without the override it is another run
    assert refused.value.status == 412
    run = service.client.create_run(recipe, overrides={"seed": 3}, plan=planned)
    assert service.client.estimate(run.id).predicted == {**planned.estimate, "arithmetic": []}
    service.client.cancel(run.id)


def test_the_next_plan_has_learnt_from_the_last_run(http: httpx.Client, finished: Run):
    recipe = finished.recipe

    def calibrated() -> dict | None:  # each process looks at the history anew every few seconds
        share = http.post("/runs:plan", json={"recipe": recipe}).json()["estimate"]["utilisation"]
        return share if share["source"] == "calibrated" else None

    assert until(calibrated, "a plan that knows of the run")["runs"] >= 1


def test_a_cluster_that_is_busy_or_away_makes_no_plan_stale_and_one_that_refuses_does(tiny_data: Path):
    recipe = load(tiny_recipe(tiny_data))
    new, estimate = NewRun(recipe=tiny_recipe(tiny_data)), planned(recipe).estimate
    said = {level: Verdict(about="cluster", level=level, at="/hardware/nodes", because="") for level in ("ok", "note", "unsure", "no")}
    roomy = tag(new, recipe, estimate, [said["ok"], said["note"]])
    assert tag(new, recipe, estimate, [said["note"]]) == tag(new, recipe, estimate, []) == roomy
    assert len({roomy, tag(new, recipe, estimate, [said["unsure"]]), tag(new, recipe, estimate, [said["no"]])}) == 3


def test_a_preflight_where_there_is_no_cluster_says_so(http: httpx.Client, tiny_data: Path):
    answer = http.post("/runs:preflight", json={"recipe": tiny_recipe(tiny_data)})
    assert answer.status_code == 200, answer.text
    assert answer.json()["can_start"] is True
    assert [(one["check"], one["level"]) for one in answer.json()["findings"]] == [("cluster", "note")]


def test_nodes_that_a_projects_runs_may_not_hold_are_not_tried_either(http: httpx.Client, tiny_data: Path):
    http.post("/projects", json={"id": "narrow", "name": "narrow"})
    project = http.get("/projects/narrow")
    http.patch("/projects/narrow", json={"accelerators": 1}, headers={"If-Match": project.headers["ETag"]})
    answer = http.post("/runs:preflight?nodes=true", json={"recipe": tiny_recipe(tiny_data), "project": "narrow"}).json()
    (group,) = (one for one in answer["findings"] if one["check"] == "group")
    assert group["level"] == "note"
    assert group["because"].startswith("not tried, since the project has no room")


async def test_only_so_many_preflights_are_under_way(tmp_path: Path, tiny_data: Path):
    async with inside(tmp_path) as api:
        trials = api.context.trials
        async with trials, trials:
            answer = await api.ask("POST", "/runs:preflight", api.operator, json={"recipe": tiny_recipe(tiny_data)})
        assert (answer.status_code, kind(answer), answer.headers["Retry-After"]) == (429, "preflights-under-way", "60")
        assert (await api.ask("POST", "/runs:preflight", api.operator, json={"recipe": tiny_recipe(tiny_data)})).status_code == 200
