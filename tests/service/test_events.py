"""The event log: its chain, and every way to break it; its streams."""

import asyncio
import json
import random
import re
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import text

from dayrun.event_chain import Head
from dayrun.run_folder import Cursor
from dayrun.run_folder import Event as TrainerEvent
from service import events
from service.http.stream import EventStream
from service.launchers import Launched, Observation
from service.runs.amend import RunChange, amend
from service.runs.reconcile import Seen, take_in
from service.runs.states import MOVES, Move, State
from service.runs.transition import move as make
from tests.conftest import PATIENCE_SECONDS, until
from tests.service.api import PERMIT, Api


def told(step: int, type: str = "checkpoint_saved", **data) -> TrainerEvent:
    return {"time": 1_800_000_000.25 + step, "attempt": 1, "step": step, "type": type, "data": data}  # pyright: ignore


async def seen(api: Api, run_id: str, *lines: TrainerEvent) -> None:
    async with api.locked(run_id) as (session, run):
        await take_in(session, run, Seen(Observation(Launched.ABSENT), list(lines), [], Cursor(), Cursor()))


async def moved(api: Api, run_id: str, *moves: Move, **why) -> None:
    async with api.locked(run_id) as (session, run):
        for move in moves:
            make(session, run, move, **why)


async def long_run(api: Api, events: int = 8) -> str:
    run_id = await api.run()
    await moved(api, run_id, Move.LAUNCH)
    await seen(api, run_id, *(told(step, seconds=0.1 * step, bytes=2**40 + step) for step in range(events - 2)))
    return run_id


async def test_every_event_is_a_link_and_the_row_holds_the_head(api: Api):
    run_id = await long_run(api)
    found = list(api.client.events(run_id))
    assert [event.sequence for event in found] == list(range(1, 9))
    assert [event.type for event in found[:3]] == ["run_created", "state_changed", "checkpoint_saved"]
    chain = api.client.chain(run_id)
    assert (chain.length, chain.digest) == (8, found[-1].digest)
    assert api.client.verify_events(run_id) is None


async def test_what_the_trainer_writes_survives_its_way_through_the_database(api: Api):
    run_id = await api.run()
    odd = {"a": 1e-7, "b": 1e22, "c": 0.1 + 0.2, "nan": float("nan"), "half": "\ud800", "ü": "€", "n": [None, True, 2**60, {"1": -0.0}]}
    await seen(api, run_id, told(1, **odd), told(2, nul="\x00"))
    assert api.client.verify_events(run_id) is None
    assert list(api.client.events(run_id))[1].data["nan"] == "NaN"


TAMPER = {
    "an edit": ("UPDATE events SET data = '{}' WHERE run_id = :run AND sequence = 4", 4),
    "another actor": ("UPDATE events SET actor = 'eve' WHERE run_id = :run AND sequence = 1", 1),
    "a deletion": ("DELETE FROM events WHERE run_id = :run AND sequence = 5", 5),
    "a deletion at the start": ("DELETE FROM events WHERE run_id = :run AND sequence = 1", 1),
    "a cut tail": ("DELETE FROM events WHERE run_id = :run AND sequence > 6", 7),
    "an insertion at the end": (
        "INSERT INTO events (run_id, time, type, attempt, data, sequence, digest) "
        "SELECT run_id, time, type, attempt, data, 9, digest FROM events WHERE run_id = :run AND sequence = 8; "
        "UPDATE runs SET chain_length = 9 WHERE id = :run",
        9,
    ),
    "an insertion in between": (
        "UPDATE events SET sequence = -sequence - 1 WHERE run_id = :run AND sequence >= 3; "
        "UPDATE events SET sequence = -sequence WHERE run_id = :run AND sequence < 0; "
        "INSERT INTO events (run_id, time, type, attempt, data, sequence, digest) "
        "SELECT run_id, time, type, attempt, data, 3, digest FROM events WHERE run_id = :run AND sequence = 2; "
        "UPDATE runs SET chain_length = 9 WHERE id = :run",
        3,
    ),
    "another order": (
        "UPDATE events SET sequence = -1 WHERE run_id = :run AND sequence = 3; "
        "UPDATE events SET sequence = 3 WHERE run_id = :run AND sequence = 4; "
        "UPDATE events SET sequence = 4 WHERE run_id = :run AND sequence = -1",
        3,
    ),
    "another head": ("UPDATE runs SET chain_digest = 'f00' WHERE id = :run", 8),
}


@pytest.mark.parametrize("how", TAMPER)
async def test_tampering_is_found_at_its_place(api: Api, how: str):
    run_id = await long_run(api)
    statements, place = TAMPER[how]
    for statement in statements.split("; "):
        await api.execute(text(statement), run=run_id)
    broken = api.client.verify_events(run_id)
    assert broken is not None
    assert broken.sequence == place


async def test_a_log_that_was_cut_together_with_its_head_is_found_by_a_head_that_was_noted(api: Api):
    run_id = await long_run(api)
    chain = api.client.chain(run_id)
    sixth = list(api.client.events(run_id))[5].digest
    await api.execute(text("DELETE FROM events WHERE run_id = :run AND sequence > 6"), run=run_id)
    await api.execute(text("UPDATE runs SET chain_length = 6, chain_digest = :digest WHERE id = :run"), run=run_id, digest=sixth)
    assert api.client.verify_events(run_id) is None
    broken = api.client.verify_events(run_id, Head(chain.length, chain.digest))
    assert broken is not None
    assert broken.sequence == 7


async def test_events_of_an_older_service_are_chained_in_their_order(api: Api):
    run_id = await long_run(api)
    await api.execute(text("UPDATE events SET sequence = NULL, digest = NULL WHERE run_id = :run"), run=run_id)
    await api.execute(text("UPDATE runs SET chain_length = 0, chain_digest = NULL WHERE id = :run"), run=run_id)
    await moved(api, run_id, Move.CANCEL)
    found = list(api.client.events(run_id))
    assert [event.sequence for event in found] == list(range(1, 10))
    assert found[0].type == "run_created"
    assert api.client.verify_events(run_id) is None


async def test_many_that_record_at_once_make_one_chain(api: Api):
    run_id = await api.run()

    async def one(number: int) -> None:
        async with api.locked(run_id) as (session, run):
            events.record(session, run, "stop_sent", number=number)

    await asyncio.gather(*(one(number) for number in range(12)))
    assert api.client.chain(run_id).length == 13
    assert api.client.verify_events(run_id) is None


async def test_a_batch_costs_no_query_an_event(api: Api):
    from sqlalchemy import event

    run_id, statements = await api.run(), list[str]()
    engine = api.database.engine.sync_engine

    def counted(_connection, _cursor, statement, *_) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", counted)
    await seen(api, run_id, *(told(step) for step in range(300)))
    event.remove(engine, "before_cursor_execute", counted)
    assert len(statements) < 10
    assert api.client.verify_events(run_id) is None


async def test_the_state_of_a_run_follows_from_its_events(api: Api):
    """A walk through the moves; what the row says is rebuilt from the log alone."""
    from service.runs.replay import COVERED, replay

    chance = random.Random(5)
    for _ in range(25):
        run_id = await api.run(labels={"n": "1"})
        for _ in range(chance.randrange(1, 16)):
            async with api.locked(run_id) as (session, run):
                if run.state == State.QUEUED and chance.random() < 0.5:
                    amend(session, run, RunChange(priority=chance.randrange(-9, 10), labels={"n": None, "m": "2"}), PERMIT)
                possible = list(MOVES[State(run.state)])
                if not possible:
                    break
                wanted = chance.choice(possible)
                if wanted == Move.LAUNCH:
                    run.attempt, run.outcome = run.attempt + 1, None
                if wanted == Move.RETRY:
                    run.faults, run.next_attempt_at = run.faults + 1, run.updated_at
                cause = "oom" if wanted in (Move.RETRY, Move.FAIL) or chance.random() < 0.2 else None
                make(session, run, wanted, cause, ["because"] if cause else None)
                if chance.random() < 0.5:
                    step = chance.randrange(100)
                    line = told(step, chance.choice(["stage_started", "ended", "resumed"]), stage="fine", outcome="stopped")
                    from dayrun.run_folder import Cursor
                    from service.launchers import Launched, Observation

                    line["attempt"] = run.attempt
                    await take_in(session, run, Seen(Observation(Launched.ABSENT), [line], [], Cursor(), Cursor()))
        rebuilt = replay(list(api.client.events(run_id)))
        async with api.locked(run_id) as (_, run):
            row = {name: getattr(run, name) for name in COVERED}
            assert rebuilt == {name: str(value) if name == "state" else value for name, value in row.items()}


# ---- streams -----------------------------------------------------------------------------------------------------------------------


async def test_a_stream_gives_what_was_and_what_comes_until_the_run_is_over(api: Api):
    run_id = await long_run(api)
    with api.stream(f"/runs/{run_id}/events") as stream:
        first = [stream.next() for _ in range(8)]
        assert [int(id) for id, _, _ in first] == list(range(1, 9))
        await moved(api, run_id, Move.START)
        assert json.loads(stream.next()[2])["data"]["to"] == "running"
        await moved(api, run_id, Move.SUCCEED)
        rest = list(stream)  # ends by itself
    assert [(id, json.loads(data)["data"]["to"]) for id, _, data in rest] == [("10", "succeeded")]
    with api.stream(f"/runs/{run_id}/events", last="9") as stream:
        assert [id for id, _, _ in stream] == ["10"]


async def test_the_stream_of_all_runs_goes_on_after_the_last_position(api: Api):
    mine = []
    with api.stream("/events") as stream:
        await asyncio.sleep(0)
        next(stream._lines)  # it listens
        a, b = await api.run(), await api.run()
        mine = [stream.next() for _ in range(2)]
        assert [json.loads(data)["run_id"] for _, _, data in mine] == [a, b]
    with api.stream("/events", last=mine[0][0]) as stream:
        id, _, data = stream.next()
        assert (id, json.loads(data)["run_id"]) == (mine[1][0], b)
    page = api.http.get("/events", params={"cursor": mine[0][0]}).json()
    assert [item["run_id"] for item in page["items"]] == [b]
    assert page["items"][0]["project"] == "default"
    assert api.http.get("/events", params={"cursor": "nonsense"}).status_code == 400


@pytest.mark.parametrize("address", ["postgres"], indirect=True)  # SQLite has one writer: ids are allotted in the order of commits
async def test_an_event_that_commits_late_is_not_skipped(api: Api):
    """Its id is lower than one that was seen before it: a reader by ids would never find it."""
    a, b = await api.run(), await api.run()
    with api.stream("/events") as stream:
        next(stream._lines)
        async with api.locked(a) as (session, run):
            events.record(session, run, "stop_sent", which="early id, late commit")
            await session.flush()
            await moved(api, b, Move.PAUSE)
        assert [json.loads(stream.next()[2])["run_id"] for _ in range(2)] == [a, b]


async def test_a_client_that_does_not_read_costs_no_memory_and_misses_nothing(api: Api):
    from service.feeds.broadcast import BUFFER, Broadcast
    from service.feeds.endpoints import of_run

    class Alone:
        def __init__(self) -> None:
            self.database, self.broadcast = api.database, Broadcast(api.database)

    run_id, own = await long_run(api), Alone()
    stream = of_run(own, run_id, 0)  # pyright: ignore[reportArgumentType]
    first = await anext(stream)
    assert first.startswith(b"event: run_created") or b"id: 1\n" in first
    for step in range(BUFFER + 50):  # while the client reads nothing
        await seen(api, run_id, told(step))
    (listener,) = own.broadcast._listeners[run_id]
    await moved(api, run_id, Move.START, Move.SUCCEED)
    ids = [1]
    async for one in stream:
        if b"id: " in one:
            ids.append(int(one.split(b"id: ")[1].split(b"\n")[0]))
        assert len(listener.events) <= BUFFER
    assert ids == list(range(1, 8 + BUFFER + 50 + 2 + 1))
    await own.broadcast.close()


async def test_a_client_that_takes_nothing_for_long_is_disconnected():
    async def endless():
        while True:
            yield b"data: x\n\n"

    async def never(*_) -> Any:
        await asyncio.Event().wait()

    async def send(message) -> None:
        if message["type"] == "http.response.body":
            await never()

    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}}
    await asyncio.wait_for(EventStream(endless(), slow_seconds=0.01)(scope, never, send), PATIENCE_SECONDS)


async def test_nothing_is_read_when_nobody_listens(api: Api):
    run_id = await api.run()
    broadcast = api.app.state.context.broadcast
    with api.stream(f"/runs/{run_id}/events") as stream, api.stream("/events"):
        stream.next()
        until(lambda: broadcast.listening >= 2, "both to be listened to")
    until(lambda: broadcast.listening == 0, "the streams to be left")
    until(lambda: not broadcast.reading, "the reader to stop")


async def test_streams_share_one_reader(api: Api):
    """A hundred listeners hear of an event; the log was not read a hundred times for it."""
    from service.feeds.broadcast import Broadcast

    broadcast, run_id = Broadcast(api.database), await api.run()
    listeners = [broadcast.listen(run_id) for _ in range(100)]
    assert all(await asyncio.gather(*(listener.wait(60) for listener in listeners)))  # the first look has found the log's end
    for listener in listeners:
        listener.behind = False
    before = broadcast.looks
    await moved(api, run_id, Move.PAUSE)
    assert all(await asyncio.gather(*(listener.wait(60) for listener in listeners)))
    assert len({id(listener.events[0]) for listener in listeners}) == 1  # one object, one row of bytes
    assert broadcast.looks - before < 100
    for listener in listeners:
        broadcast.leave(listener)
    await broadcast.close()


async def test_a_log_is_followed_over_attempts_until_the_run_is_over(api: Api):
    from dayrun.objects import Prefix

    run_id = await api.run()
    folder = Prefix(api.settings.run_url(run_id))
    async with api.locked(run_id) as (session, run):
        run.attempt = 1
        make(session, run, Move.LAUNCH)
    folder.put("logs/0001/0.log", b"one\nhalf a lin")
    with api.stream(f"/runs/{run_id}/logs?rank=0") as stream:
        id, _, data = stream.next()
        assert (id, json.loads(data)["text"]) == ("1:4", "one\n")
        folder.put("logs/0001/0.log", "one\nhalf a line, ü\nlast".encode())
        assert json.loads(stream.next()[2])["text"] == "half a line, ü\n"
        async with api.locked(run_id) as (session, run):
            make(session, run, Move.RETRY)
            run.attempt = 2
            make(session, run, Move.LAUNCH)
        folder.put("logs/0002/0.log", b"again\n")
        assert json.loads(stream.next()[2])["text"] == "last"
        id, _, data = stream.next()
        assert (id, json.loads(data)["attempt"]) == ("2:6", 2)
        await moved(api, run_id, Move.SUCCEED)
        assert list(stream) == []
    with api.stream(f"/runs/{run_id}/logs?rank=0", last="1:4") as stream:
        assert [json.loads(data)["text"] for _, _, data in stream] == ["half a line, ü\nlast", "again\n"]
    ranks = api.http.get(f"/runs/{run_id}/ranks").json()["items"]
    assert ranks == [{"attempt": 1, "rank": "0", "bytes": 24}, {"attempt": 2, "rank": "0", "bytes": 6}]
    assert api.http.get(f"/runs/{run_id}/logs", headers={"Accept": "text/event-stream", "Last-Event-ID": "x"}).status_code == 400


async def test_the_request_that_caused_an_event_can_be_found(api: Api):
    run_id = await api.run()
    answer = api.http.post(f"/runs/{run_id}:pause", headers={"X-Request-Id": "from-the-proxy/7"})
    assert answer.headers["X-Request-Id"] == "from-the-proxy/7"
    last = list(api.client.events(run_id))[-1]
    assert (last.actor, last.request_id) == ("local", "from-the-proxy/7")
    made = api.http.get("/healthz", headers={"X-Request-Id": "a b"}).headers["X-Request-Id"]
    assert re.fullmatch(r"[0-9a-f]{32}", made)  # a name that is none is replaced
    assert isinstance(last.time, datetime)
