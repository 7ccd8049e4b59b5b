"""What is kept for how long. The clock is the test's."""

from datetime import datetime, timedelta

from sqlalchemy import text

from dayrun.objects import Prefix
from dayrun.run_folder import RunFolder
from service.database import now
from service.retention import chain_what_is_left, forget
from service.runs.states import Move
from service.runs.transition import move
from tests.service.api import Api

LATER = timedelta(days=40)


async def ended(api: Api, *moves: Move) -> str:
    """A run that is over, with logs of one attempt, thumbnails and three checkpoints."""
    run_id = await api.run()
    async with api.locked(run_id) as (session, run):
        run.attempt = 1
        for wanted in (Move.LAUNCH, Move.START, *(moves or (Move.SUCCEED,))):
            move(session, run, wanted)
    folder = Prefix(api.settings.run_url(run_id))
    for step in (10, 20, 30):
        for file in ("complete.json", "model-0.safetensors"):
            folder.put(f"checkpoints/{step:08d}/{file}", b"{}")
    folder.put("logs/0001/0.log", b"said\n")
    folder.put("thumbnails/00000010/a.png", b"png")
    folder.put("samples/00000010/a.png", b"picture")
    return run_id


def keys(api: Api, run_id: str) -> set[str]:
    return {info.key for info in Prefix(api.settings.run_url(run_id)).objects()}


async def test_files_go_after_their_days_and_the_newest_checkpoint_stays(api: Api):
    run_id, active = await ended(api), await ended(api, Move.PAUSE)
    before = keys(api, active)
    settings = api.settings.model_copy(update={"keep_logs_days": 30.0, "keep_checkpoints_days": 30.0, "keep_thumbnails_days": 30.0})
    assert [one for one in await forget(api.database, settings, now() + timedelta(days=29)) if one.run_id == run_id] == []
    listed = [one for one in await forget(api.database, settings, now() + LATER, dry_run=True) if one.run_id == run_id]
    assert [(one.kind, one.count, one.bytes) for one in listed] == [("logs", 1, 5), ("thumbnails", 1, 3), ("checkpoints", 4, 8)]
    assert str(listed[0]) == f"{run_id}: logs: 1, 5 bytes"
    assert "logs/0001/0.log" in keys(api, run_id)  # a dry run deletes nothing
    assert [one for one in await forget(api.database, settings, now() + LATER) if one.run_id == run_id] == listed
    left = {"checkpoints/00000030/complete.json", "checkpoints/00000030/model-0.safetensors", "samples/00000010/a.png"}
    assert keys(api, run_id) == left
    assert keys(api, active) == before
    told = [event.data["kind"] for event in api.client.events(run_id) if event.type == "artifacts_deleted"]
    assert told == ["logs", "thumbnails", "checkpoints"]
    assert [one for one in await forget(api.database, settings, now() + LATER) if one.run_id == run_id] == []
    assert api.client.verify_events(run_id) is None


async def test_by_default_files_and_events_stay_for_ever(api: Api):
    run_id = await ended(api)
    before = keys(api, run_id)
    await forget(api.database, api.settings, now() + timedelta(days=4000))
    assert keys(api, run_id) == before
    assert api.client.chain(run_id).forgotten == 0


async def test_what_a_resumed_run_leaves_is_deleted_at_its_next_end(api: Api):
    run_id = await ended(api, Move.FAIL)
    settings = api.settings.model_copy(update={"keep_logs_days": 30.0})
    await forget(api.database, settings, now() + LATER)
    async with api.locked(run_id) as (session, run):
        run.attempt = 2
        for wanted in (Move.RESUME, Move.LAUNCH, Move.START):
            move(session, run, wanted)
    Prefix(api.settings.run_url(run_id)).put("logs/0002/0.log", b"again\n")
    await forget(api.database, settings, now() + LATER)
    assert "logs/0002/0.log" in keys(api, run_id)
    async with api.locked(run_id) as (session, run):
        move(session, run, Move.SUCCEED)
    await forget(api.database, settings, now() + LATER)
    assert "logs/0002/0.log" not in keys(api, run_id)


async def test_a_checkpoint_that_a_fork_begins_from_stays_until_the_fork_is_over(api: Api):
    run_id, fork = await ended(api), await api.run()
    await api.execute(text("UPDATE runs SET parent_run_id = :run, parent_step = 10 WHERE id = :fork"), run=run_id, fork=fork)
    settings = api.settings.model_copy(update={"keep_checkpoints_days": 30.0})
    await forget(api.database, settings, now() + LATER)
    assert "checkpoints/00000010/complete.json" in keys(api, run_id)
    assert "checkpoints/00000020/complete.json" not in keys(api, run_id)
    async with api.locked(fork) as (session, run):
        move(session, run, Move.CANCEL)
    await forget(api.database, settings, now() + LATER)
    assert "checkpoints/00000010/complete.json" not in keys(api, run_id)


async def test_a_checkpoint_that_an_export_waits_for_stays_until_it_is_over(api: Api):
    run_id = await ended(api)
    export = api.http.post(f"/runs/{run_id}/exports", json={"step": 10}).json()
    settings = api.settings.model_copy(update={"keep_checkpoints_days": 30.0})
    await forget(api.database, settings, now() + LATER)
    assert "checkpoints/00000010/complete.json" in keys(api, run_id)
    assert "checkpoints/00000020/complete.json" not in keys(api, run_id)
    assert api.http.post(f"/runs/{run_id}/exports/{export['id']}:cancel").json()["state"] == "cancelled"
    await forget(api.database, settings, now() + LATER)
    assert "checkpoints/00000010/complete.json" not in keys(api, run_id)


async def test_a_checkpoint_is_released_by_who_was_cancelled_while_it_was_queued(api: Api):
    run_id, fork, gone = await ended(api, Move.PAUSE), await api.run(), await api.run()
    await api.execute(
        text("UPDATE runs SET parent_run_id = :run, parent_step = 10 WHERE id IN (:fork, :gone)"), run=run_id, fork=fork, gone=gone
    )
    kept, cancelled = (api.http.post(f"/runs/{run_id}/exports", json={"step": 20}).json()["id"] for _ in range(2))
    folder = RunFolder(Prefix(api.settings.run_url(run_id)))
    for id in (fork, gone):
        folder.hold_checkpoint(10, id)
    assert folder.holds() == [*sorted((10, id) for id in (fork, gone)), *sorted((20, id) for id in (kept, cancelled))]
    assert api.http.post(f"/runs/{run_id}/exports/{cancelled}:cancel").json()["state"] == "cancelled"
    async with api.locked(gone) as (session, run):
        move(session, run, Move.CANCEL)
    told = [one for one in await forget(api.database, api.settings, now()) if one.run_id == run_id]
    assert [(one.kind, one.count) for one in told] == [("holds of checkpoints", 2)]
    assert folder.holds() == [(10, fork), (20, kept)]


async def test_a_chain_whose_beginning_was_forgotten_is_still_proven(api: Api):
    run_id = await ended(api)
    last = list(api.client.events(run_id))[-1]
    settings = api.settings.model_copy(update={"keep_events_days": 30.0})
    (listed,) = [one for one in await forget(api.database, settings, now() + LATER, dry_run=True) if one.run_id == run_id]
    assert (listed.kind, listed.count) == ("events", 3)
    assert len(list(api.client.events(run_id))) == 4
    await forget(api.database, settings, now() + LATER)
    assert [event.sequence for event in api.client.events(run_id)] == [last.sequence]
    assert api.client.chain(run_id).forgotten == 3
    assert api.client.verify_events(run_id) is None
    await api.execute(text("UPDATE events SET actor = 'eve' WHERE run_id = :run"), run=run_id)
    broken = api.client.verify_events(run_id)
    assert broken is not None
    assert broken.sequence == 4
    await api.execute(text("UPDATE events SET actor = 'service' WHERE run_id = :run"), run=run_id)
    await api.execute(text("UPDATE runs SET pruned_digest = 'f00' WHERE id = :run"), run=run_id)
    assert api.client.verify_events(run_id) is not None


async def test_answers_and_deliveries_are_forgotten_after_their_time(api: Api):
    api.http.post("/webhooks", json={"url": "http://127.0.0.1:9"}, headers={"Idempotency-Key": "to-forget"})
    hook = api.http.get("/webhooks").json()["items"][0]["id"]
    for state in ("due", "delivered"):
        await api.execute(
            text(
                "INSERT INTO webhook_deliveries (id, webhook_id, type, body, created_at, state, tries) "
                "VALUES (:id, :hook, 'ended', '{}', :at, :state, 1)"
            ),
            id=f"msg-{state}",
            hook=hook,
            state=state,
            at=now().replace(tzinfo=None),
        )
    kinds = {one.kind: one.count for one in await forget(api.database, api.settings, now() + LATER)}
    assert kinds["webhook deliveries"] == 1
    assert kinds["answers to idempotency keys"] >= 1
    assert [item["state"] for item in api.http.get(f"/webhooks/{hook}/deliveries").json()["items"]] == ["due"]
    assert await forget(api.database, api.settings, now() + LATER) == []


async def test_logs_of_older_services_are_chained_without_anyone_asking(api: Api):
    run_id = await ended(api)
    await api.execute(text("UPDATE events SET sequence = NULL, digest = NULL WHERE run_id = :run"), run=run_id)
    await api.execute(text("UPDATE runs SET chain_length = 0, chain_digest = NULL WHERE id = :run"), run=run_id)
    assert await chain_what_is_left(api.database) == 1
    assert await chain_what_is_left(api.database) == 0
    assert api.client.chain(run_id).length == 4
    assert api.client.verify_events(run_id) is None
    assert isinstance(next(iter(api.client.events(run_id))).time, datetime)
