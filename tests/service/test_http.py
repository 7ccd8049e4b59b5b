"""The HTTP interface: idempotency, paging, problems, streams. Against a running service; no run here is ever launched for long."""

import concurrent.futures
import json
import uuid
from pathlib import Path

import httpx
import pytest

from tests.conftest import Service
from tests.tiny import tiny_recipe


@pytest.fixture
def http(service: Service):
    with httpx.Client(base_url=service.url, timeout=60) as client:
        yield client


@pytest.fixture
def held(http: httpx.Client, tiny_data: Path):
    """Post runs that are cancelled again at the end of the test."""
    made: list[str] = []

    def post(**more) -> httpx.Response:
        headers = {"Idempotency-Key": more.pop("key")} if "key" in more else {}
        response = http.post("/runs", json={"recipe": tiny_recipe(tiny_data, steps=5000), **more}, headers=headers)
        if response.status_code == 201 and response.json()["id"] not in made:
            made.append(response.json()["id"])
        return response

    yield post
    for run_id in made:
        http.post(f"/runs/{run_id}:cancel")


def problem(response: httpx.Response, status: int, kind: str) -> dict:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["type"] == f"urn:dayrun:problem:{kind}"
    assert body["detail"]
    assert body["title"]
    return body


def test_fifty_posts_with_one_key_make_one_run(http: httpx.Client, service: Service, tiny_data: Path):
    key, body = str(uuid.uuid4()), {"recipe": tiny_recipe(tiny_data, steps=5000)}
    before = {run.id for run in service.client.runs()}

    def post(_: int) -> httpx.Response:
        with httpx.Client(base_url=service.url, timeout=60) as client:
            while (response := client.post("/runs", json=body, headers={"Idempotency-Key": key})).status_code == 409:
                assert response.headers["Retry-After"] == "1"
                assert "still in flight" in response.json()["detail"]
            return response

    with concurrent.futures.ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(post, range(50)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1  # byte for byte
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 49
    assert {run.id for run in service.client.runs()} - before == {answers[0].json()["id"]}
    service.client.cancel(answers[0].json()["id"])


def test_a_replayed_answer_does_not_follow_the_run(http: httpx.Client, held):
    first = held(key="replay-me")
    http.post(f"/runs/{first.json()['id']}:cancel")
    again = held(key="replay-me")
    assert again.content == first.content
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == f"/runs/{first.json()['id']}"


def test_a_key_with_another_body_is_refused(held):
    held(key="one-body")
    body = problem(held(key="one-body", labels={"other": "body"}), 422, "key-reused")
    assert "'one-body' was used before with another body" in body["detail"]


def test_a_refused_request_leaves_its_key_free(http: httpx.Client, held):
    bad = http.post("/runs", json={"recipe": "nope"}, headers={"Idempotency-Key": "second-try"})
    problem(bad, 422, "invalid-recipe")
    assert held(key="second-try").status_code == 201


def test_a_move_is_idempotent_too(http: httpx.Client, held):
    run_id = held().json()["id"]
    answers = [http.post(f"/runs/{run_id}:cancel", headers={"Idempotency-Key": "cancel-once"}) for _ in range(2)]
    assert [a.status_code for a in answers] == [202, 202]
    assert answers[0].content == answers[1].content


def test_every_error_of_a_recipe_comes_at_once_with_pointer_value_and_nearest(http: httpx.Client, tiny_data: Path):
    recipe = tiny_recipe(tiny_data)
    recipe["model"] |= {"heads": 3, "depht": 2}
    recipe["stages"][0]["batch_size"] = 9
    body = problem(http.post("/runs", json={"recipe": recipe}), 422, "invalid-recipe")
    found = {error["pointer"]: error for error in body["errors"]}
    assert {"/recipe/model/heads", "/recipe/model/depht", "/recipe/stages/0/batch_size"} <= set(found)
    assert found["/recipe/model/depht"]["nearest"] == ["/model/depth"]
    assert found["/recipe/stages/0/batch_size"]["nearest"] == [8, 10]


def test_what_does_not_exist_is_a_problem(http: httpx.Client):
    problem(http.get("/runs/run_nope"), 404, "no-such-run")
    problem(http.post("/runs/run_nope:pause"), 404, "no-such-run")
    problem(http.get("/runs/run_nope/samples/1/x.png"), 404, "no-such-run")
    problem(http.get("/recipes/demp"), 404, "no-such-recipe")
    problem(http.get("/nowhere"), 404, "not-found")
    problem(http.delete("/runs"), 405, "method-not-allowed")


def test_a_body_that_is_not_json_is_a_problem_with_its_place(http: httpx.Client):
    body = problem(http.post("/runs", content=b'{"recipe": }', headers={"Content-Type": "application/json"}), 422, "invalid-request")
    assert "at byte 11" in body["errors"][0]["because"]


def test_too_large_a_body_is_refused(http: httpx.Client):
    problem(http.post("/runs", content=b" " * (9 * 2**20 + 1), headers={"Content-Type": "application/json"}), 413, "body-too-large")


def test_a_page_of_another_origin_may_not_write(http: httpx.Client):
    problem(http.post("/runs", json={"recipe": "demo"}, headers={"Origin": "https://evil.example"}), 403, "forbidden")


def test_a_move_that_the_state_lacks_names_those_that_it_has(http: httpx.Client, held):
    run_id = held().json()["id"]
    body = problem(http.post(f"/runs/{run_id}:resume"), 409, "no-such-move")
    assert body["errors"][0]["nearest"] == ["pause", "cancel"]


def test_if_match_guards_a_move(http: httpx.Client, held):
    run_id = held().json()["id"]
    problem(http.post(f"/runs/{run_id}:pause", headers={"If-Match": '"999"'}), 412, "changed-since")


def test_pages_of_runs_neither_repeat_nor_miss(http: httpx.Client, held):
    made = [held().json()["id"] for _ in range(5)]
    seen, path = [], "/runs?limit=2"
    while path:
        response = http.get(path)
        seen += [run["id"] for run in response.json()["items"]]
        path = response.links["next"]["url"] if "next" in response.links else None
    assert seen == sorted(set(seen), reverse=True)
    assert set(made) <= set(seen)
    some = http.get("/runs", params={"state": ["cancelled"], "limit": 1000}).json()["items"]
    assert {run["state"] for run in some} <= {"cancelled"}


def test_events_stream_goes_on_after_the_last_event_that_was_seen(http: httpx.Client, held):
    run_id = held().json()["id"]
    http.post(f"/runs/{run_id}:cancel")
    with http.stream("GET", f"/runs/{run_id}/events", headers={"Accept": "text/event-stream"}) as response:
        lines = list(response.iter_lines())  # ends by itself: the run is over
    ids = [int(line[4:]) for line in lines if line.startswith("id: ")]
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    assert [event["id"] for event in events] == ids
    assert events[0]["type"] == "run_created"
    assert events[-1]["data"]["to"] == "cancelled"
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(ids[0])}
    with http.stream("GET", f"/runs/{run_id}/events", headers=headers) as response:
        rest = [int(line[4:]) for line in response.iter_lines() if line.startswith("id: ")]
    assert rest == ids[1:]


def test_it_is_alive_and_ready(http: httpx.Client):
    assert http.get("/healthz").json() == {"status": "ok"}
    ready = http.get("/readyz").json()
    assert ready["ready"] is True
    assert (ready["database"], ready["broker"], ready["objects"]) == ("ok", "ok", "ok")


def test_built_in_recipes_can_be_read(http: httpx.Client):
    names = [item["name"] for item in http.get("/recipes").json()["items"]]
    assert {"demo", "prx-24h", "prx-ablation-256"} <= set(names)
    assert http.get("/recipes/prx-24h").json()["hardware"]["nodes"] == 4


def test_the_schema_names_the_errors_of_every_operation(http: httpx.Client):
    schema = http.get("/openapi.json").json()
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            if "{" in path and method in ("get", "post"):
                assert "404" in operation["responses"], f"{method} {path}"
