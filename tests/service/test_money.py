"""Quotas, budgets, the queue and the ledger through the app, on both databases. Attempts are launched on machines that only keep count:
what is tested is what the service decides and writes down, not training.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import event, func, select, text, update

from service.access import Action, Actor, Permit, Role
from service.app import create_app
from service.context import Context
from service.database import Database, now
from service.http.problem import Problem
from service.launchers import Launched, Observation, Order
from service.projects.tables import ProjectRow
from service.revisions import bring_up_to_date
from service.runs import repository, room
from service.runs.amend import RunChange, amend
from service.runs.reconcile import Reconciler
from service.runs.schemas import NewRun
from service.runs.service import AcceptedWith, create, effective_recipe, may_prioritise
from service.runs.states import HOLDS_MACHINES, Move
from service.runs.tables import EventRow, RunRow
from service.runs.transition import move
from service.settings import Settings
from service.usage.tables import UsageRow
from tests.service.conftest import new_database
from tests.tiny import tiny_recipe


class Machines:
    """A launcher whose attempts run until the test, or a stop, ends them."""

    def __init__(self) -> None:
        self.attempts: dict[tuple[str, int], Observation] = {}

    def launch(self, order: Order) -> None:
        self.attempts.setdefault((order.run_id, order.attempt), Observation(Launched.RUNNING))

    def observe(self, run_id: str, attempt: int) -> Observation:
        return self.attempts.get((run_id, attempt), Observation(Launched.ABSENT))

    def stop(self, run_id: str, attempt: int, force: bool) -> None:
        self.end(run_id, attempt, 0)

    def end(self, run_id: str, attempt: int, code: int) -> None:
        self.attempts[run_id, attempt] = Observation(Launched.ENDED, code, now(), [] if code == 0 else ["rank 0 was killed"])

    def logs(self, run_id: str, attempt: int) -> str | None:
        return None

    def unfinished(self) -> list[tuple[str, int]]:
        return [key for key, seen in self.attempts.items() if seen.launched == Launched.RUNNING]

    def manifest(self, order: Order) -> dict[str, Any]:
        return {}


async def go_on() -> None:
    """Nobody else wants the worker's turn."""


class House:
    """The service without its processes: the app, its database, and a worker whose every look the test asks for."""

    def __init__(self, settings: Settings, http: httpx.AsyncClient, database: Database) -> None:
        self.settings, self.http, self.database, self.machines = settings, http, database, Machines()
        self.worker = Reconciler(settings, database, self.machines)

    async def post(self, accelerators: int = 2, dollars: float | None = None, status: int = 201, **more: Any) -> dict[str, Any]:
        limits = {"dollars": dollars} if dollars else {}
        steps = 10**8 if dollars else 60  # what would take years is bounded by its limit, not by its plan
        recipe = tiny_recipe("nowhere", steps=steps, processes=accelerators, limits=limits)
        recipe["stages"][0]["batch_size"] = 2520  # that any number of processes divides
        answer = await self.http.post("/runs", json={"recipe": recipe, **more})
        assert answer.status_code == status, answer.text
        return answer.json()

    async def run(self, run_id: str) -> dict[str, Any]:
        return (await self.http.get(f"/runs/{run_id}")).json()

    async def states(self, *runs: dict[str, Any]) -> list[str]:
        return [(await self.run(run["id"]))["state"] for run in runs]

    async def cancel(self, run: dict[str, Any]) -> None:
        await self.http.post(f"/runs/{run['id']}:cancel")
        await self.sweep()

    async def sweep(self, times: int = 3) -> None:
        """Enough looks for what is decided to be done and seen."""
        for _ in range(times):
            await self.worker.sweep(go_on)

    async def allow(self, **caps: float | None) -> None:
        async with self.database.write() as session:
            await session.execute(update(ProjectRow).where(ProjectRow.id == "default").values(**caps))

    async def let_hours_pass(self, run: dict[str, Any], hours: float) -> None:
        """As if the run had begun its attempt that much earlier."""
        async with self.database.write() as session:
            row = await repository.get(session, run["id"])
            assert row is not None
            line = await session.get(UsageRow, (row.id, row.attempt))
            assert row.holding_since is not None
            assert line is not None
            row.holding_since -= timedelta(hours=hours)
            line.held_from -= timedelta(hours=hours)

    async def spend(self, run: dict[str, Any], dollars: float) -> None:
        """As if an earlier attempt of the run had cost that today."""
        async with self.database.write() as session:
            price = {"accelerators": 1, "dollars_per_accelerator_hour": 1.0, "dollars": dollars}
            session.add(UsageRow(run_id=run["id"], attempt=99, project_id="default", held_from=now(), held_until=now(), **price))

    async def events(self, run: dict[str, Any], type: str) -> list[EventRow]:
        async with self.database.read() as session:
            query = select(EventRow).where(EventRow.run_id == run["id"], EventRow.type == type).order_by(EventRow.id)
            return list((await session.scalars(query)).all())


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[House]:
    bring_up_to_date(settings, may_migrate=False)
    app: FastAPI = create_app(settings)
    async with app.router.lifespan_context(app):
        context: Context = app.state.context
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://dayrun") as http:
            yield House(settings, http, context.database)


@pytest.fixture(params=["sqlite", "postgres"])
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    """One with eight accelerators."""
    address = new_database(request.getfixturevalue("stack")) if request.param == "postgres" else None
    async with opened(Settings(home=tmp_path, accelerators=8, database=address)) as house:
        yield house


# ---- the ledger --------------------------------------------------------------------------------------------------------------------


async def test_every_attempt_is_a_line_of_the_ledger_and_they_add_up_to_the_run(house: House):
    run = await house.post(accelerators=2)
    await house.sweep()
    await house.let_hours_pass(run, 1.5)
    house.machines.end(run["id"], 1, code=1)
    await house.sweep()  # the fault is seen
    async with house.database.write() as session:
        await session.execute(update(RunRow).values(next_attempt_at=now()))
    await house.worker.look(run["id"])
    await house.let_hours_pass(run, 0.5)
    cost = (await house.http.get(f"/runs/{run['id']}/cost")).json()
    first, second = cost["attempts"]
    assert (first["attempt"], first["accelerators"], first["dollars_per_accelerator_hour"]) == (1, 2, 36.0)
    assert first["dollars"] == pytest.approx(1.5 * 2 * 36, rel=1e-2)
    assert first["held_until"] is not None
    assert (second["attempt"], second["held_until"]) == (2, None)
    assert cost["dollars"] == pytest.approx(first["dollars"] + second["dollars"], rel=1e-3)
    assert cost["accelerator_hours"] == pytest.approx(4.0, rel=1e-2)
    assert cost["dollars_per_hour"] == 72.0
    assert cost["predicted"]["basis"] == "estimate"  # no limit: its plan alone says what it will cost
    assert 0 < cost["predicted"]["dollars"] < cost["dollars"]
    assert cost["reserved_dollars"] == 0.0  # it has cost more already
    await house.cancel(run)
    after = (await house.http.get(f"/runs/{run['id']}/cost")).json()
    assert after["dollars_per_hour"] == 0.0
    assert all(attempt["held_until"] for attempt in after["attempts"])
    assert after["dollars"] == pytest.approx((await house.run(run["id"]))["cost"]["dollars"])


async def test_a_restored_row_goes_on_with_the_attempt_that_trains_meanwhile(house: House):
    """The database is a backup's: since it was made, runs have gone on, begun, and been cancelled."""
    begun, queued, cancelled = await house.post(accelerators=2), await house.post(accelerators=7), await house.post(accelerators=1)
    await house.sweep()
    await house.cancel(cancelled)
    assert await house.states(begun, queued, cancelled) == ["launching", "queued", "cancelled"]
    house.machines.end(begun["id"], 1, code=1)
    newer = [(begun["id"], 3), (queued["id"], 2), (cancelled["id"], 2)]
    house.machines.attempts |= {key: Observation(Launched.RUNNING) for key in newer}
    await house.sweep()
    assert house.machines.unfinished() == newer[:2]
    runs = [await house.run(run["id"]) for run in (begun, queued, cancelled)]
    assert [(run["state"], run["attempt"]) for run in runs] == [("launching", 3), ("launching", 2), ("cancelled", 0)]
    assert [event.attempt for run in (begun, queued) for event in await house.events(run, "attempt_adopted")] == [3, 2]
    attempts = [(await house.http.get(f"/runs/{run['id']}/cost")).json()["attempts"] for run in runs]
    assert [[line["attempt"] for line in lines if line["held_until"] is None] for lines in attempts] == [[3], [2], []]
    await house.cancel(begun)
    assert house.machines.unfinished() == newer[1:2]


async def test_a_project_sees_what_it_spends_by_day_and_by_run(house: House):
    await house.allow(accelerators=8, dollars_per_day=100_000.0, dollars_per_month=100_000.0)
    dear, cheap = await house.post(accelerators=4, dollars=5000.0), await house.post(accelerators=1)
    async with house.database.write() as session:  # as an older service stored it: without a plan
        await session.execute(update(RunRow).where(RunRow.id == cheap["id"]).values(predicted_dollars=None, predicted_hours=None))
    await house.sweep()
    await house.let_hours_pass(dear, 2.0)
    await house.let_hours_pass(cheap, 1.0)
    usage = (await house.http.get("/projects/default/usage", params={"limit": 1})).json()
    assert [one["run"] for one in usage["runs"]] == [dear["id"]]
    assert usage["more_runs"] == 1
    assert (usage["accelerators_held"], usage["dollars_per_hour"]) == (5, 180.0)
    assert usage["dollars_this_month"] == pytest.approx(sum(day["dollars"] for day in usage["days"]))
    # what was held before midnight, or before the first of the month, is not of today or of this month
    assert usage["dollars_today"] <= usage["dollars_this_month"] <= 9 * 36.0 + 50
    assert usage["reserved_dollars"] == pytest.approx(5000.0 - 8 * 36.0, rel=1e-2)
    assert usage["runs_without_prediction"] == 1
    assert usage["left_this_month"] == pytest.approx(100_000.0 - usage["dollars_this_month"] - usage["reserved_dollars"])
    assert (await house.http.get("/projects/nobodys/usage")).status_code == 404


async def test_an_attempt_that_no_ledger_knew_gets_its_line_when_it_ends(house: House):
    """An older worker launched it, during an upgrade."""
    run = await house.post()
    await house.sweep()
    async with house.database.write() as session:
        await session.execute(text("DELETE FROM usage"))
    await house.cancel(run)
    attempts = (await house.http.get(f"/runs/{run['id']}/cost")).json()["attempts"]
    assert len(attempts) == 1
    assert attempts[0]["held_until"]


# ---- admission ---------------------------------------------------------------------------------------------------------------------


async def test_a_run_wider_than_the_quota_is_refused_with_the_width_that_works(house: House):
    await house.allow(accelerators=4)
    refused = await house.post(accelerators=6, status=409)
    assert refused["type"] == "urn:dayrun:problem:over-quota"
    (error,) = refused["errors"]
    assert (error["pointer"], error["value"], error["nearest"]) == ("/recipe/hardware/processes_per_node", 6, [4])
    assert "project 'default' may hold 4 at once" in error["because"]
    assert (await house.post(accelerators=4))["state"] == "queued"
    assert "there are 8 in all" in (await house.post(accelerators=9, status=409))["errors"][0]["because"]


async def test_runs_cannot_together_promise_more_than_the_month_has_left(house: House):
    await house.allow(dollars_per_month=100.0)
    first = await house.post(dollars=60.0)
    refused = await house.post(dollars=50.0, status=409)
    assert refused["errors"][0]["nearest"] == [40.0]
    assert "$60.00 reserved: $40.00 are left" in refused["detail"]
    second = await house.post(dollars=40.0)
    await house.http.post(f"/runs/{first['id']}:cancel")  # what it had not spent is free again
    assert (await house.post(dollars=59.0))["state"] == "queued"
    assert (await house.http.get("/projects/default/usage")).json()["reserved_dollars"] == 99.0
    assert await house.states(first, second) == ["cancelled", "queued"]


async def test_a_project_that_is_not_there_takes_no_runs(house: House):
    assert (await house.post(status=404, project="nobodys"))["type"] == "urn:dayrun:problem:no-such-project"


# ---- caps --------------------------------------------------------------------------------------------------------------------------


async def test_at_80_percent_of_a_cap_the_run_is_warned_once_and_at_100_paused(house: House):
    run = await house.post(accelerators=2)  # $72 an hour
    await house.sweep()
    await house.spend(run, 72.0)
    await house.allow(dollars_per_month=80.0)
    await house.sweep()
    (warning,) = await house.events(run, "cap_near")
    assert (warning.data["cap"], warning.data["limit"], warning.data["period"]) == ("dollars_per_month", 80.0, f"{now():%Y-%m}")
    assert await house.states(run) == ["launching"]  # its trainer has told nothing yet
    await house.allow(dollars_per_month=72.0)
    await house.sweep(4)
    paused = await house.run(run["id"])
    assert (paused["state"], paused["cause"]) == ("paused", "budget")
    assert "dollars_per_month: $" in paused["evidence"][0]
    assert len(await house.events(run, "cap_near")) == 1
    refused = await house.http.post(f"/runs/{run['id']}:resume")
    assert refused.status_code == 409
    assert refused.json()["type"] == "urn:dayrun:problem:over-quota"
    assert "of $72.00 are used by project 'default'" in refused.json()["detail"]
    assert await house.states(run) == ["paused"]
    await house.allow(dollars_per_month=1000.0)
    assert (await house.http.post(f"/runs/{run['id']}:resume")).json()["state"] == "queued"


async def test_when_the_day_is_spent_queued_runs_wait_for_tomorrow(house: House):
    first, waits = await house.post(accelerators=2), await house.post(accelerators=8)
    await house.sweep()
    await house.spend(first, 5.0)
    await house.allow(dollars_per_day=5.0)
    await house.sweep(4)
    assert await house.states(first, waits) == ["paused", "queued"]  # room there would be
    waiting = (await house.run(waits["id"]))["waiting"]
    assert waiting["code"] == "day_budget"
    tomorrow = (now() + timedelta(days=1)).strftime("%Y-%m-%d")
    assert f"there is room again from {tomorrow} 00:00 UTC" in waiting["because"]
    assert waiting["expected_start"].startswith(f"{tomorrow}T00:00:00")
    await house.allow(dollars_per_day=1000.0)
    await house.sweep()
    assert (await house.run(waits["id"]))["waiting"] is None


async def test_a_run_at_its_own_limit_is_refused_to_resume(house: House):
    run = await house.post(accelerators=2, dollars=10.0)
    await house.sweep()
    await house.let_hours_pass(run, 1.0)
    await house.sweep(4)
    assert (await house.run(run["id"]))["evidence"][0].startswith("/limits/dollars: $72.")
    refused = (await house.http.post(f"/runs/{run['id']}:resume")).json()
    assert refused["errors"][0]["pointer"] == "/limits/dollars"


# ---- the queue ---------------------------------------------------------------------------------------------------------------------


async def test_a_queued_run_says_why_it_waits_and_where_it_stands(house: House):
    first = await house.post(accelerators=6)
    assert (first["waiting"]["code"], first["priority"]) == ("starting", 0)
    wide = await house.post(accelerators=8)
    narrow = await house.post(accelerators=1, dollars=5000.0)  # for days: it may not begin in the wide one's room
    await house.sweep()
    assert (await house.states(first, wide, narrow))[1:] == ["queued", "queued"]
    waiting = (await house.run(wide["id"]))["waiting"]
    assert datetime.fromisoformat(waiting.pop("expected_start")) > now()  # when the first is over, as its plan says
    assert waiting == {"code": "no_room", "because": "it takes 8 accelerators; 2 of 8 are free", "place": 1}
    assert (await house.run(narrow["id"]))["waiting"]["because"] == "1 run is before it"
    summaries = {one["id"]: one for one in (await house.http.get("/runs")).json()["items"]}
    assert summaries[narrow["id"]]["waiting"]["place"] == 2
    assert "waiting" not in summaries[first["id"]]
    await house.cancel(first)
    await house.sweep()
    assert (await house.run(wide["id"]))["state"] in ("launching", "running")
    assert (await house.run(narrow["id"]))["waiting"]["code"] == "no_room"


async def test_priority_can_be_changed_while_queued_and_says_who_did_it(house: House):
    holds, older, younger = await house.post(8), await house.post(8), await house.post(8)
    await house.sweep()
    path = f"/runs/{younger['id']}"
    version = (await house.http.get(path)).headers["ETag"]
    stale = await house.http.patch(path, json={"priority": 5}, headers={"If-Match": '"1"'})
    assert stale.status_code == 412
    changed = await house.http.patch(path, json={"priority": 5, "labels": {"team": "vision"}}, headers={"If-Match": version})
    assert changed.status_code == 200
    assert (changed.json()["priority"], changed.json()["labels"]) == (5, {"team": "vision"})
    again = await house.http.patch(path, json={"priority": 5})
    assert again.headers["ETag"] == changed.headers["ETag"]  # nothing changed
    (told,) = await house.events(younger, "run_changed")
    assert told.actor == "local"
    assert told.data["priority"] == {"from": 0, "to": 5}
    await house.sweep()
    assert (await house.run(younger["id"]))["waiting"]["place"] == 1
    await house.cancel(holds)
    assert (await house.states(younger, older))[1] == "queued"
    late = await house.http.patch(path, json={"priority": 1})
    assert (late.status_code, late.json()["type"]) == (409, "urn:dayrun:problem:not-queued")
    labelled = await house.http.patch(path, json={"labels": {"team": None, "who": "me"}})
    assert labelled.json()["labels"] == {"who": "me"}
    assert (await house.http.patch(path, json={"priority": 101})).status_code == 422


async def test_a_run_that_is_posted_with_a_priority_begins_first(house: House):
    plain, urgent = await house.post(8), await house.post(8, priority=10)
    await house.worker.look(plain["id"])  # a hint for one places the whole queue
    assert await house.states(plain, urgent) == ["queued", "launching"]


async def test_the_end_of_a_run_lets_the_next_begin_without_a_sweep(house: House):
    holds, waits = await house.post(8), await house.post(8)
    await house.sweep()
    assert await house.states(waits) == ["queued"]
    await house.http.post(f"/runs/{holds['id']}:cancel")
    await house.worker.look(holds["id"])  # sends the stop
    await house.worker.look(holds["id"])  # sees the end
    assert await house.states(holds, waits) == ["cancelled", "launching"]
    assert list(house.machines.attempts) == [(holds["id"], 1), (waits["id"], 1)]


async def test_a_writer_may_lower_a_priority_and_an_admin_raise_it():
    writer, admin = (Actor(f"key:{role}", str(role), {"default": role}) for role in (Role.WRITER, Role.ADMIN))
    may_prioritise(writer, "default", 0)
    may_prioritise(admin, "default", 100)
    with pytest.raises(Problem, match="takes the role admin"):
        may_prioritise(writer, "default", 1)
    run = RunRow(state="queued", priority=0, project_id="default", labels={})
    with pytest.raises(Problem, match="takes the role admin"):
        amend(None, run, RunChange(priority=1), Permit(writer, Action.MOVE_RUNS))  # type: ignore[arg-type]
    assert run.priority == 0


async def test_a_sweep_of_a_queue_that_stands_still_writes_nothing_and_asks_no_more_for_more_runs(house: House):
    await house.post(8)
    statements: list[str] = []
    await house.sweep()

    async def one_placement(queued: int) -> list[str]:
        for _ in range(queued):
            await house.post(8)
        await house.worker.place()  # they are told
        statements.clear()
        await house.worker.place()
        return list(statements)

    event.listen(house.database.engine.sync_engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    few, many = await one_placement(2), await one_placement(30)
    assert few == many
    assert not any(statement.startswith(("UPDATE", "INSERT")) for statement in many)


async def test_prometheus_sees_the_burn_and_the_queue(house: House):
    await house.post(8)
    await house.post(8)
    await house.sweep()
    lines = dict(line.rsplit(" ", 1) for line in (await house.http.get("/metrics")).text.splitlines() if line.startswith("dayrun_"))
    assert float(lines['dayrun_accelerators_held{project="default"}']) == 8
    assert float(lines['dayrun_dollars_per_hour{project="default"}']) == 288
    assert float(lines['dayrun_runs{state="queued"}']) == 1
    assert float(lines["dayrun_queue_oldest_seconds"]) > 0


# ---- two at once -------------------------------------------------------------------------------------------------------------------


async def waits_for_a_lock(house: House, task: asyncio.Task[Any]) -> None:
    """Return once a transaction on this database waits for another: `task` does, or has not, and is done."""
    query = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
    while not task.done():
        async with house.database.read() as session:
            if await session.scalar(query):
                return


async def held(house: House) -> int:
    async with house.database.read() as session:
        return await session.scalar(select(func.sum(RunRow.world_size)).where(RunRow.state.in_(HOLDS_MACHINES))) or 0


@pytest.mark.parametrize("house", ["postgres"], indirect=True)
async def test_two_workers_never_fill_the_same_room(house: House):
    runs = [await house.post(accelerators=4) for _ in range(4)]
    elsewhere = Database(house.settings)
    other = Reconciler(house.settings, elsewhere, house.machines)
    async with house.database.write() as session:  # one worker decides …
        picture = await room.decide(session, house.settings)
        assert picture.begins == [run["id"] for run in runs[:2]]
        meanwhile = asyncio.create_task(other.place())
        await waits_for_a_lock(house, meanwhile)  # … and the other has come to the same point
        for run in await repository.lock_queued(session, picture.begins):
            run.attempt = 1
            move(session, run, Move.LAUNCH)
    assert (await meanwhile).begins == []
    assert await held(house) == 8
    # a crowd, too
    await house.cancel(runs[0])
    await house.cancel(runs[1])
    await asyncio.gather(*(worker.place() for worker in [other, house.worker] * 4))
    assert await held(house) == 8
    await elsewhere.close()


@pytest.mark.parametrize("house", ["postgres"], indirect=True)
async def test_two_submissions_never_both_get_the_last_of_the_budget(house: House):
    await house.allow(dollars_per_month=100.0)
    new = NewRun(recipe=tiny_recipe("nowhere", steps=10**8, limits={"dollars": 60.0}))
    permit = Permit(Actor("key:one", "one", {"default": Role.WRITER}), Action.CREATE_RUNS)
    async with house.database.write() as session:
        await create(session, new, effective_recipe(new), permit, AcceptedWith(None, None))
        meanwhile = asyncio.create_task(house.post(dollars=60.0, status=409))
        await waits_for_a_lock(house, meanwhile)
    assert (await meanwhile)["errors"][0]["nearest"] == [40.0]
    answers = await asyncio.gather(
        *(house.http.post("/runs", json=new.model_dump() | {"overrides": {"limits": {"dollars": 10}}}) for _ in range(9))
    )
    assert sorted(answer.status_code for answer in answers) == [201] * 4 + [409] * 5
