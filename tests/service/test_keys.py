"""API keys and the door: who is let in, what is said to the others, and how soon a revoked key is noticed."""

import asyncio
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import select, update

from dayrun.client import Client
from service.database import Database, now
from service.keys.__main__ import OperatorExists, first_key
from service.keys.schemas import NewKey
from service.keys.secret import FORM
from service.keys.service import store
from service.keys.tables import KeyRow
from service.runs.tables import IdempotencyRow
from service.settings import Settings
from tests.conftest import PATIENCE_SECONDS, ROOT
from tests.service.inside import Inside, inside, kind, listening


@pytest_asyncio.fixture(scope="module")
async def api(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Inside]:
    async with inside(tmp_path_factory.mktemp("keys"), wrong_keys_per_minute=10_000) as api:
        yield api


def id_of(key: str) -> str:
    return "key_" + key.split("_")[1]


async def change(api: Inside, key: str, **values: Any) -> None:
    """Change the row of a key behind the service's back."""
    async with api.context.database.write() as session:
        await session.execute(update(KeyRow).where(KeyRow.id == id_of(key)).values(**values))


async def test_a_key_has_a_form_that_scanners_know_and_is_stored_as_a_digest(api: Inside):
    key = await api.key()
    assert FORM.fullmatch(key)
    async with api.context.database.read() as session:
        row = (await session.scalars(select(KeyRow).where(KeyRow.id == id_of(key)))).one()
    assert row.digest == hashlib.sha256(key.encode()).hexdigest()
    assert key not in str(vars(row))


@pytest.mark.parametrize(
    ("sent", "problem", "says"),
    [
        (None, "no-credentials", "DAYRUN_KEY"),
        ("Basic dXNlcjpwYXNz", "malformed-credentials", "not `Bearer`"),
        ("Bearer", "malformed-credentials", "neither a key"),
        ("Bearer swordfish", "malformed-credentials", "neither a key"),
        ("Bearer a.b.c", "malformed-credentials", "no OpenID provider"),
        ("Bearer dayrun_01m87n1jvde9ct9f7vyytvx9r4_c69199", "malformed-credentials", "40 characters, not 98"),
        ("Bearer dayrun_" + "0" * 26 + "_" + "0" * 64, "unknown-credentials", "none of this service's"),
        ("Bearer \xff\xfe", "malformed-credentials", "not `Bearer`"),
    ],
)
async def test_credentials_that_are_no_good_are_told_why(api: Inside, sent: str | None, problem: str, says: str):
    answer = await api.ask("GET", "/runs", headers={"Authorization": sent.encode("latin-1")} if sent is not None else {})
    assert (answer.status_code, kind(answer)) == (401, problem)
    assert says in answer.json()["detail"]
    assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="dayrun"')
    assert ("invalid_token" in answer.headers["WWW-Authenticate"]) == (sent is not None)


async def test_a_key_works_until_it_expires(api: Inside):
    key = await api.key("viewer")
    assert (await api.ask("GET", "/runs", key)).status_code == 200
    await change(api, key, expires_at=now() - timedelta(seconds=1))
    api.context.credentials.forget(f"key:{id_of(key)}")
    answer = await api.ask("GET", "/runs", key)
    assert (answer.status_code, kind(answer)) == (401, "expired-credentials")


async def test_what_is_known_of_a_key_never_outlives_it(api: Inside):
    key = await api.key("viewer")
    soon = now() + timedelta(seconds=0.2)
    await change(api, key, expires_at=soon)
    await api.ask("GET", "/runs", key)
    await asyncio.sleep((soon - now()).total_seconds() + 0.001)  # the fact is about time; `identity_seconds` are 5
    assert (await api.ask("GET", "/runs", key)).status_code == 401


async def test_a_revoked_key_is_refused_at_once_here_and_within_seconds_elsewhere(api: Inside):
    key = await api.key("viewer")
    async with inside(api.context.settings.root, identity_seconds=0.5) as elsewhere:
        assert (await elsewhere.ask("GET", "/runs", key)).status_code == 200
        assert (await api.ask("GET", "/runs", key)).status_code == 200
        assert (await api.ask("DELETE", f"/keys/{id_of(key)}", api.operator)).status_code == 204
        revoked = time.monotonic()
        answer = await api.ask("GET", "/runs", key)
        assert (answer.status_code, kind(answer)) == (401, "revoked-credentials")
        while (await elsewhere.ask("GET", "/runs", key)).status_code == 200:
            assert time.monotonic() < revoked + 30
            await asyncio.sleep(0.02)
        assert (await elsewhere.ask("GET", "/runs", key)).status_code == 401
    assert (await api.ask("DELETE", f"/keys/{id_of(key)}", api.operator)).status_code == 204  # twice is as good as once


async def test_a_known_key_is_recognised_without_the_database(tmp_path: Path):
    async with inside(tmp_path, identity_seconds=60) as api:
        await api.ask("GET", "/recipes", api.operator)
        await api.context.database.close()
        broken = api.context.credentials
        broken._database = None  # pyright: ignore[reportAttributeAccessIssue, reportPrivateUsage]
        assert (await api.ask("GET", "/recipes", api.operator)).status_code == 200


async def test_the_use_of_a_key_is_noted_once_a_minute_and_beside_the_request(api: Inside):
    key = await api.key("viewer")
    credentials = api.context.credentials

    async def used_at() -> Any:
        await asyncio.gather(*credentials._later)  # pyright: ignore[reportPrivateUsage]
        return (await api.ask("GET", f"/keys/{id_of(key)}", api.operator)).json()["last_used_at"]

    assert await used_at() is None
    await api.ask("GET", "/runs", key)
    first = await used_at()
    assert first is not None
    credentials.forget(f"key:{id_of(key)}")
    await api.ask("GET", "/runs", key)
    assert await used_at() == first
    await change(api, key, last_used_at=now() - timedelta(minutes=2))
    credentials.forget(f"key:{id_of(key)}")
    await api.ask("GET", "/runs", key)
    assert await used_at() > first


async def test_the_replay_of_a_made_key_does_not_hold_it(api: Inside):
    ask = {"json": {"name": "ci", "project": "default"}, "headers": {"Idempotency-Key": "make-ci"}}
    first = await api.ask("POST", "/keys", api.operator, **ask)
    again = await api.ask("POST", "/keys", api.operator, **ask)
    assert FORM.fullmatch(first.json()["key"])
    assert first.headers["Cache-Control"] == "no-store"
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json() == first.json() | {"key": None}
    async with api.context.database.read() as session:
        kept = (await session.scalars(select(IdempotencyRow.body).where(IdempotencyRow.key == "make-ci"))).all()
    assert all(first.json()["key"].encode() not in body for body in kept if body)


async def test_an_idempotency_key_belongs_to_its_sender(api: Inside):
    ask = {"json": {"recipe": "demo"}, "headers": {"Idempotency-Key": "everybody-takes-1"}}
    answers = [await api.ask("POST", "/runs", await api.key("writer"), **ask) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json()["id"] != answers[1].json()["id"]


async def test_an_admin_makes_keys_of_their_project_and_sees_no_others(api: Inside):
    await api.project("team-keys")
    admin = await api.key("admin", "team-keys")
    assert (await api.ask("POST", "/keys", admin, json={"name": "x", "project": "team-keys", "role": "admin"})).status_code == 201
    for body in ({"name": "x", "role": "operator"}, {"name": "x", "project": "default"}, {"name": "x", "project": "nowhere"}):
        assert (await api.ask("POST", "/keys", admin, json=body)).status_code in (403, 404), body
    seen = (await api.ask("GET", "/keys", admin)).json()["items"]
    assert {key["project"] for key in seen} == {"team-keys"}
    assert (await api.ask("DELETE", f"/keys/{id_of(api.operator)}", admin)).status_code == 404


async def test_a_key_has_a_project_or_is_an_operators(api: Inside):
    for body in (
        {"name": "x", "role": "operator", "project": "default"},
        {"name": "x", "role": "viewer"},
        {"name": "", "project": "default"},
    ):
        assert (await api.ask("POST", "/keys", api.operator, json=body)).status_code == 422, body
    assert kind(await api.ask("POST", "/keys", api.operator, json={"name": "x", "project": "nowhere"})) == "no-such-project"


async def test_who_asks_too_often_is_told_when_to_come_back(tmp_path: Path):
    async with inside(tmp_path, requests_per_second=0.5, requests_burst=3) as api:
        answers = [await api.ask("GET", "/recipes", api.operator) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert kind(answers[3]) == "too-many-requests"
        assert 1 <= int(answers[3].headers["Retry-After"]) <= 2
        for number, answer in enumerate(answers):
            assert answer.headers["RateLimit-Policy"] == '"requests";q=3;w=6'
            assert re.fullmatch(rf'"requests";r={max(0, 2 - number)};t=\d', answer.headers["RateLimit"])
        assert (await api.ask("GET", "/healthz")).status_code == 200
        other = await inside_key(api)
        assert (await api.ask("GET", "/recipes", other)).status_code == 200  # a bucket each


async def inside_key(api: Inside) -> str:
    """A key that is made past the door, whose operator has used up what they may ask."""
    async with api.context.database.write() as session:
        return (await store(session, NewKey(name="another", role="operator"), "the test"))[1]


async def test_guessing_is_limited_by_address_and_stops_nobody_who_is_known(tmp_path: Path):
    async with inside(tmp_path, wrong_keys_per_minute=3, identity_seconds=60) as api:
        assert (await api.ask("GET", "/recipes", api.operator)).status_code == 200
        wrong = "dayrun_" + "0" * 26 + "_" + "0" * 64
        answers = [await api.ask("GET", "/recipes", wrong) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [401, 401, 401, 429]
        assert int(answers[3].headers["Retry-After"]) >= 1
        assert (await api.ask("GET", "/recipes", api.operator)).status_code == 200
        assert (await api.ask("GET", "/recipes")).status_code == 401  # who sends nothing does not guess


async def test_without_a_database_a_key_is_a_503_that_says_when_to_ask_again(tmp_path: Path):
    async with inside(tmp_path, identity_seconds=0) as api:
        (api.context.settings.root / "dayrun.db").unlink()
        await api.context.database.close()
        answer = await api.ask("GET", "/recipes", api.operator)
        assert (answer.status_code, kind(answer)) == (503, "database-unreachable")
        assert answer.headers["Retry-After"] == "2"


async def test_metrics_ask_for_a_key_where_that_is_set(tmp_path: Path):
    async with inside(tmp_path, metrics_need_key=True) as api:
        assert (await api.ask("GET", "/metrics")).status_code == 401
        assert (await api.ask("GET", "/metrics", await api.key("viewer"))).status_code == 200


def bootstrap(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DAYRUN_")}
    command = [sys.executable, "-c", "from dayrun.cli import main; main()", "keys", "create", "--bootstrap", *words]
    environment |= {"DAYRUN_HOME": str(home), "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, timeout=120)


async def test_the_first_key_is_made_on_the_server_and_only_once(tmp_path: Path):
    first = bootstrap(tmp_path)
    assert first.returncode == 0, first.stderr
    assert FORM.fullmatch(first.stdout.strip())
    again = bootstrap(tmp_path)
    assert (again.returncode, again.stdout) == (2, "")
    assert f"there is an operator's key already: {id_of(first.stdout)}" in again.stderr
    assert "--force" in again.stderr
    settings, new = Settings(home=tmp_path), NewKey(name="another", role="operator")
    with pytest.raises(OperatorExists):
        await first_key(settings, new, force=False)
    assert FORM.fullmatch(await first_key(settings, new, force=True))
    database = Database(settings)
    async with database.write() as session:
        await session.execute(update(KeyRow).values(expires_at=now()))
    await database.close()
    assert FORM.fullmatch(await first_key(settings, new, force=False))  # none works any more


def test_an_open_stream_ends_with_the_key_it_was_opened_with(tmp_path: Path):
    with listening(tmp_path, identity_seconds=0.2) as (url, operator), Client(url, key=operator) as client:
        client.create_project("stream")
        made = client.create_key("reader", "viewer", "stream")
        post = {"recipe": "demo", "project": "stream"}
        mine, theirs = ({"Authorization": f"Bearer {key}"} for key in (operator, made.key))
        run_id = httpx.post(f"{url}/runs", json=post, headers=mine).json()["id"]
        live = {"headers": {**theirs, "Accept": "text/event-stream"}, "timeout": PATIENCE_SECONDS}
        with httpx.stream("GET", f"{url}/runs/{run_id}/events", **live) as stream:
            lines = stream.iter_lines()
            assert "run_created" in next(lines)
            client.revoke_key(made.id)
            assert [line for line in lines if line.startswith("event:")] == []  # and it ends: no event was to come
        assert httpx.get(f"{url}/runs/{run_id}", headers=theirs).status_code == 401
        assert client.run(run_id).state == "queued"
