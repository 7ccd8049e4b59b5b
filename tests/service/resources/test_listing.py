"""What lists of runs can be filtered by, on every database: the queries themselves, without a service around them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from service.access import LOCAL, Action, Permit
from service.database import Database
from service.http.problem import Problem
from service.jobs import repository as jobs
from service.jobs import service as work
from service.jobs.tables import Kind
from service.revisions import bring_up_to_date
from service.runs import listing, service
from service.runs.schemas import BulkCancel, NewRun, RunPage, lean_page
from service.runs.states import State
from service.settings import Settings
from tests.tiny import tiny_recipe

PERMIT = Permit(LOCAL, Action.CREATE_RUNS)


@pytest_asyncio.fixture(scope="module")
async def database(address: str | None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Database]:
    """With three runs, oldest first: `one`, `two`, `three`."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), database=address)
    bring_up_to_date(settings, False)
    found = Database(settings)
    await make(found, "one", {"team": "vision", "odd key.\"'": "ä"}, optimizer={"kind": "adamw", "learning_rate": 1.0})
    await make(found, "two", {"team": "vision"}, seed=7, description='a "quoted" \u0000 word')
    await make(found, "three", {})
    yield found
    await found.close()


async def make(database: Database, name: str, labels: dict[str, str], **more: Any) -> str:
    new = NewRun(recipe=tiny_recipe("/data", name=name, **more), labels=labels)
    async with database.write() as session:
        return (await service.create(session, new, service.effective_recipe(new), PERMIT, service.AcceptedWith(None, None))).id


async def names(database: Database, **chosen: Any) -> list[str]:
    async with database.read() as session:
        return [row.name for row in await listing.summaries(session, listing.RunFilter(**chosen), None, 50, None)]


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (["team=vision"], ["two", "one"]),
        (["team=vision", "odd key.\"'=ä"], ["one"]),
        (["team=visio"], []),
        (["vision=team"], []),
        (["team=%"], []),
    ],
)
async def test_labels(database: Database, labels: list[str], found: list[str]):
    assert await names(database, labels=listing.labels_of(labels)) == found


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        (["/seed=7"], ["two"]),
        (["/seed=7.0"], ["two"]),
        (['/seed="7"'], []),
        (["/optimizer/kind=adamw"], ["one"]),
        (['/optimizer/kind="muon"', "/seed=0"], ["three"]),
        (["/optimizer/learning_rate=1"], ["one"]),
        (["/stages/0/batch_size=8"], ["three", "two", "one"]),
        (["/stages/1/batch_size=8"], []),
        (["/limits/hours=null"], ["three", "two", "one"]),
        (["/hardware/compile=false", "/name=two"], ["two"]),
        (["/no/such/field=1"], []),
        (['/description="a \\"quoted\\" \\u0000 word"'], ["two"]),
    ],
)
async def test_recipe_fields_are_compared_as_json_values(database: Database, conditions: list[str], found: list[str]):
    assert await names(database, recipe=listing.conditions_of(conditions)) == found


@pytest.mark.parametrize("bad", ["seed=7", "/seed", "/a//b=1", "/seed={}", "/seed=[1]", '/a"b=1', "/" + "a/" * 20 + "b=1"])
def test_a_filter_that_cannot_be_meant_is_refused(bad: str):
    with pytest.raises(Problem) as caught:
        listing.conditions_of([bad])
    assert (caught.value.status, caught.value.errors[0].pointer) == (422, "query recipe")


async def test_the_rest_and_all_together(database: Database):
    assert await names(database, states=[State.QUEUED], project="default", name="two") == ["two"]
    assert await names(database, states=[State.RUNNING]) == []
    assert await names(database, project="other") == []
    async with database.read() as session:
        rows = await listing.summaries(session, listing.RunFilter(), None, 50, None)
        assert [row.name for row in await listing.summaries(session, listing.RunFilter(), rows[0].id, 1, None)] == ["two"]
        assert list(await listing.summaries(session, listing.RunFilter(), None, 50, ["other"])) == []
    assert await names(database, created_before=rows[0].created_at) == ["two", "one"]
    assert await names(database, created_after=rows[1].created_at) == ["three"]


async def test_a_full_page_weighs_less_than_25_kilobytes(database: Database):
    async with database.read() as session:
        [row] = await listing.summaries(session, listing.RunFilter(name="one"), None, 1, None)
    busy = {**row._mapping, "state": "running", "loss": 0.123456789, "images_per_second": 1234.56789, "step_seconds": 0.0123456789}
    busy |= {
        "waiting": None,
        "stage": "pretraining-512",
        "started_at": row.created_at,
        "holding_since": row.created_at,
        "step": 1234,
        "attempt": 3,
    }

    class Columns:
        def __getattr__(self, name: str) -> Any:
            return busy[name]

    page = lean_page([Columns()] * 50, "c" * 60)
    assert len(page) < 25_000
    assert RunPage.model_validate_json(page).items[0].progress.step == 1234


async def test_many_are_cancelled_at_once_and_each_is_told(database: Database):
    from service.runs.bulk import cancel

    made = [await make(database, "many", {"sweep": "a"}) for _ in range(3)]
    async with database.write() as session:
        told = await cancel(session, BulkCancel(labels={"sweep": "a"}), Permit(LOCAL, Action.MOVE_RUNS))
    assert ([one.id for one in told.items], told.more) == (made, False)
    assert {(one.state, one.cancelled) for one in told.items} == {(State.CANCELLED, True)}
    async with database.write() as session:
        again = await cancel(session, BulkCancel(labels={"sweep": "a"}, state=[State.CANCELLED]), Permit(LOCAL, Action.MOVE_RUNS))
    assert [(one.id, one.cancelled, one.because) for one in again.items] == [
        (run_id, False, "a run that is cancelled cannot cancel") for run_id in made
    ]


async def test_only_so_many_jobs_may_wait(database: Database):
    run_id = await make(database, "drawn", {})
    async with database.write() as session:
        run = await service.find(session, run_id, PERMIT, to_change=True)
        job = await work.order(session, run, Kind.DRAW, 5, {"prompts": ["x"]}, PERMIT, most_waiting=1)
        with pytest.raises(Problem) as caught:
            await work.order(session, run, Kind.EXPORT, 5, {}, PERMIT, most_waiting=1)
        assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "30"})
        assert await jobs.working_on(session, "here") == 0
    async with database.write() as session:
        assert (await jobs.lease(session, job.id, "me", 30)) is not None
        assert (await jobs.lease(session, job.id, "another", 30)) is None


async def test_two_who_store_a_recipe_at_once_do_not_overwrite_each_other(database: Database, tmp_path: Path):
    from service.recipes import service as recipes

    document = tiny_recipe(tmp_path)
    async with database.write() as session:
        assert (await recipes.put(session, "default", "mine", document, PERMIT, None, "*")).version == 1
    for match, status in ((None, 428), ('"2"', 412)):
        async with database.read() as session:
            with pytest.raises(Problem) as caught:
                await recipes.put(session, "default", "mine", document, PERMIT, match, None)
        assert caught.value.status == status
    async with database.write() as session:
        assert (await recipes.put(session, "default", "mine", document | {"seed": 9}, PERMIT, '"1"', None)).version == 2
    async with database.read() as session:
        for name, seed in (("mine", 9), ("mine@1", None), ("mine@2", 9)):
            found = await recipes.named(session, NewRun(recipe=name), name, PERMIT)
            assert found.recipe.get("seed") == seed
        with pytest.raises(Problem) as caught:
            await recipes.named(session, NewRun(recipe="mien"), "mien", PERMIT)
        assert "mine" in caught.value.errors[0].nearest
