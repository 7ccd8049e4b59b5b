"""What no client should send and some will: each is told what is wrong, in bounded time, and the service goes on."""

import socket
import uuid
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

BIG = 9 * 2**20
JSON = {"Content-Type": "application/json"}


def problem(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["type"] == f"urn:dayrun:problem:{kind}"
    assert body["request_id"] == response.headers["X-Request-Id"]
    return body


def spoken(url: str, text: bytes) -> bytes:
    """What the server says to raw bytes, until it closes."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port), timeout=60) as connection:
        connection.sendall(text)
        said = b""
        while chunk := connection.recv(65536):
            said += chunk
    return said


@pytest.mark.parametrize(
    ("body", "at", "because"),
    [
        (b'{"recipe": "demo", "labels": {"a": "\\u0000"}}', "/labels/a", "NUL"),
        (b'{"recipe": "demo", "labels": {"a\\u0000": "b"}}', "/labels", "NUL"),
        (b'{"recipe": {"name": "\\ud800"}}', "/recipe/name", "surrogate"),
        (b'{"recipe": {"loss": NaN}}', "/recipe/loss", "finite"),
        (b'{"recipe": {"loss": -Infinity}}', "/recipe/loss", "finite"),
        (b'{"recipe": {"loss": 1e999}}', "/recipe/loss", "finite"),
        (b'{"recipe": {"loss": ' + b"9" * 5000 + b"}}", "/recipe/loss", "finite"),
        (b'{"recipe": ' + b"[" * 100 + b"]" * 100 + b"}", None, "deep"),
        (b'{"recipe": ' + b"[" * 15_000 + b"]" * 15_000 + b"}", "", "deep"),
        (b'{"recipe": ' + b'{"a":' * 15_000 + b"1" + b"}" * 15_001, "", "deep"),
        (b'{"recipe": [' + b"[]," * 2_000_000 + b"[]]}", "", "4,000,003"),
        (b'{"recipe": "d\xff"}', "", "UTF-8"),
        (b'{"recipe": "d\xed\xa0\x80"}', "", "UTF-8"),
        ('{"recipe": "demo"}'.encode("utf-16-le"), "", "NUL"),
        ('{"recipe": "demo"}'.encode("utf-16"), "", "UTF-8"),
        (b'{"recipe": "demo"', "", "not JSON"),
    ],
)
def test_a_body_that_nobody_could_use_is_invalid_at_its_place(http: httpx.Client, body: bytes, at: str | None, because: str):
    found = problem(http.post("/runs", content=body, headers=JSON), 422, "invalid-request")
    assert because in found["errors"][0]["because"]
    assert at is None or found["errors"][0]["pointer"] == at


@pytest.mark.parametrize("text", ["NaN", "Infinity", "\\\\u0000", "\\u00e9", "1e999", "🎨", "9" * 40])
def test_what_looks_wrong_within_a_text_is_a_text(http: httpx.Client, text: str):
    response = http.post("/runs", content=f'{{"recipe": "demo", "labels": {{"a": "{text}"}}}}'.encode(), headers=JSON)
    assert response.status_code == 201, response.text


def test_an_answer_is_never_much_longer_than_what_was_wrong(http: httpx.Client):
    labels = {f"label {number}" * 20: "" for number in range(19_000)}
    response = http.post("/runs", json={"recipe": "demo", "labels": labels})
    problem(response, 422, "invalid-request")
    assert len(response.content) < 100_000
    response = http.post("/runs", json={"recipe": "x" * 8_000_000})
    problem(response, 422, "invalid-recipe")
    assert len(response.content) < 10_000


@pytest.mark.parametrize("field", ["x" * 1_000_000, None])
def test_a_recipe_of_nonsense_is_judged_in_bounded_time(http: httpx.Client, field: str | None):
    recipe = {field: 1} if field else {f"x{number}": number for number in range(19_000)}
    response = http.post("/runs", json={"recipe": recipe}, timeout=30)
    problem(response, 422, "invalid-recipe")
    assert len(response.content) < 200_000


def test_a_body_that_says_it_is_too_long_is_refused_unread(url: str):
    head = f"POST /runs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {BIG + 1}\r\nConnection: close\r\n\r\n"
    assert b" 413 " in spoken(url, head.encode()).partition(b"\r\n")[0]


def test_a_body_in_chunks_is_refused_at_the_first_byte_too_many(http: httpx.Client):
    sent = 0

    def chunks():
        nonlocal sent
        for _ in range(100):
            sent += 2**20
            yield b" " * 2**20

    try:
        problem(http.post("/runs", content=chunks(), headers=JSON), 413, "body-too-large")
    except httpx.WriteError:  # the answer was given, the connection closed, and we had not stopped sending
        assert sent < 100 * 2**20


def test_a_body_in_chunks_is_taken(http: httpx.Client):
    response = http.post("/runs", content=iter([b'{"recipe":', b' "demo"}']), headers=JSON)
    assert response.status_code == 201


@pytest.mark.parametrize("length", ["-1", "1e3", "0x10", "12, 13", "9" * 30])
def test_a_content_length_that_is_none_is_a_bad_request(url: str, length: str):
    head = f"POST /runs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{{}}"
    assert spoken(url, head.encode()).partition(b"\r\n")[0].split()[1] in (b"400", b"413")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp", ""])
def test_a_body_that_is_no_json_by_its_type_is_unsupported(http: httpx.Client, kind: str):
    response = http.post("/runs", content=b'{"recipe": "demo"}', headers={"Content-Type": kind} if kind else {})
    assert "application/json" in problem(response, 415, "unsupported-media-type")["detail"]


def test_json_may_say_which_json_it_is(http: httpx.Client):
    for kind in ("application/json; charset=utf-8", "Application/JSON", "application/merge-patch+json"):
        assert http.post("/runs", content=b'{"recipe": "demo"}', headers={"Content-Type": kind}).status_code == 201


@pytest.mark.parametrize(
    "path",
    [
        "/runs/{run}/events?cursor=9223372036854775808",
        "/runs/{run}/events?cursor=" + "9" * 4000,
        "/runs/{run}/samples?step=99999999999999999999",
        "/runs/{run}/samples/99999999999999999999/x.png",
        "/runs/{run}/logs?attempt=99999999999999999999",
        "/runs/{run}/logs?tail=-1",
        "/runs/{run}/metrics?points=1e3",
        "/runs?limit=0",
        "/runs?limit=nan",
        "/runs?created_before=0",
        "/audit?until=0",
        "/runs?state=asleep",
        "/runs?cursor=%00",
        "/runs/{run}/metrics?names=a%00b",
    ],
)
def test_a_parameter_out_of_range_is_invalid(http: httpx.Client, run_id: str, path: str):
    problem(http.get(path.format(run=run_id)), 422, "invalid-request")


@pytest.mark.parametrize(
    "path", ["/runs/%00", "/runs/a%00b/events", "/recipes/%00", "/runs/%ff%fe", "/runs/" + "x" * 3000, "/runs/%F0%9F%8E%A8"]
)
def test_an_id_that_nothing_can_have_is_not_found(http: httpx.Client, path: str):
    assert http.get(path).status_code == 404
    assert http.post(f"{path}:pause", headers={"Idempotency-Key": str(uuid.uuid4())}).status_code in (404, 405)


@pytest.mark.parametrize(
    "path", ["/runs/%2e%2e/events", "/runs/x/samples/1/..%2f..%2fdayrun.db", "/web/..%2f..%2fapp.py", "/web/%2e%2e/app.py"]
)
def test_a_path_leads_nowhere_else(http: httpx.Client, path: str):
    assert http.get(path).status_code == 404


def test_headers_of_any_bytes_are_taken_or_refused(http: httpx.Client, run_id: str):
    for key in (b"\xff\xfe", "Schlüssel".encode(), b"\x80" * 255, b'"quoted"'):
        assert http.post("/runs", json={"recipe": "demo"}, headers=[(b"Idempotency-Key", key)]).status_code == 201
    for key in (b"", b"x" * 256):
        problem(http.post("/runs", json={"recipe": "demo"}, headers=[(b"Idempotency-Key", key)]), 422, "invalid-request")
    problem(http.post(f"/runs/{run_id}:pause", headers=[(b"If-Match", b"\xff")]), 412, "changed-since")
    problem(http.get(f"/runs/{run_id}/events", headers=[(b"Last-Event-ID", b"\xff")]), 422, "invalid-request")
    assert http.get("/runs", headers=[(b"Accept", b"\xff\xfe;q=\xff")]).status_code == 200
    assert http.post("/runs", json={"recipe": "demo"}, headers={"Origin": "http://[::1"}).status_code == 403


def test_a_long_path_keeps_its_keys_apart(http: httpx.Client):
    first, second = (f"/runs/{'x' * 400}{end}:pause" for end in "ab")
    for path in (first, second, first):
        problem(http.post(path, headers={"Idempotency-Key": "one"}), 404, "no-such-run")


def test_a_parameter_that_comes_twice_is_a_list_or_its_last(http: httpx.Client):
    assert http.get("/runs?state=queued&state=paused&limit=5&limit=1").status_code == 200
    assert len(http.get("/runs?limit=5&limit=1").json()["items"]) == 1


def test_a_recipe_of_enormous_numbers_is_invalid(http: httpx.Client):
    stage = http.get("/recipes/demo").json()["stages"][0]
    for overrides in ({"stages": [stage | {"steps": 10**10}]}, {"retries": {"attempts": 10**10}}, {"hardware": {"nodes": 10**10}}):
        body = problem(http.post("/runs", json={"recipe": "demo", "overrides": overrides}), 422, "invalid-recipe")
        assert body["errors"][0]["value"] == 10**10


def test_if_match_takes_any_of_a_list_and_the_star(http: httpx.Client):
    run = http.post("/runs", json={"recipe": "demo"})
    problem(http.post(f"{run.headers['Location']}:pause", headers={"If-Match": 'W/"1"'}), 412, "changed-since")
    assert http.post(f"{run.headers['Location']}:pause", headers={"If-Match": '"7", "1"'}).status_code == 202
    assert http.post(f"{run.headers['Location']}:cancel", headers={"If-Match": "*"}).status_code == 202
