"""Secrets stay where they were sent: nothing that is stored, logged or answered holds a key or a token."""

import logging
import sqlite3
from pathlib import Path

import httpx
import pytest

from service.launchers.watched import without_secrets
from tests.service.inside import Inside, inside
from tests.service.issuer import Provider

RECIPE_SECRET = "AKIAhunter2"


async def drive(api: Inside, provider: Provider) -> tuple[list[str], list[httpx.Response]]:
    """Use keys and tokens, good and bad, in requests that succeed, are refused, and break the service; the secrets, and every answer."""
    await api.project("team")
    key, token = await api.key("admin", "team"), provider.token("ada")
    revoked = await api.made_key("viewer", "team")
    member = f"/projects/team/members/{provider.subject('ada')}"
    answers = [await api.ask("PUT", member, key, json={"role": "writer"}), await api.ask("DELETE", f"/keys/{revoked['id']}", key)]
    wrong = provider.token("ada", aud="another")
    unknown = f"dayrun_{'0' * 26}_{'5' * 64}"
    secrets = [api.operator, key, token, wrong, unknown, revoked["key"]]
    recipe = {"recipe": "demo", "project": "team", "overrides": {"data": {"sources": [{"url": f"https://user:{RECIPE_SECRET}@host/x"}]}}}
    for secret in secrets:
        for method, path, body in (
            ("GET", "/runs", None),
            ("POST", "/runs", {"recipe": "demo", "project": "team"}),
            ("POST", "/runs", recipe),
            ("POST", "/runs", {"recipe": "nope", "project": "team"}),
            ("GET", "/runs/run_nope", None),
            ("GET", "/nowhere", None),
            ("PATCH", "/projects/team", {"name": "T"}),
            ("GET", "/keys", None),
        ):
            answers.append(await api.ask(method, path, secret, json=body, headers={"Idempotency-Key": "one"} if method == "POST" else {}))
    for run in (await api.ask("GET", "/runs", key)).json()["items"]:
        answers += [await api.ask("GET", f"/runs/{run['id']}/{what}", key) for what in ("events", "manifest", "logs")]
    async with api.context.database.write() as session:  # a statement that fails with a secret in it, as a bug would
        from sqlalchemy import text

        with pytest.raises(Exception, match="no such table") as failed:
            await session.execute(text("INSERT INTO nowhere VALUES (:secret)"), {"secret": key})
        logging.getLogger("dayrun").error("a failure", exc_info=failed.value)
    return [*secrets, RECIPE_SECRET], answers


async def test_nothing_that_is_stored_logged_or_answered_holds_a_secret(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    with Provider() as provider:
        async with inside(tmp_path, **provider.settings) as api:
            secrets, answers = await drive(api, provider)
    assert {answer.status_code for answer in answers} >= {200, 201, 401, 404, 422, 428}
    assert not {answer.status_code for answer in answers} & {500}
    sqlite3.connect(tmp_path / "dayrun.db").execute("PRAGMA wal_checkpoint(TRUNCATE)")
    stored = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert b"run_created" in stored["dayrun.db"]
    places = {**stored, "log": caplog.text.encode(), "answers": b"".join(a.content + str(a.headers).encode() for a in answers)}
    assert "a failure" in caplog.text
    for secret in secrets:
        tail = secret.rsplit("_", 1)[-1].rsplit(".", 1)[-1].encode()  # what makes it one: the random part, the signature
        assert not [name for name, content in places.items() if tail in content], secret[:12]


def test_trainers_do_not_see_the_services_own_secrets():
    mine = {"DAYRUN_DATABASE": "postgresql://u:p@h/d", "DAYRUN_BROKER": "redis://:p@h", "DAYRUN_KEY": "dayrun_x", "AWS_ACCESS_KEY_ID": "a"}
    mine["DAYRUN_SECRET_KEY"] = "s"
    assert without_secrets(mine) == {"AWS_ACCESS_KEY_ID": "a"}
