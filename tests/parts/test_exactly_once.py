"""One submission is one run, and one attempt is launched once: whatever dies when, and whatever becomes of the messages."""

import concurrent.futures
import json
import random
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import httpx
import psycopg
import pytest
import redis

from service.stack import Stack
from tests.conftest import ROOT, cluster, until, without_settings
from tests.parts.conftest import HTTP, Plane, Process
from tests.tiny import tiny_recipe

BODY = {"recipe": tiny_recipe("/data", processes=1)}


def submit(apis: list[Process], key: str) -> str:
    """Post a run with `key` to all `apis` at once; returns its id."""

    def post(api: Process) -> httpx.Response:
        while (answer := HTTP.post(f"{api.url}/runs", json=BODY, headers={"Idempotency-Key": key})).status_code == 409:
            pass
        return answer

    with concurrent.futures.ThreadPoolExecutor() as threads:
        answers = list(threads.map(post, apis))
    assert {answer.status_code for answer in answers} == {201}, [answer.text for answer in answers]
    (run_id,) = {answer.json()["id"] for answer in answers}
    return run_id


def test_two_apis_and_two_workers_launch_each_of_many_runs_once(plane: Plane):
    apis, _ = [plane.api(), plane.api()], [plane.start("worker"), plane.start("worker")]
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        runs = list(threads.map(lambda key: submit(apis, key), [str(uuid.uuid4()) for _ in range(20)]))
    assert len(set(runs)) == 20
    plane.until_all_succeeded(apis[0], set(runs))
    assert plane.launched() == {f"{run} 1": 1 for run in runs}
    listed = httpx.get(f"{apis[1].url}/runs?limit=1000").json()["items"]
    assert sorted(run["id"] for run in listed) == sorted(runs)


@pytest.mark.parametrize("parts", ["embedded", "cluster"])
@pytest.mark.parametrize("what", ["submission", pytest.param("launch", marks=pytest.mark.long)])
def test_a_process_killed_at_any_statement_or_effect_makes_one_run_and_one_launch(
    what: str, parts: str, request: pytest.FixtureRequest, tmp_path: Path
):
    settings = cluster(request.getfixturevalue("stack"), f"killing_{what}") if parts == "cluster" else {}
    settings |= {"DAYRUN_HOME": str(tmp_path), "DAYRUN_RUNS_AT_ONCE": "1000"}
    settings |= {"DAYRUN_LEASE_SECONDS": "0.5", "DAYRUN_IDEMPOTENCY_CLAIM_SECONDS": "0.05"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.parts.killing", what],
        cwd=ROOT,
        env={**without_settings(), **settings},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    left = json.loads(done.stdout)
    assert left["deaths"] >= 10  # every statement and commit, before and after: a submission on Postgres has five
    assert len(left["states"]) == left["deaths"] + 1  # one run a key: the last submission was left alone
    assert set(map(tuple, left["states"].values())) == {("succeeded", 1)}
    lines = (tmp_path / "launched").read_text().splitlines()
    assert sorted(lines) == sorted(f"{run} 1" for run in left["states"])


def test_a_worker_that_stalls_past_its_lease_starts_nothing_beside_its_successor(plane: Plane):
    api = plane.api()
    plane.settings |= {"DAYRUN_LEASE_SECONDS": "1"}
    stalled = plane.start("worker")
    database = plane.settings["DAYRUN_DATABASE"]

    def leased() -> bool:
        with psycopg.connect(database) as connection:
            return connection.execute("SELECT count(*) FROM runs WHERE leased_by IS NOT NULL").fetchone() != (0,)

    until(lambda: (said := api.get("/readyz")) is not None and said.status_code == 200, "a first sweep")
    runs = {submit([api], f"key-{i}") for i in range(6)}
    until(leased, "the worker to act on a run")
    stalled.process.send_signal(signal.SIGSTOP)  # somewhere between its lease and its effects
    plane.start("worker")
    plane.until_all_succeeded(api, runs)
    stalled.process.send_signal(signal.SIGCONT)
    later = submit([api], "later")  # whoever takes it: both are at work again
    plane.until_all_succeeded(api, runs | {later})
    assert stalled.stop() == 0
    assert plane.launched() == {f"{run} 1": 1 for run in {*runs, later}}


def test_messages_that_are_lost_doubled_late_or_out_of_order_change_nothing(plane: Plane, stack: Stack):
    api = plane.api()
    queue = redis.Redis.from_url(plane.settings["DAYRUN_BROKER"])
    chance, at_work, ended = random.Random(5), threading.Event(), threading.Event()
    kept: list[bytes] = []
    met = dict.fromkeys(("lost", "doubled", "late"), 0)

    def meddle() -> None:
        """Takes hints off the queue before the workers do, and gives some back: later, twice, the last first."""
        while not ended.is_set():
            if (taken := queue.brpop(["celery"], timeout=0.05)) is not None:
                fate = chance.choice(list(met))
                met[fate] += 1
                kept.extend([taken[1]] * {"lost": 0, "doubled": 2, "late": 1}[fate])
            elif kept and at_work.is_set():
                chance.shuffle(kept)
                queue.rpush("celery", *[kept.pop() for _ in range(chance.randint(1, len(kept)))])
                until(lambda: queue.llen("celery") == 0 or ended.is_set(), "the workers to take them")

    meddler = threading.Thread(target=meddle)
    meddler.start()
    try:
        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            runs = set(threads.map(lambda i: submit([api], f"key-{i}"), range(20)))
        until(lambda: sum(met.values()) >= 20, "every hint to meet its fate")  # no worker was there to take any
        plane.start("worker")
        plane.start("worker")
        at_work.set()
        plane.until_all_succeeded(api, runs)
    finally:
        ended.set()
        meddler.join()
    assert all(met.values())
    assert plane.launched() == {f"{run} 1": 1 for run in runs}
