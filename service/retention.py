"""What is kept for how long, and the deleting of the rest: files of runs that are over, old events, old deliveries, old answers.

Nothing of a run that is not over is touched but holds of its checkpoints: while it trains, its recipe says which of these stay. The newest
checkpoint of a run always stays, and the last event: the rest of a log can be forgotten without breaking its chain, since the run's row
keeps the digest at the cut.
`python -m service.retention` lists what would be deleted now, and deletes nothing.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Text, delete, func, or_, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncSession

from dayrun.objects import ObjectInfo, Prefix
from dayrun.run_folder import RunFolder, step_name
from service import events
from service.database import Database, now
from service.http.idempotency import forget_old
from service.jobs.tables import WAITING_OR_WORKING, JobRow
from service.runs import repository
from service.runs.states import HOLDS_MACHINES, OVER
from service.runs.tables import EventRow, IdempotencyRow, RunRow
from service.settings import Settings
from service.webhooks.repository import forget_deliveries
from service.webhooks.tables import DeliveryRow

RUNS_A_READ = 200
RUNS_A_SWEEP = 50


@dataclass(frozen=True)
class Deletion:
    """Something that is kept no longer."""

    kind: str
    run_id: str | None
    count: int
    bytes: int = 0

    def __str__(self) -> str:
        size = f", {self.bytes:,} bytes" if self.bytes else ""
        return f"{self.run_id or 'the service'}: {self.kind}: {self.count:,}{size}"


def logs(folder: RunFolder, attempt: int, _needed: set[int]) -> list[ObjectInfo]:
    """Of the attempts that there were: somebody may resume the run while we delete."""
    return [info for info in folder.prefix.objects("logs") if int(info.key.split("/")[1]) <= attempt]


def thumbnails(folder: RunFolder, _attempt: int, _needed: set[int]) -> list[ObjectInfo]:
    return folder.prefix.objects("thumbnails")


def older_checkpoints(folder: RunFolder, _attempt: int, needed: set[int]) -> list[ObjectInfo]:
    """All but the newest and those that others need; the file that makes each complete goes first: what is left is no checkpoint."""
    found: list[ObjectInfo] = []
    for step in folder.checkpoints()[:-1]:
        if step not in needed:
            files = folder.prefix.objects(f"checkpoints/{step_name(step)}")
            found += sorted(files, key=lambda info: not info.key.endswith("/complete.json"))
    return found


FILES: dict[str, Callable[[RunFolder, int, set[int]], list[ObjectInfo]]] = {
    "logs": logs,
    "thumbnails": thumbnails,
    "checkpoints": older_checkpoints,
}


def kept_days(settings: Settings) -> dict[str, float | None]:
    """By kind of file, counted from the end of the run; None: for ever."""
    return {"logs": settings.keep_logs_days, "thumbnails": settings.keep_thumbnails_days, "checkpoints": settings.keep_checkpoints_days}


async def forget(database: Database, settings: Settings, at: datetime, dry_run: bool = False) -> list[Deletion]:
    """Delete what is kept no longer at `at`; with `dry_run` only tell. What was not deleted because the process died is the next call's."""
    done = [deletion async for deletion in files(database, settings, at, dry_run)]
    done += [deletion async for deletion in old_events(database, settings, at, dry_run)]
    done += [deletion async for deletion in holds(database, settings, dry_run)]
    idempotency = at - timedelta(hours=settings.idempotency_hours)
    deliveries = None if settings.keep_deliveries_days is None else at - timedelta(days=settings.keep_deliveries_days)
    async with database.read() as session:
        answers = await count(session, IdempotencyRow.created_at < idempotency)
        messages = await count(session, DeliveryRow.state != "due", DeliveryRow.created_at < deliveries) if deliveries else 0
    if not dry_run:
        await forget_old(database, settings.idempotency_hours, at)
        if deliveries:
            async with database.write() as session:
                await forget_deliveries(session, deliveries)
    rows = (Deletion("answers to idempotency keys", None, answers), Deletion("webhook deliveries", None, messages))
    return done + [one for one in rows if one.count]


async def count(session: AsyncSession, *where: Any) -> int:
    return await session.scalar(select(func.count()).where(*where)) or 0


async def over_since(database: Database, before: datetime, *where: Any) -> AsyncIterator[RunRow]:
    """Runs that have been over since before, by id."""
    last = ""
    while True:
        query = select(RunRow).where(RunRow.id > last, RunRow.state.in_(OVER), RunRow.ended_at < before, *where)
        async with database.read() as session:
            rows = list((await session.scalars(query.order_by(RunRow.id).limit(RUNS_A_READ))).all())
        for run in rows:
            yield run
        if len(rows) < RUNS_A_READ:
            return
        last = rows[-1].id


async def files(database: Database, settings: Settings, at: datetime, dry_run: bool) -> AsyncIterator[Deletion]:
    for kind, days in kept_days(settings).items():
        if days is None:
            continue
        not_yet = or_(RunRow.forgotten.is_(None), type_coerce(RunRow.forgotten, Text).not_like(f'%"{kind}"%'))
        async for run in over_since(database, at - timedelta(days=days), not_yet):
            needed = set((await readers(database, run.id)).values())
            folder = RunFolder(Prefix(settings.run_url(run.id)))
            found = await asyncio.to_thread(FILES[kind], folder, run.attempt, needed)
            deletion = Deletion(kind, run.id, len(found), sum(info.bytes for info in found))
            if not dry_run:
                await asyncio.to_thread(remove, folder.prefix, found)
                await note(database, deletion, run.ended_at, final=not needed)
            if found:
                yield deletion


async def readers(database: Database, run_id: str) -> dict[str, int]:
    """Who reads which of the run's checkpoints yet, id → step: forks that are not over, draws and exports that wait or are at work."""
    forks = select(RunRow.id, RunRow.parent_step).where(RunRow.parent_run_id == run_id, RunRow.state.not_in(OVER))
    jobs = select(JobRow.id, JobRow.step).where(JobRow.run_id == run_id, JobRow.state.in_(WAITING_OR_WORKING))
    async with database.read() as session:
        return {id: step for query in (forks, jobs) for id, step in (await session.execute(query)).all() if step is not None}


async def holds(database: Database, settings: Settings, dry_run: bool) -> AsyncIterator[Deletion]:
    """Release the checkpoints of runs that train from whom nobody looks at any more: what was cancelled while it was queued."""
    async with database.read() as session:
        run_ids = (await session.scalars(select(RunRow.id).where(RunRow.state.in_(HOLDS_MACHINES)).order_by(RunRow.id))).all()
    for run_id in run_ids:
        folder = RunFolder(Prefix(settings.run_url(run_id)))
        with suppress(OSError):  # the store is away: the next time
            found = await asyncio.to_thread(folder.holds)
            reading = await readers(database, run_id) if found else {}  # asked after the look: who holds has a row before that
            left = [(step, id) for step, id in found if id not in reading]
            for step, id in () if dry_run else left:
                await asyncio.to_thread(folder.release_checkpoint, step, id)
            if left:
                yield Deletion("holds of checkpoints", run_id, len(left))


def remove(prefix: Prefix, found: list[ObjectInfo]) -> None:
    for info in found:
        prefix.delete(info.key)


async def note(database: Database, deletion: Deletion, ended_at: datetime | None, final: bool) -> None:
    """Write down in the run's log what was deleted, and that this kind is done with unless `final` says that some is left."""
    async with database.write() as session:
        run = await repository.get(session, deletion.run_id or "", to_change=True)
        if run is None or run.ended_at != ended_at:  # resumed meanwhile: its new files are another end's
            return
        if final:
            run.forgotten = [*(run.forgotten or []), deletion.kind]
        if deletion.count:
            run.updated_at, run.version = now(), run.version + 1
            events.record(session, run, "artifacts_deleted", kind=deletion.kind, files=deletion.count, bytes=deletion.bytes)


async def old_events(database: Database, settings: Settings, at: datetime, dry_run: bool) -> AsyncIterator[Deletion]:
    """Forget the logs of runs that are long over, all but the last event of each."""
    if settings.keep_events_days is None:
        return
    more_than_one = RunRow.chain_length - 1 > RunRow.pruned_length
    async for run in over_since(database, at - timedelta(days=settings.keep_events_days), more_than_one):
        if not dry_run and not await prune(database, run.id, run.ended_at):
            continue
        yield Deletion("events", run.id, run.chain_length - 1 - run.pruned_length)


async def prune(database: Database, run_id: str, ended_at: datetime | None) -> bool:
    """Drop all events of a run but the last; its row keeps the digest that the last one hangs on."""
    async with database.write() as session:
        run = await repository.get(session, run_id, to_change=True)
        if run is None or run.ended_at != ended_at or run.chain_length < 2:
            return False
        cut = run.chain_length - 1
        digest = await session.scalar(select(EventRow.digest).where(EventRow.run_id == run_id, EventRow.sequence == cut))
        if digest is None:  # the chain is broken there: whoever looks into that needs what is left
            return False
        run.pruned_length, run.pruned_digest = cut, digest
        await session.execute(delete(EventRow).where(EventRow.run_id == run_id, EventRow.sequence <= cut))
        return True


async def chain_what_is_left(database: Database) -> int:
    """Chain events that an older version of the service wrote, of some runs; returns of how many: 0 when none is left."""
    async with database.read() as session:
        found = await events.unchained(session, RUNS_A_SWEEP)
    for run_id in found:
        async with database.write() as session:
            run = await repository.get(session, run_id, to_change=True)
            if run is not None:
                await events.chain_older(session, run)
    return len(found)


async def main() -> None:
    settings = Settings()
    database = Database(settings)
    for deletion in await forget(database, settings, now(), dry_run=True):
        print(deletion)
    await database.close()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
