"""One trace from a request to the trainer's first step, as a collector of OpenTelemetry receives it, and log lines that name it."""

import gzip
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from dayrun.client import Client
from tests.conftest import Service, until
from tests.tiny import tiny_recipe

OURS = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
"""Trace and span of whoever asks."""


class Collector:
    """What a collector does of OTLP over HTTP: takes protobuf at /v1/traces, and here keeps it."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body, self.path)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, body: bytes, path: str) -> None:
        assert path == "/v1/traces"
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = plain(group.resource.attributes)
            for scope in group.scope_spans:
                for span in scope.spans:
                    about = {"name": span.name, "trace": span.trace_id.hex(), "id": span.span_id.hex(), "parent": span.parent_span_id.hex()}
                    times = {"begun": span.start_time_unix_nano, "ended": span.end_time_unix_nano}
                    self.spans.append({**about, **times, "resource": resource, **plain(span.attributes)})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def named(self, name: str, trace: str = OURS[0]) -> list[dict[str, Any]]:
        return [span for span in self.spans if (span["name"], span["trace"]) == (name, trace)]


def plain(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Of a log in which every line is JSON."""
    return [json.loads(line) for line in path.read_text().splitlines()]


class Traced:
    def __init__(self, service: Service, collector: Collector, run: str) -> None:
        self.service, self.collector, self.run = service, collector, run


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, tiny_data: Path) -> Iterator[Traced]:
    """A run that was asked for within a trace, trained to its end by a service that traces and logs JSON."""
    collector = Collector()
    settings = {"DAYRUN_OTLP_ENDPOINT": collector.url, "DAYRUN_LOG_FORMAT": "json", "OTEL_BSP_SCHEDULE_DELAY": "100"}
    service = Service(tmp_path_factory.mktemp("home"), settings)
    try:
        body = {"recipe": tiny_recipe(tiny_data, steps=10)}
        headers = {"traceparent": f"00-{OURS[0]}-{OURS[1]}-01", "X-Request-Id": "mine"}
        answer = httpx.post(f"{service.url}/runs", json=body, headers=headers)
        assert answer.status_code == 201, answer.text
        run = answer.json()["id"]
        until(lambda: service.client.run(run).over, "the run to be over")
        until(lambda: len(collector.named("first step")) == 2, "the first step of both ranks")
        assert service.client.run(run).state == "succeeded"
        yield Traced(service, collector, run)
    finally:
        assert service.stop() == 0
        collector.close()


def test_one_trace_goes_from_the_request_to_the_first_step_of_every_rank(traced: Traced):
    collector = traced.collector
    (request,) = collector.named("POST /runs")
    assert (request["parent"], request["dayrun.run"], request["dayrun.request"]) == (OURS[1], traced.run, "mine")
    assert (request["http.route"], request["http.response.status_code"]) == ("/runs", 201)
    # by the hint or by a sweep, and again by every look until the launcher is seen at work: a launch may be done twice
    launches, looks = collector.named("launch"), collector.named("look")
    assert {look["parent"] for look in looks} <= {request["id"]}
    assert {launch["parent"] for launch in launches} <= {request["id"], *(look["id"] for look in looks)}
    starts = collector.named("start")
    assert len({start["parent"] for start in starts} & {launch["id"] for launch in launches}) == 1
    assert sorted(start["resource"]["dayrun.rank"] for start in starts) == [0, 1]
    for start in starts:
        parts = sorted((span for span in collector.spans if span["parent"] == start["id"]), key=lambda span: span["begun"])
        assert [part["name"] for part in parts] == ["import", "join", "model", "data and pictures", "first step"]
        assert all(before["ended"] == after["begun"] for before, after in pairwise(parts))
        assert (parts[0]["begun"], start["resource"]["service.name"]) == (start["begun"], "dayrun-trainer")


def test_the_run_tells_its_trace(traced: Traced):
    created, *_ = traced.service.client.events(traced.run)
    assert (created.type, created.data["traceparent"].split("-")[1]) == ("run_created", OURS[0])


def test_a_traceparent_that_is_none_begins_another_trace(traced: Traced):
    for wrong in ("00-" + "0" * 32 + "-" + OURS[1] + "-01", "nonsense", "ff-" + "-".join(OURS) + "-01"):
        httpx.get(f"{traced.service.url}/runs/{traced.run}", headers={"traceparent": wrong, "X-Request-Id": wrong[:10]}).raise_for_status()
        (span,) = until(lambda name=wrong[:10]: [one for one in traced.collector.spans if one.get("dayrun.request") == name], "a span")
        assert (span["parent"], span["trace"] in (OURS[0], "0" * 32)) == ("", False)


def test_the_client_goes_on_with_the_trace_of_its_environment(traced: Traced, monkeypatch: pytest.MonkeyPatch):
    other = "4bf92f3577b34da6a3ce929d0e0e4736"
    monkeypatch.setenv("TRACEPARENT", f"00-{other}-{OURS[1]}-01")
    with Client(traced.service.url) as client:
        client.run(traced.run)
    (span,) = until(lambda: traced.collector.named("GET /runs/{run_id}", other), "the span of the request")
    assert (span["parent"], span["dayrun.run"]) == (OURS[1], traced.run)


def test_probes_make_no_spans(traced: Traced):
    for path in ("/healthz", "/readyz", "/metrics"):
        httpx.get(traced.service.url + path).raise_for_status()
    httpx.get(f"{traced.service.url}/runs", headers={"X-Request-Id": "afterwards"}).raise_for_status()
    until(lambda: [one for one in traced.collector.spans if one.get("dayrun.request") == "afterwards"], "the span of what came later")
    assert [one["name"] for one in traced.collector.spans if re.search("healthz|readyz|metrics", one["name"])] == []


def test_every_line_of_the_logs_is_json_and_names_its_run_and_trace(traced: Traced):
    home, run, trace = traced.service.home, traced.run, OURS[0]
    api = [line for line in lines_of(home / "logs/api.log") if line.get("request_id") == "mine"]
    assert [(line["message"], line["status"], line["run"], line["trace_id"]) for line in api] == [("POST /runs: 201", 201, run, trace)]
    worker = [line for line in lines_of(home / "logs/worker.log") if line.get("run") == run]
    assert {(line["message"], line["attempt"], line["trace_id"]) for line in worker} == {("launching attempt 1", 1, trace)}
    printed = (home / "launches" / f"{run}-0001" / "launcher.log").read_text().splitlines()
    trainer = [json.loads(line) for line in printed if line.startswith("{")]  # torchrun's own few lines are none
    assert {(line["run"], line["attempt"], line["trace_id"]) for line in trainer} == {(run, 1, trace)}
    assert {line["rank"] for line in trainer} == {0}  # what rank 0 tells; the others print what goes wrong with them
    assert any("attempt_started" in line["message"] for line in trainer)
    folder = (home / "runs" / run / "logs/0001").iterdir()
    assert not any(line.startswith("{") for path in folder for line in path.read_text().splitlines())  # for people, as it was printed
