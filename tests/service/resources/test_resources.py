"""Lists, waiting, preconditions, stored recipes and pictures over HTTP, against a running service."""

import concurrent.futures
import io
from pathlib import Path

import httpx
import pytest
from PIL import Image

from dayrun.client import Run
from tests.conftest import Service
from tests.service.resources.conftest import PROMPTS, problem
from tests.tiny import tiny_recipe


def test_filters_find_runs_by_label_and_recipe(service: Service, trained: Run):
    found = service.client.runs(labels={"purpose": "look"}, recipe={"/optimizer/kind": "muon", "/checkpoints/every": 5}, name="drawing")
    assert trained.id in [run.id for run in found]
    assert trained.id not in [run.id for run in service.client.runs(recipe={"/checkpoints/every": 20})]


def test_a_list_can_be_followed_by_its_links_and_not_by_a_made_up_cursor(http: httpx.Client, trained: Run):
    page = http.get("/runs", params={"limit": 1, "state": ["succeeded", "failed"]})
    assert {link["rel"] for link in page.links.values()} <= {"first", "next"}
    assert http.get(page.links["first"]["url"]).json()["items"] == page.json()["items"]
    problem(http.get("/runs", params={"cursor": trained.id}), 400, "bad-cursor")
    if cursor := page.json()["next"]:
        problem(http.get("/runs", params={"cursor": cursor, "state": "failed"}), 400, "bad-cursor")
    problem(http.get(f"/runs/{trained.id}/samples", params={"cursor": "0/x"}), 400, "bad-cursor")


def test_who_has_it_already_gets_304(http: httpx.Client, trained: Run):
    for at in (f"/runs/{trained.id}", "/runs?label=purpose=look&state=succeeded", "/recipes/demo"):
        first = http.get(at)
        again = http.get(at, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", first.headers["ETag"]), at
        assert http.get(at, headers={"If-None-Match": '"older"'}).status_code == 200


def test_who_waits_for_news_is_told_when_there_are_some(http: httpx.Client, service: Service, tiny_data: Path):
    made = http.post("/runs", json={"recipe": tiny_recipe(tiny_data, steps=100_000)})
    paused = http.post(f"/runs/{made.json()['id']}:pause", headers={"Prefer": "wait=60"})
    assert paused.headers["Preference-Applied"] == "wait=60"
    run = service.client.run(made.json()["id"])
    nothing = http.get(f"/runs/{run.id}", headers={"If-None-Match": f'"{run.version}"', "Prefer": "wait=1"})
    if run.state == "paused":  # nobody else changes it
        assert (nothing.status_code, nothing.headers["Preference-Applied"]) == (304, "wait=1")
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        tag = http.get(f"/runs/{run.id}").headers["ETag"]
        waiting = thread.submit(http.get, f"/runs/{run.id}", headers={"If-None-Match": tag, "Prefer": "wait=60"})
        service.client.cancel(run.id)
        news = waiting.result()
    assert news.status_code == 200
    assert news.headers["ETag"] != tag
    assert service.end(run).state == "cancelled"


def test_many_runs_are_cancelled_by_one_request(http: httpx.Client, service: Service, tiny_data: Path):
    made = [service.client.create_run(tiny_recipe(tiny_data, steps=100_000), labels={"sweep": "mine"}) for _ in range(3)]
    told = list(service.client.cancel_runs(labels={"sweep": "mine"}))
    assert {one.id for one in told if one.cancelled} == {run.id for run in made}
    for run in made:
        assert service.end(run).state == "cancelled"
    body = problem(http.post("/runs:cancel", json={}), 422, "invalid-request")
    assert "queued" in body["errors"][0]["nearest"][0]


def test_a_stored_recipe_is_named_by_runs_and_replaced_only_by_who_has_seen_it(http: httpx.Client, service: Service, tiny_data: Path):
    recipe = tiny_recipe(tiny_data, steps=100_000)
    new = http.put("/recipes/house", json=recipe, headers={"If-None-Match": "*"})
    assert (new.status_code, new.headers["ETag"]) == (201, '"1"'), new.text
    problem(http.put("/recipes/house", json=recipe), 428, "if-match-needed")
    problem(http.put("/recipes/house", json=recipe, headers={"If-Match": '"7"'}), 412, "changed-since")
    problem(http.put("/recipes/house", json=recipe, headers={"If-None-Match": "*"}), 412, "exists-already")
    problem(http.put("/recipes/demo", json=recipe), 409, "built-in")
    body = problem(http.put("/recipes/bad", json=recipe | {"seed": -1}), 422, "invalid-recipe")
    assert body["errors"][0]["pointer"] == "/seed"
    changed = http.put("/recipes/house", json=recipe | {"seed": 9}, headers={"If-Match": new.headers["ETag"]})
    assert (changed.status_code, changed.json()["version"]) == (200, 2)
    assert http.get("/recipes/house").json()["seed"] == 9
    assert "seed" not in http.get("/recipes/house", params={"version": 1}).json()
    assert "house" in [item["name"] for item in http.get("/recipes").json()["items"]]
    run = service.client.create_run("house", overrides={"name": "from-house"})
    assert run.recipe is not None
    assert (run.recipe["seed"], run.name) == (9, "from-house")
    service.client.cancel(run.id)


def test_a_thumbnail_is_small_and_fetched_once(http: httpx.Client, service: Service, trained: Run):
    sample = next(service.client.samples(trained.id))
    small = http.get(sample.url, params={"width": 64})
    assert small.headers["content-type"] == "image/webp"
    assert "immutable" in small.headers["Cache-Control"]
    with Image.open(io.BytesIO(small.content)) as picture:
        assert (picture.format, picture.size) == ("WEBP", (8, 8))  # never larger than it was drawn
    again = http.get(sample.url, params={"width": 64}, headers={"If-None-Match": small.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    problem(http.get(sample.url, params={"width": 65}), 422, "invalid-request")
    problem(http.get(f"/runs/{trained.id}/samples/5/nope.png", params={"width": 64}), 404, "no-such-sample")


def test_a_sheet_has_prompts_from_top_to_bottom_and_steps_from_left_to_right(http: httpx.Client, service: Service, trained: Run):
    whole, part = (Image.open(io.BytesIO(service.client.sheet(trained.id, steps=steps, width=64))) for steps in (None, [0, 10]))
    assert whole.format == "PNG"
    assert whole.height == part.height
    assert whole.height > len(PROMPTS) * 64
    response = http.get(f"/runs/{trained.id}/samples:sheet", params={"set": "preview", "steps": "0"})
    again = http.get(response.url, headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    problem(http.get(f"/runs/{trained.id}/samples:sheet", params={"set": "nope"}), 404, "no-such-sample")
    problem(http.get(f"/runs/{trained.id}/samples:sheet", params={"steps": "one"}), 422, "invalid-request")


def test_a_sheet_that_would_be_too_large_is_refused_with_steps_that_fit():
    from service.http.problem import Problem
    from service.samples.sheets import MOST_PICTURES, refuse_too_many

    refuse_too_many(MOST_PICTURES, list(range(100)))
    with pytest.raises(Problem) as caught:
        refuse_too_many(4 * 300, list(range(0, 3000, 10)))
    [fitting] = caught.value.errors[0].nearest
    assert len(fitting.split(",")) * 4 <= MOST_PICTURES
    assert fitting.endswith("2990")


def test_two_runs_are_compared_prompt_by_prompt(http: httpx.Client, trained: Run):
    problem(http.get("/samples:compare", params={"runs": trained.id}), 422, "invalid-request")
    problem(http.get("/samples:compare", params={"runs": f"{trained.id},{trained.id}"}), 422, "invalid-request")
    problem(http.get("/samples:compare", params={"runs": f"{trained.id},run_nope"}), 404, "no-such-run")
    made = http.post(f"/runs/{trained.id}:fork", json={"weights": "ema", "step": 5}).json()
    http.post(f"/runs/{made['id']}:cancel")
    found = http.get("/samples:compare", params={"runs": f"{trained.id},{made['id']}", "prompt": PROMPTS[0]}).json()
    assert found["runs"] == [trained.id, made["id"]]
    [pair] = found["pairs"]
    assert (pair["prompt"], pair["samples"][0]["step"]) == (PROMPTS[0], 10)
    sheet = http.get("/samples:compare-sheet", params={"runs": f"{trained.id},{made['id']}", "width": 64})
    assert sheet.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(sheet.content)) as picture:
        assert picture.height > len(PROMPTS) * 64
