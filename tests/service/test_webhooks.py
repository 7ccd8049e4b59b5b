"""Webhooks, end to end: a real receiver that verifies signatures, fails, is silent, redirects, is gone."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest
import pytest_asyncio
from sqlalchemy import text
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from service.database import now
from service.runs.states import Move
from service.runs.transition import move
from service.webhooks.courier import Courier
from service.webhooks.decide import WAIT_SECONDS
from tests.conftest import ROOT, until
from tests.service.api import Api
from tests.service.receiver import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest_asyncio.fixture
async def courier(api: Api) -> AsyncIterator[Courier]:
    """Alone with the database: what other tests left is gone."""
    for table in ("webhook_deliveries", "webhooks"):
        await api.execute(text(f"DELETE FROM {table}"))
    made = Courier(api.settings.model_copy(update={"webhook_seconds": 1.0}), api.database)
    await made.fan_out()
    yield made
    await made.close()


def hook(api: Api, url: str, **more) -> dict:
    answer = api.http.post("/webhooks", json={"url": url, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


def deliveries(api: Api, webhook: dict) -> list[dict]:
    return api.http.get(f"/webhooks/{webhook['id']}/deliveries").json()["items"]


async def test_events_arrive_signed_and_once(api: Api, receiver: Receiver, courier: Courier):
    webhook = hook(api, f"{receiver.url}/all")
    only = hook(api, f"{receiver.url}/only", events=["state_changed"], labels={"team": "a"})
    mine, other = await api.run(labels={"team": "a", "x": "y"}), await api.run()
    for run_id in (mine, other):
        api.client.pause(run_id)
    assert await courier.fan_out() == 5
    assert await courier.fan_out() == 0
    while await courier.send_due(now()):
        pass
    messages = [(Verifier(webhook["secret"]).verify(body, headers), headers, body) for headers, body in receiver.at("/all")]
    ((message, headers, body),) = [one for one in messages if one[0]["type"] == "run_created" and one[0]["data"]["run_id"] == mine]
    assert message["data"]["labels"] == {"team": "a", "x": "y"}
    assert message["data"]["digest"] == next(iter(api.client.events(mine))).digest
    with pytest.raises(WebhookVerificationError):
        Verifier(only["secret"]).verify(body, headers)
    assert len({headers["webhook-id"] for headers, _ in receiver.at("/all")}) == len(receiver.at("/all")) == 4
    ((_, body),) = receiver.at("/only")
    assert json.loads(body)["data"]["data"]["to"] == "paused"
    assert {item["state"] for item in deliveries(api, webhook)} == {"delivered"}


async def test_two_workers_at_once_send_nothing_twice(api: Api, receiver: Receiver, courier: Courier):
    hook(api, f"{receiver.url}/x")
    for _ in range(6):
        await api.run()
    another = Courier(api.settings, api.database)
    await asyncio.gather(courier.fan_out(), another.fan_out())
    at = now()
    while sum(await asyncio.gather(courier.send_due(at), another.send_due(at))):
        pass
    ids = [headers["webhook-id"] for headers, _ in receiver.at("/x")]
    assert len(ids) == len(set(ids)) == 6
    await another.close()


async def test_a_receiver_that_fails_is_tried_again_until_it_takes_the_message(api: Api, receiver: Receiver, courier: Courier):
    webhook = hook(api, f"{receiver.url}/fails")
    receiver.status["/fails"] = 500
    await api.run()
    await courier.fan_out()
    at = now()
    assert await courier.send_due(at) == 1
    (delivery,) = deliveries(api, webhook)
    assert (delivery["state"], delivery["tries"], delivery["answer"]) == ("due", 1, "500")
    assert await courier.send_due(at) == 0  # not yet
    receiver.status["/fails"] = 200
    assert await courier.send_due(at + timedelta(seconds=7)) == 1
    assert deliveries(api, webhook)[0]["state"] == "delivered"
    first, second = receiver.at("/fails")
    assert first[0]["webhook-id"] == second[0]["webhook-id"] == delivery["id"]
    assert first[1] == second[1]


async def test_after_a_day_without_success_the_webhook_is_disabled_and_the_audit_says_so(api: Api, receiver: Receiver, courier: Courier):
    webhook = hook(api, f"{receiver.url}/down")
    receiver.status["/down"] = 503
    await api.run()
    await courier.fan_out()
    at = now()
    for seconds in (0, *WAIT_SECONDS):
        at += timedelta(seconds=seconds * 1.3)
        assert await courier.send_due(at) == 1
    shown = api.http.get(f"/webhooks/{webhook['id']}").json()
    assert shown["disabled_at"]
    assert "in 11 tries over a day" in shown["disabled_because"]
    (told,) = [one for one in api.http.get("/audit?type=webhook_disabled").json()["items"] if one["data"]["webhook"] == webhook["id"]]
    assert (told["actor"], told["data"]["host"]) == ("service", "127.0.0.1")
    await api.run()
    assert await courier.fan_out() == 0
    (delivery,) = deliveries(api, webhook)
    refused = api.http.post(f"/webhooks/{webhook['id']}/deliveries/{delivery['id']}:replay")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:dayrun:problem:webhook-disabled")
    assert api.http.post(f"/webhooks/{webhook['id']}:enable").json()["disabled_at"] is None
    receiver.status["/down"] = 200
    assert api.http.post(f"/webhooks/{webhook['id']}/deliveries/{delivery['id']}:replay").status_code == 202
    await courier.send_due(now())
    assert deliveries(api, webhook)[0]["state"] == "delivered"


async def test_a_receiver_that_is_gone_is_left_alone_at_once(api: Api, receiver: Receiver, courier: Courier):
    webhook = hook(api, f"{receiver.url}/gone")
    receiver.status["/gone"] = 410
    await api.run()
    await courier.fan_out()
    await courier.send_due(now())
    assert api.http.get(f"/webhooks/{webhook['id']}").json()["disabled_because"] == "the receiver answered 410 Gone"


async def test_silence_redirects_and_endless_answers_are_bounded(api: Api, receiver: Receiver, courier: Courier):
    silent, elsewhere, endless = (hook(api, f"{receiver.url}/{path}") for path in ("silent", "elsewhere", "endless"))
    receiver.status |= {"/elsewhere": 302, "/endless": 200}
    await api.run()
    await courier.fan_out()
    assert await courier.send_due(now()) == 3
    assert deliveries(api, silent)[0]["answer"] == "no answer within 1 s"
    assert deliveries(api, elsewhere)[0]["answer"] == "302"
    assert receiver.at("/somewhere") == []
    (delivery,) = deliveries(api, endless)
    assert delivery["state"] == "delivered"
    assert len(delivery["answer"]) < 5000


async def test_a_message_of_a_sender_that_died_is_sent_by_another(api: Api, receiver: Receiver, courier: Courier):
    from service.webhooks import repository

    webhook = hook(api, f"{receiver.url}/late")
    await api.run()
    await courier.fan_out()
    at = now()
    async with api.database.write() as session:
        assert len(await repository.claim(session, at, 16, 60.0)) == 1  # and nothing more is heard of it
    assert await courier.send_due(at) == 0
    assert await courier.send_due(at + timedelta(seconds=61)) == 1
    assert deliveries(api, webhook)[0]["state"] == "delivered"


CHORES = "import signal\nfrom service.tasks import worker\nworker().run(worker().begin_chores())\nsignal.pause()"


async def test_the_worker_sends_beside_its_sweep(api: Api, receiver: Receiver, courier: Courier):
    hook(api, f"{receiver.url}/worker")
    api.client.cancel(await api.run())
    await api.execute(text("UPDATE runs SET state = 'cancelled'"))  # or the sweep would launch what other tests have left
    environment = {**api.settings.for_children(), "PYTHONPATH": str(ROOT)}
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", CHORES, cwd=ROOT, env=environment)
    try:
        until(lambda: len(receiver.at("/worker")) == 2, "both events to arrive")
    finally:
        worker.kill()
        await worker.wait()


async def test_a_test_message_arrives(api: Api, receiver: Receiver, courier: Courier):
    webhook = hook(api, f"{receiver.url}/test", events=["ended"])
    answer = api.http.post(f"/webhooks/{webhook['id']}:test")
    assert answer.status_code == 202
    await courier.send_due(now())
    ((headers, body),) = receiver.at("/test")
    assert Verifier(webhook["secret"]).verify(body, headers)["type"] == "webhook_test"
    assert api.http.get(answer.headers["Location"]).json()["state"] == "delivered"


async def test_the_secret_is_shown_once_and_kept_nowhere(api: Api, receiver: Receiver, courier: Courier):
    request = {"url": f"{receiver.url}/secret"}
    first = api.http.post("/webhooks", json=request, headers={"Idempotency-Key": "hook-1" + receiver.url})
    again = api.http.post("/webhooks", json=request, headers={"Idempotency-Key": "hook-1" + receiver.url})
    assert first.content == again.content
    assert again.headers["Idempotency-Replayed"] == "true"
    secret = first.json()["secret"]
    assert secret.startswith("whsec_")
    shown = api.http.get(f"/webhooks/{first.json()['id']}")
    assert "secret" not in shown.json()
    async with api.database.read() as session:
        for table in ("webhooks", "idempotency", "audit_events", "webhook_deliveries"):
            rows = (await session.execute(text(f"SELECT * FROM {table}"))).all()
            assert secret.removeprefix("whsec_") not in str(rows)
    key = api.settings.root / "secret.key"
    assert key.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://10.0.0.1/x", "private"),
        ("https://[::1]/x", "loopback"),
        ("https://169.254.169.254/latest", "link-local"),
        ("https://0x0a000001/", "private"),
        ("https://[::ffff:10.0.0.1]/", "private"),
        ("http://93.184.216.34/", "only https"),
        ("ftp://example.com/", "https URL"),
        ("https://me:pass@93.184.216.34/", "password"),
        ("https://nowhere.invalid/", "cannot be resolved"),
        ("https://[::1", "no URL"),
        ("https://a:99999/", "no URL"),
        ("nonsense", "https URL"),
    ],
)
async def test_addresses_that_nothing_is_sent_to_are_refused_with_a_pointer(api: Api, url: str, said: str):
    answer = api.http.post("/webhooks", json={"url": url})
    assert answer.status_code == 422, answer.text
    (error,) = answer.json()["errors"]
    assert error["pointer"] == "/url"
    assert said in error["because"]


async def test_the_address_is_checked_again_when_it_is_connected_to(api: Api, receiver: Receiver, courier: Courier):
    """The setting was narrowed, or the name resolves to something else by now: nothing is sent."""
    webhook = hook(api, f"{receiver.url}/now-private")
    await api.run()
    await courier.fan_out()
    strict = Courier(api.settings.model_copy(update={"webhook_networks": "10.9.0.0/16"}), api.database)
    assert await strict.send_due(now()) == 1
    assert receiver.at("/now-private") == []
    assert "127.0.0.1, which is loopback" in deliveries(api, webhook)[0]["answer"]
    await strict.close()


async def test_an_unknown_type_is_refused_with_the_nearest(api: Api, receiver: Receiver):
    answer = api.http.post("/webhooks", json={"url": receiver.url, "events": ["state_changed", "run_create"]})
    (error,) = answer.json()["errors"]
    assert (error["pointer"], error["nearest"][0]) == ("/events/1", "run_created")


async def test_a_deleted_webhook_gets_nothing_more(api: Api, receiver: Receiver, courier: Courier):
    webhook = hook(api, f"{receiver.url}/deleted")
    await api.run()
    await courier.fan_out()
    assert api.http.delete(f"/webhooks/{webhook['id']}").status_code == 204
    assert await courier.send_due(now()) == 0
    assert receiver.at("/deleted") == []
    assert api.http.get(f"/webhooks/{webhook['id']}").status_code == 404


# ---- the audit ---------------------------------------------------------------------------------------------------------------------


async def test_the_audit_shows_who_did_what_to_runs_and_projects_newest_first(api: Api, receiver: Receiver):
    run_id = await api.run()
    api.http.post(f"/runs/{run_id}:pause", headers={"X-Request-Id": "audit-1"})
    async with api.locked(run_id) as (session, run):
        move(session, run, Move.RESUME)  # the service's own doing is not in the audit
    webhook = hook(api, receiver.url)
    items = api.http.get("/audit", params={"limit": 3}).json()["items"]
    assert [item["type"] for item in items] == ["webhook_created", "state_changed", "run_created"]
    created, paused, _ = items
    assert (created["run_id"], created["data"]["webhook"], created["chain"]) == (None, webhook["id"], "project:default")
    assert (paused["run_id"], paused["actor"], paused["request_id"]) == (run_id, "local", "audit-1")
    seen, path = [], "/audit?limit=2"
    while path:
        answer = api.http.get(path)
        seen += [(item["chain"], item["sequence"]) for item in answer.json()["items"]]
        path = answer.links["next"]["url"] if "next" in answer.links else None
    everything = api.http.get("/audit?limit=1000").json()["items"]
    assert seen == [(item["chain"], item["sequence"]) for item in everything]
    assert len(seen) == len(set(seen))
    assert [item["time"] for item in everything] == sorted((item["time"] for item in everything), reverse=True)
    assert api.http.get("/audit", params={"cursor": "x~y~z"}).status_code == 400
    assert api.http.get("/audit", params={"project": "default", "actor": "nobody"}).json()["items"] == []


async def test_a_projects_chain_is_proven_as_a_runs_is(api: Api, receiver: Receiver):
    for _ in range(3):
        hook(api, receiver.url)
    assert api.client.verify_project("default") is None
    await api.execute(text("UPDATE audit_events SET actor = 'eve' WHERE project_id = 'default' AND sequence = 2"))
    broken = api.client.verify_project("default")
    assert broken is not None
    assert (broken.chain, broken.sequence) == ("project:default", 2)
    await api.execute(text("UPDATE audit_events SET actor = 'local' WHERE project_id = 'default' AND sequence = 2"))
