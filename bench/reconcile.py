"""What a sweep over many active runs costs one worker: seconds, and statements a run, on Postgres.

The runs train elsewhere: the launcher answers that they run, their folders are real, and in one of ten something new stands in it. The
limit beside each figure is the least that any reconciler must do in the same run: read each row once, and list each folder once.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sqlalchemy import event, select, text

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dayrun.objects import Prefix
from dayrun.rules import load
from dayrun.run_folder import LineWriter, RunFolder
from service.database import Database, new_id, now
from service.launchers import Launched, Observation
from service.revisions import bring_up_to_date
from service.runs.reconcile import Reconciler
from service.runs.tables import RunRow
from service.settings import Settings
from service.stack import Stack
from tests.tiny import tiny_recipe


class TrainsElsewhere:
    """A launcher whose attempts all run."""

    def observe(self, run_id: str, attempt: int) -> Observation:
        return Observation(Launched.RUNNING)

    def unfinished(self) -> list[tuple[str, int]]:
        return []

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a run that trains needs no {name}")


async def fill(database: Database, count: int) -> list[str]:
    """`count` runs that train."""
    recipe = load(tiny_recipe("/data")).model_dump(mode="json")
    run_ids = [new_id("run") for _ in range(count)]
    same: dict[str, Any] = {"name": "tiny", "labels": {}, "recipe": recipe, "total_steps": 1000, "world_size": 2, "state": "running"}
    same |= {
        "dollars_per_accelerator_hour": 2.0,
        "evidence": [],
        "created_at": now(),
        "updated_at": now(),
        "holding_since": now(),
        "attempt": 1,
    }
    same |= {"began_attempt": 1, "events_cursor": {}, "metrics_cursor": {}, "accelerator_seconds": 0.0}
    async with database.write() as session:
        for first in range(0, count, 500):
            session.add_all([RunRow(id=run_id, **same) for run_id in run_ids[first : first + 500]])
            await session.flush()
            session.expunge_all()
    async with database.read() as session:
        await session.execute(text("ANALYZE runs"))
    return run_ids


def write_news(settings: Settings, run_ids: list[str], step: int) -> None:
    """What a trainer writes in a second."""
    for run_id in run_ids:
        lines = LineWriter(Prefix(settings.run_url(run_id)), "metrics", step, 0)
        lines.write({"step": step, "name": "loss", "value": 1.0, "time": time.time()})
        lines.flush()


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=5000)
    count = options.parse_args().runs
    with tempfile.TemporaryDirectory() as name, Stack(Path(name)) as stack:
        settings = Settings(home=Path(name) / "home", database=stack.postgres.create_database("reconcile"), accelerators=10**9)
        bring_up_to_date(settings, may_migrate=False)
        database = Database(settings)
        statements = 0

        def counted(*_: Any) -> None:
            nonlocal statements
            statements += 1

        event.listen(database.engine.sync_engine, "before_cursor_execute", counted)
        run_ids = await fill(database, count)
        for run_id in run_ids:  # folders that are there
            RunFolder(Prefix(settings.run_url(run_id))).put_recipe({})
        begun = time.perf_counter()
        async with database.read() as session:
            assert len((await session.scalars(select(RunRow))).all()) == count
        for run_id in run_ids:
            Prefix(settings.run_url(run_id)).objects("events")
        limit = time.perf_counter() - begun
        print(f"{count} runs that train; reading each row and listing each folder once takes {limit:.2f} s")
        reconciler = Reconciler(settings, database, TrainsElsewhere())  # pyright: ignore[reportArgumentType]

        async def go_on() -> None:
            return None

        for number, (what, share) in enumerate([("nothing new", 0), ("something new in one of ten", 10), ("nothing new", 0)], start=1):
            if share:
                write_news(settings, run_ids[::share], number)
            statements, begun = 0, time.perf_counter()
            await reconciler.sweep(go_on)
            seconds = time.perf_counter() - begun
            each = f"{seconds / count * 1000:.2f} ms and {statements / count:.2f} statements a run"
            print(f"a sweep, {what}: {seconds:.2f} s, {each} ({seconds / limit:.1f} × the limit)", flush=True)
        await database.close()


if __name__ == "__main__":
    asyncio.run(main())
