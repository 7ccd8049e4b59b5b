"""What /metrics tells of runs, money and the control plane, on both databases: attempts run on machines that only keep count."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from sqlalchemy import event, text, update

from dayrun.objects import Prefix
from dayrun.run_folder import RunFolder
from service.app import create_app
from service.broker import make_celery, send_hint
from service.database import now
from service.metrics.catalogue import CATALOGUE, GROUPS, LABELS, MOST_RUNS, Source
from service.metrics.queue import Queue
from service.parts import program
from service.runs import repository
from service.runs.states import State
from service.runs.tables import RunRow
from service.settings import Settings
from service.stack import Stack
from tests.conftest import cluster
from tests.service.conftest import new_database
from tests.service.inside import inside
from tests.service.scraped import Scraped
from tests.service.test_money import House, opened
from trainer.telemetry import Telemetry

AT = datetime(2026, 11, 28, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgres"])
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    """One with eight accelerators."""
    address = new_database(request.getfixturevalue("stack")) if request.param == "postgres" else None
    async with opened(Settings(home=tmp_path, accelerators=8, database=address)) as house:
        yield house


async def scraped(http: httpx.AsyncClient) -> Scraped:
    answer = await http.get("/metrics")
    assert answer.status_code == 200, answer.text
    return Scraped(answer.text)


def trains(house: House, run: dict[str, Any], attempt: int = 1, step: int = 10, **values: float) -> None:
    """As a trainer would write it."""
    folder = RunFolder(Prefix(house.settings.run_url(run["id"])))
    folder.claim_attempt(attempt, {})
    telemetry = Telemetry(folder, attempt, 0)
    telemetry.event("attempt_started", 0, world_size=2, device="cpu", host="here")
    telemetry.metric(step, **values)
    telemetry.event("checkpoint_saved", step, seconds=1.5, stalled_seconds=0.25, bytes=1000)
    telemetry.event("step_skipped", step, loss=None)
    telemetry.close()


async def test_a_live_run_has_series_that_go_with_its_attempt(house: House):
    run = await house.post(accelerators=2, dollars=50.0)
    await house.sweep()
    trains(
        house,
        run,
        loss=0.5,
        step_seconds=2.0,
        data_wait_seconds=0.25,
        own_seconds_rank_1=1.5,
        loss_time_0_30=0.1,
        samples_read=64.0,
        cache_hits=7.0,
    )
    await house.sweep()
    told, own = await scraped(house.http), {"run": run["id"]}
    assert told("dayrun_run_info", **own, name=run["name"], project="default", accelerator="cpu") == 1
    assert told("dayrun_run_state", **own, state="running") == 1
    assert told("dayrun_run_loss", **own) == 0.5
    assert told("dayrun_run_step_part_seconds", **own, part="data_wait") == 0.25
    assert told("dayrun_run_loss_by_noise", **own, noise="0_30") == 0.1
    assert told("dayrun_run_rank_step_seconds", **own, rank="1") == 1.5
    assert told("dayrun_run_cache_reads_total", **own, result="hit") == 7
    assert told("dayrun_run_cache_reads_total", **own, result="wait") == 0
    assert told("dayrun_run_samples_read_total", **own) == 64
    assert told("dayrun_run_troubles_total", **own, type="step_skipped") == 1
    assert (told("dayrun_run_step", **own), told("dayrun_run_steps_planned", **own)) == (10, 10**8)
    assert told("dayrun_run_eta_seconds", **own) == (10**8 - 10) * 2.0
    assert told("dayrun_run_checkpoint_due_seconds", **own) == 40.0  # every 20 steps
    assert told("dayrun_run_checkpoint_bytes", **own) == 1000
    assert told("dayrun_run_budget_dollars", **own) == 50.0
    assert told("dayrun_run_dollars_per_hour", **own) == 72.0
    assert told("dayrun_run_estimate_ratio", **own) > 1000  # of the hours that its limit allows
    live = {figure.name for source, figures in GROUPS.values() if source == Source.RUN for figure in figures}
    assert {name for name, labels in told.series if "run" in dict(labels)} <= live
    house.machines.end(run["id"], 1, 0)
    await house.cancel(run)
    assert run["id"] not in (await scraped(house.http)).text


async def test_counters_of_attempts_are_the_same_from_every_process_and_after_a_restart(house: House):
    run = await house.post(accelerators=2, overrides={"retries": {"wait_seconds": 3600}})
    await house.sweep()
    trains(house, run, loss=0.5)
    await house.sweep()
    await house.let_hours_pass(run, 2.0)
    house.machines.end(run["id"], 1, code=1)
    await house.sweep()
    first = await scraped(house.http)
    assert first("dayrun_attempts_total", project="default", cause="unknown") == 1
    assert first("dayrun_attempt_dollars_total", project="default") == pytest.approx(2 * 2 * 36.0, rel=0.01)
    assert first("dayrun_attempt_accelerator_seconds_total", project="default") == pytest.approx(2 * 7200, rel=0.01)
    assert first("dayrun_queue_wait_seconds_count") == 1
    assert first("dayrun_queue_wait_seconds_bucket", le="3600.0") == 1
    assert first("dayrun_first_step_seconds_count") == 1
    async with opened(house.settings) as other:  # another process, or the same one started anew
        second = await scraped(other.http)
    for name, figure in CATALOGUE.items():
        if figure.kind == "counter" and name in {one.name for one in GROUPS["Runs and money"][1]}:
            assert {k: v for k, v in first.series.items() if k[0] == name} == {k: v for k, v in second.series.items() if k[0] == name}
    async with house.database.write() as session:
        await session.execute(update(RunRow).values(next_attempt_at=now()))
    await house.worker.look(run["id"])
    house.machines.end(run["id"], 2, 0)
    await house.cancel(run)
    last = await scraped(house.http)
    assert last("dayrun_attempts_total", project="default", cause="none") == 1
    assert last("dayrun_attempt_dollars_total", project="default") >= first("dayrun_attempt_dollars_total", project="default")


async def test_money_of_the_day_and_what_a_budget_has_left(house: House):
    await house.allow(dollars_per_day=100.0)
    run = await house.post(accelerators=2, dollars=60.0)
    await house.spend(run, 30.0)
    told = await scraped(house.http)
    assert told("dayrun_spent_dollars", project="default", period="day") == pytest.approx(30.0)
    assert told("dayrun_budget_left_dollars", project="default", period="day") == pytest.approx(70.0)
    assert told("dayrun_accelerators_max") == 8
    assert told.labels("dayrun_budget_dollars", "period") == {"day"}


async def test_an_answer_costs_as_many_queries_with_ten_thousand_runs_as_with_one(house: House):
    statements: list[str] = []
    event.listen(house.database.engine.sync_engine, "before_cursor_execute", lambda *args: statements.append(args[2]))

    async def asked() -> tuple[list[str], Scraped]:
        statements.clear()
        told = await scraped(house.http)
        return list(statements), told

    await house.post()
    await house.sweep()
    few, before = await asked()
    async with house.database.write() as session:
        template = dict((await session.execute(text("SELECT * FROM runs"))).mappings().one())
        states = [State.SUCCEEDED if number % 20 else State.RUNNING for number in range(10_000)]
        rows = [{**template, "id": f"run_{number:05d}", "state": str(state)} for number, state in enumerate(states)]
        columns, values = ", ".join(template), ", ".join(f":{column}" for column in template)
        await session.execute(text(f"INSERT INTO runs ({columns}) VALUES ({values})"), rows)
    many, after = await asked()
    assert many == few
    assert after("dayrun_live_runs") == 501
    assert after("dayrun_live_runs_dropped") == 501 - MOST_RUNS
    assert len(after.labels("dayrun_run_info", "run")) == MOST_RUNS
    assert len(after.series) < len(before.series) + MOST_RUNS * 30


async def test_without_its_database_a_process_still_tells_what_it_knows(tmp_path: Path, stack: Stack):
    async with opened(Settings(home=tmp_path, database=new_database(stack))) as house:
        assert (await scraped(house.http))("dayrun_part_up", part="database") == 1
        app = create_app(house.settings.model_copy(update={"database": "postgresql://nobody:x@127.0.0.1:1/none"}))
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://dayrun") as http:
        told = await scraped(http)
    assert told("dayrun_part_up", part="database") == 0
    assert told("dayrun_part_up", part="objects") == 1
    assert "dayrun_runs" not in told.names
    assert "process_resident_memory_bytes" in told.names


async def test_sweeps_and_stolen_leases_are_counted_in_the_database(house: House):
    run = await house.post()
    await house.sweep()
    async with house.database.write() as session:
        gone = {"leased_by": "one that died", "leased_until": now() - timedelta(seconds=1)}
        await session.execute(update(RunRow).values(**gone))
    await house.worker.look(run["id"])
    async with house.database.write() as session:
        await repository.beat(session, "worker")
        await repository.swept(now() - timedelta(seconds=3), session)
    told = await scraped(house.http)
    assert told("dayrun_lease_steals_total") == 1
    assert told("dayrun_sweep_seconds_count") == 1
    assert 3 <= told("dayrun_sweep_seconds_sum") < 60
    assert told("dayrun_reconcile_lag_seconds") >= 3
    assert told("dayrun_worker_silent_seconds") < 60
    assert told("dayrun_outbox_rows") > 0  # nobody drains it here
    assert told("dayrun_outbox_oldest_seconds") > 0


# ---- the broker, keys, certificates, requests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("broker", ["folder", "valkey"])
async def test_the_brokers_queue_is_as_deep_and_as_old_as_its_hints(request: pytest.FixtureRequest, tmp_path: Path, broker: str):
    address = cluster(request.getfixturevalue("stack"), f"queue-{time.time_ns()}")["DAYRUN_BROKER"] if broker == "valkey" else None
    settings = Settings(home=tmp_path, broker=address)
    queue, app = Queue(settings), make_celery(settings)
    assert await queue.depth() == (0, 0.0) or await queue.depth() is None
    sent = time.monotonic()
    for number in range(3):
        assert send_hint(app, f"run_{number}")
    depth = await queue.depth()
    assert depth is not None
    assert depth.messages == 3
    assert 0 < depth.oldest_seconds < time.monotonic() - sent + 1.5  # `expires` is told in whole seconds by some versions
    queue.close()
    assert await Queue(Settings(home=tmp_path, broker="redis://127.0.0.1:1/0")).depth() is None


async def test_keys_that_expire_are_told_by_project_and_those_out_of_use_are_not(tmp_path: Path):
    async with inside(tmp_path) as house:
        used = await house.key(days=10)
        await house.key(days=5)  # never used
        assert (await house.ask("GET", "/runs", used)).status_code == 200
        told = Scraped((await house.ask("GET", "/metrics", house.operator)).text)
        when = datetime.fromtimestamp(told("dayrun_key_expiry_timestamp_seconds", project="default"), UTC)
        assert timedelta(days=9) < when - now() <= timedelta(days=10)


def certificate(file: Path, until: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "dayrun")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    signed = made.not_valid_before(AT).not_valid_after(until).sign(key, hashes.SHA256())
    file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))


async def test_certificates_are_read_and_one_that_cannot_be_counts_as_expired(tmp_path: Path):
    until = AT + timedelta(days=90)
    certificate(tmp_path / "tls.crt", until)
    async with opened(Settings(home=tmp_path / "home", certificates=f"{tmp_path / 'tls.crt'}, {tmp_path / 'none.crt'}")) as house:
        told = await scraped(house.http)
    assert told("dayrun_certificate_expiry_timestamp_seconds", file=str(tmp_path / "tls.crt")) == until.timestamp()
    assert told("dayrun_certificate_expiry_timestamp_seconds", file=str(tmp_path / "none.crt")) == 0


async def test_openmetrics_leads_from_a_slow_answer_to_its_request_and_trace(tmp_path: Path):
    trace = "0af7651916cd43dd8448eb211c80319c"
    async with opened(Settings(home=tmp_path)) as house:
        await house.http.get("/runs", headers={"X-Request-Id": "asked-for-this", "traceparent": f"00-{trace}-b7ad6b7169203331-01"})
        answer = await house.http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    samples = [sample for family in open_metrics(answer.text) for sample in family.samples if sample.labels.get("route") == "/runs"]
    found = [sample.exemplar.labels for sample in samples if sample.exemplar]
    assert {"request_id": "asked-for-this", "trace_id": trace} in found


async def test_nobody_can_make_series_by_inventing_methods_or_paths(tmp_path: Path):
    async with opened(Settings(home=tmp_path)) as house:
        await house.http.request("BREW", "/runs/some-pot")
        told = await scraped(house.http)
    assert "BREW" not in told.text
    assert "some-pot" not in told.text


async def test_all_that_is_told_is_in_the_catalogue_with_its_labels_and_promtool_finds_nothing(house: House):
    run = await house.post()
    await house.sweep()
    trains(house, run, loss=0.5, step_seconds=2.0, own_seconds_rank_0=1.0, samples_read=64.0)
    await house.sweep()
    told = await scraped(house.http)
    suffixes = ("_bucket", "_sum", "_count", "_created")
    for name, labels in told.series:
        if name.startswith("process_"):
            continue
        figure = CATALOGUE.get(name) or CATALOGUE[next(name.removesuffix(end) for end in suffixes if name.endswith(end))]
        assert {label for label, _ in labels} - {"le"} == set(figure.labels)
        assert set(figure.labels) <= LABELS.keys()
    checked = await asyncio.to_thread(
        subprocess.run,
        [program("promtool", package="prometheus"), "check", "metrics"],
        input=told.text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")
