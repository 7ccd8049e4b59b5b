"""Every query of every panel, on a real Prometheus beside a service with two runs: each finds data, or is listed here with the reason.

One run is over, one trains until the test is: its data come from an object store through the cache, and one of its samples is no number.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dayrun.client import Client, Run
from helm.boards import ask
from helm.boards.ask import Reader, Refused, Window
from helm.boards.draw import WIDTH, draw
from service.parts import S3
from service.prometheus import Prometheus
from tests.conftest import Service, until
from tests.dashboards.test_boards import BOARDS
from tests.tiny import tiny_recipe, write_data
from tests.trainer.test_shelves import upload

SCRAPE_SECONDS = 1.0
GPU = "there is no GPU, and so no DCGM exporter"
PODS = "there is no Kubernetes, and so neither kube-state-metrics nor a kubelet"
EMPTY: dict[tuple[str, str, str], str] = {
    **{("run", title, "A"): GPU for title in ("Streaming multiprocessors at work", "Tensor cores at work", "Power", "Memory in use")},
    **{("control-plane", title, "A"): PODS for title in ("Restarts", "Pods by phase", "Memory")},
    ("control-plane", "Expires in", "A"): "a service on the loopback address asks for no key, and so none is in use",
    ("control-plane", "Failures by route", "A"): "no request fails, and routes that never failed have no series",
}
"""(dashboard, panel, query): why there is nothing to see."""
SILENT_MARKS = {
    "Stopping": "nobody stops the run while it is looked at",
    "Alert": "no alert is about the run",
}


class Seen(NamedTuple):
    prometheus: ask.Prometheus
    client: Client
    begin: float
    run: Run

    def window(self) -> Window:
        return Window(self.begin, time.time(), SCRAPE_SECONDS)

    def reader(self, name: str, **chosen: str) -> Reader:
        return Reader(BOARDS[name], self.prometheus, self.window(), ({"run": self.run.id} if name == "run" else {}) | chosen)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    folder = tmp_path_factory.mktemp("dashboards")
    store = S3(folder)
    store.start()
    store.create_bucket("tiny")
    with pytest.MonkeyPatch.context() as patched:
        for name, value in store.environment.items():
            patched.setenv(name, value)
        data = write_data(folder / "data", infinite={3})
        upload(data, "s3://tiny/data")
        upload(write_data(folder / "clean"), "s3://tiny/clean")  # a score that is no number would be nothing to see
        certificate(folder / "proxy.pem")
        begin = time.time()
        service = Service(folder / "home", {"DAYRUN_ACCELERATORS": "8", "DAYRUN_CERTIFICATES": str(folder / "proxy.pem")})
        target = service.url.removeprefix("http://")
        prometheus = Prometheus(folder, [target], SCRAPE_SECONDS, labels={"cluster": "here", "namespace": "dayrun"})
        prometheus.start()
        try:
            # what happened before the first look is no increase to Prometheus
            until(lambda: prometheus.query("dayrun_queue_wait_seconds_count"), "Prometheus' first look", pause=0.1)
            run = two_runs(service, data)
            yield Seen(ask.Prometheus(prometheus.url), service.client, begin, run)
            service.client.cancel(run.id)
            service.end(run)
        finally:
            assert service.stop() == 0
            prometheus.stop()
            store.stop()


def two_runs(service: Service, data: Path) -> Run:
    """The one that trains on; the other is over."""
    client = service.client
    project = client.project("default")
    client.change_project(project, dollars_per_day=1e6, dollars_per_month=1e6)
    short = client.create_run(tiny_recipe(data, steps=20, processes=1))
    url = "s3://tiny/data"
    endless: dict[str, Any] = {
        "data": {"sources": [{"url": url}], "threads": 1, "cache": {"folder": str(service.home / "cache")}},
        "evaluation": {
            "every": 100,
            "metrics": ["validation_loss"],
            "validation_samples": 8,
            "guidance": 1.0,
            "reference": "s3://tiny/clean",
        },
        "limits": {"dollars": 1e6},
    }
    run = client.create_run(tiny_recipe(url, steps=1_000_000, **endless))
    service.end(short)
    return run


def certificate(file: Path) -> None:
    key, name, now = ec.generate_private_key(ec.SECP256R1()), x509.Name([]), datetime.now(UTC)
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    signed = built.not_valid_before(now).not_valid_after(now + timedelta(days=30)).sign(key, hashes.SHA256())
    file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))


def empty(seen: Seen, name: str) -> set[tuple[str, str, str]]:
    seen.client.run(seen.run.id)  # somebody asks the service for something all the while
    return {(name, answer.panel, answer.ref) for answer in seen.reader(name).answers() if answer.empty}


@pytest.mark.parametrize("name", BOARDS)
def test_every_query_of_every_panel_finds_data_or_is_listed_with_the_reason(seen: Seen, name: str):
    listed = {key for key in EMPTY if key[0] == name}
    try:
        until(lambda: empty(seen, name) <= listed, f"queries of {name} to find data", pause=1.0)
    except AssertionError as error:
        raise AssertionError(f"find nothing, and are not listed: {sorted(empty(seen, name) - listed)}") from error
    assert empty(seen, name) == listed, "finds data, too: take it off the list"


def test_everything_that_is_listed_exists():
    panels = {
        (name, panel["title"], target["refId"])
        for name, board in BOARDS.items()
        for panel in ask.panels_of(board)
        for target in panel["targets"]
    }
    assert set(EMPTY) <= panels


def test_marks_are_set_where_something_happened(seen: Seen):
    def silent() -> set[str]:
        return {answer.panel for answer in seen.reader("run").annotations() if answer.empty}

    until(lambda: silent() <= set(SILENT_MARKS), "marks", pause=1.0)
    assert silent() == set(SILENT_MARKS)


def test_the_lists_offer_what_there_is(seen: Seen):
    reader = seen.reader("run")
    lists = {variable["name"]: variable for variable in reader.board["templating"]["list"]}
    offered = {name: reader.offered(lists[name]) for name in ("cluster", "namespace", "run", "pods")}
    assert offered["cluster"] == {"here": "here"}
    assert offered["namespace"] == {"dayrun": "dayrun"}
    assert offered["run"][seen.run.id] == f"tiny · {seen.run.id}"
    assert list(offered["pods"]) == [seen.run.id.replace("_", "-")]
    projects = next(one for one in BOARDS["fleet"]["templating"]["list"] if one["name"] == "project")
    assert "default" in seen.reader("fleet").offered(projects)


def test_a_choice_narrows_what_is_seen_and_a_wrong_one_is_refused(seen: Seen):
    held = next(panel for panel in ask.panels_of(BOARDS["fleet"]) if panel["title"] == "Accelerators held")
    chosen = seen.reader("fleet", cluster="here", namespace="dayrun", project="default")
    assert not chosen.answer(held, held["targets"][0]).empty
    with pytest.raises(Refused, match=r"'elsewhere' is not in the list of \$cluster: \['here'\]"):
        seen.reader("fleet", cluster="elsewhere")


def test_a_query_that_prometheus_refuses_is_told_with_its_text(seen: Seen):
    reader = seen.reader("fleet")
    with pytest.raises(Refused, match=r"(?s)parse error.*in: rate\(x"):
        reader.answer({"title": "wrong"}, {"refId": "A", "expr": "rate(x[$__rate_interval]"})
    with pytest.raises(Refused, match=r"\$nonsense is neither a variable"):
        reader.filled('x{a="$nonsense"}')


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_is_drawn_with_something_in_each_panel_that_has_data(seen: Seen, name: str):
    picture = draw(seen.reader(name))
    assert picture.width == WIDTH
    listed = {key[1] for key in EMPTY if key[0] == name}
    for panel in ask.panels_of(BOARDS[name]):
        place = panel["gridPos"]
        box = [
            WIDTH * place["x"] // 24 + 12,
            64 + 38 * place["y"] + 32,
            WIDTH * (place["x"] + place["w"]) // 24 - 12,
            64 + 38 * (place["y"] + place["h"]) - 16,
        ]
        colours = picture.crop(tuple(box)).convert("RGB").getcolors(1 << 16)
        assert colours is not None
        vivid = [colour for _, colour in colours if max(colour) - min(colour) > 60]  # the ground and the words are grey
        assert vivid or panel["title"] in listed or panel["type"] == "stat", f"nothing is drawn in {panel['title']!r}"
