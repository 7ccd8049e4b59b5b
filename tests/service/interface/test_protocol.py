"""What every operation does alike: request ids, HEAD, OPTIONS, 405."""

import httpx
import pytest


def test_a_request_keeps_the_id_that_it_came_with(http: httpx.Client):
    response = http.get("/runs/run_nope", headers={"X-Request-Id": "build-42/retry.1"})
    assert response.headers["X-Request-Id"] == response.json()["request_id"] == "build-42/retry.1"


@pytest.mark.parametrize("sent", ["", "x" * 101, "two words", "a\tb", "é", "<script>"])
def test_an_id_that_would_harm_a_log_is_replaced(http: httpx.Client, sent: str):
    response = http.get("/healthz", headers=[(b"X-Request-Id", sent.encode())])
    assert len(response.headers["X-Request-Id"]) == 32
    assert response.headers["X-Request-Id"] != http.get("/healthz").headers["X-Request-Id"]


@pytest.mark.parametrize("path", ["/runs", "/runs/{run}", "/runs/{run}/events", "/recipes", "/healthz", "/metrics", "/", "/web/app.js"])
def test_head_is_get_without_the_body(http: httpx.Client, run_id: str, path: str):
    got, head = http.get(path.format(run=run_id)), http.head(path.format(run=run_id))
    assert head.status_code == got.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == got.headers["content-type"]
    assert head.headers.get("etag") == got.headers.get("etag")


def test_head_of_a_stream_ends(http: httpx.Client, run_id: str):
    assert http.head(f"/runs/{run_id}/events", headers={"Accept": "text/event-stream"}).status_code == 200


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/runs", "GET, HEAD, OPTIONS, POST"),
        ("/runs/{run}", "GET, HEAD, OPTIONS"),
        ("/runs/{run}:pause", "OPTIONS, POST"),
        ("/recipes/demo", "GET, HEAD, OPTIONS"),
    ],
)
def test_options_and_405_name_the_methods_that_there_are(http: httpx.Client, run_id: str, path: str, allowed: str):
    options, refused = http.options(path.format(run=run_id)), http.request("TRACE", path.format(run=run_id))
    assert (options.status_code, options.content) == (204, b"")
    assert refused.status_code == 405
    assert refused.json()["type"] == "urn:dayrun:problem:method-not-allowed"
    assert options.headers["Allow"] == refused.headers["Allow"]
    methods = refused.headers["Allow"].split(", ")
    assert set(allowed.split(", ")) <= set(methods)
    assert methods == sorted(methods)
