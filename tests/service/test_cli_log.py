"""`dayrun events`, `audit` and `webhooks`, as a person types them."""

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from dayrun.cli import main
from service.runs.states import Move
from service.runs.transition import move
from tests.service.api import Api


@pytest.fixture
def dayrun(api: Api):
    return lambda *words: CliRunner().invoke(main, [*words, "--url", api.url])


async def test_events_are_listed_and_proven_and_a_broken_log_is_an_exit_code(api: Api, dayrun):
    good, bad = await api.run(), await api.run()
    for run_id in (good, bad):
        async with api.locked(run_id) as (session, run):
            move(session, run, Move.CANCEL)
    listed: Result = dayrun("events", good)
    assert [word in listed.stdout for word in ("run_created", "state_changed", "cancelled")] == [True] * 3
    proven = dayrun("events", "--verify", good)
    head = proven.stdout.split()[-1]
    assert (proven.exit_code, proven.stdout.split()[:3]) == (0, [good, "2", "events"])
    assert dayrun("events", "--verify", good, "--noted", head).exit_code == 0
    assert dayrun("events", "--verify", "--all").exit_code == 0
    other = dayrun("events", "--verify", good, "--noted", "2:" + "0" * 64)
    assert (other.exit_code, f"{good}: event 2: its digest is not the one at the head" in other.stderr) == (1, True)
    await api.execute(text("UPDATE events SET type = 'other' WHERE run_id = :run AND sequence = 1"), run=bad)
    everything = dayrun("events", "--verify", "--all")
    assert everything.exit_code == 1
    assert f"dayrun: {bad}: event 1: its digest is not that of its content" in everything.stderr
    assert good in everything.stdout
    assert dayrun("events", "--all").exit_code == 2
    assert "write LENGTH:DIGEST" in dayrun("events", "--verify", good, "--noted", "x").stderr


async def test_webhooks_are_made_tested_and_deleted_and_the_audit_shows_it(api: Api, dayrun):
    made = dayrun("webhooks", "create", "http://127.0.0.1:9/x", "--event", "ended", "--label", "a=b")
    webhook, secret = made.stdout.split()
    assert secret.startswith("whsec_")
    assert f"{webhook}  default  http://127.0.0.1:9/x  ended  on" in dayrun("webhooks", "list").stdout
    message = dayrun("webhooks", "test", webhook).stdout.strip()
    assert f"{message}  webhook_test  -  due  0 tries" in dayrun("webhooks", "deliveries", webhook).stdout
    assert dayrun("webhooks", "replay", webhook, message).exit_code == 0
    assert dayrun("webhooks", "enable", webhook).exit_code == 0
    assert dayrun("webhooks", "delete", webhook).exit_code == 0
    gone = dayrun("webhooks", "test", webhook)
    assert (gone.exit_code, "there is no webhook" in gone.stderr) == (1, True)
    refused = dayrun("webhooks", "create", "https://10.0.0.1/")
    assert (refused.exit_code, "/url: 'https://10.0.0.1/': 10.0.0.1 is 10.0.0.1, which is private" in refused.stderr) == (1, True)
    shown = dayrun("audit", "--limit", "2").stdout.splitlines()
    assert [line.split()[3] for line in shown] == ["webhook_deleted", "webhook_replayed"]
    assert all(f"webhook {webhook}" in line for line in shown)
