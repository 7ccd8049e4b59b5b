"""Bring one job a step further: lease its row, look, decide (`decide.py`), write down, act. Level-triggered, as runs are.

A job's program works where the worker that started it has its programs (`Programs.place`): this machine, or a cluster that all workers
share. Workers elsewhere leave it alone.
"""

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy.ext.asyncio import AsyncSession

from dayrun.objects import Prefix
from dayrun.run_folder import RunFolder
from service import events
from service.database import Database, new_id, now
from service.jobs import repository
from service.jobs.commands import arguments_of
from service.jobs.decide import End, Standing, Start, Step, Stop, Wait, next_step
from service.jobs.tables import JobRow, JobState, Kind
from service.launchers import Launched, Observation, Programs
from service.runs import repository as runs
from service.settings import Settings

FOLDERS: dict[Kind, Literal["draws", "exports"]] = {Kind.DRAW: "draws", Kind.EXPORT: "exports"}


@dataclass
class Seen:
    """One look at a job: its program, and what it has left in the run folder."""

    program: Observation
    complete: bool = False
    failure: dict[str, Any] | None = None


class JobReconciler:
    def __init__(self, settings: Settings, database: Database, programs: Programs) -> None:
        self._settings, self._database, self._programs = settings, database, programs
        self._host = programs.place

    async def sweep(self) -> None:
        """A look at every job that is not over: the oldest finds room first."""
        async with self._database.read() as session:
            job_ids = await repository.active_ids(session)
        for job_id in job_ids:
            with suppress(OSError):  # the store is away: that is no reason to leave the others
                await self.look(job_id)

    async def look(self, job_id: str) -> None:
        """One step for one job; returns at once when another process holds its lease."""
        owner = f"{os.getpid()}:{new_id('look')}"
        async with self._database.write() as session:
            job = await repository.lease(session, job_id, owner, self._settings.lease_seconds)
        if job is None:
            return
        try:
            seen = await asyncio.to_thread(self._observe, job)
            async with self._database.write() as session:
                job = await repository.leased(session, job_id, owner)
                if job is None:  # we were slow and somebody else took over
                    return
                busy = job.state == JobState.QUEUED and await repository.working_on(session, self._host) >= self._settings.jobs_at_once
                step = next_step(self._standing(job, seen, room=not busy), seen.program, now())
                await self._write_down(session, job, step)
            await asyncio.to_thread(self._act, job, step)
        finally:
            async with self._database.write() as session:
                await repository.release(session, job_id, owner)

    def _observe(self, job: JobRow) -> Seen:
        if job.host != self._host:
            return Seen(Observation(Launched.ABSENT))
        program = self._programs.observe(job.id)
        if program.launched != Launched.ENDED:
            return Seen(program)
        folder = self._folder(job)
        return Seen(program, is_complete(folder, job), dict(folder.failure(FOLDERS[job.kind], job.id) or {}) or None)

    def _folder(self, job: JobRow) -> RunFolder:
        return RunFolder(Prefix(self._settings.run_url(job.run_id)))

    def _standing(self, job: JobRow, seen: Seen, room: bool) -> Standing:
        return Standing(
            state=JobState(job.state),
            started_at=job.started_at,
            stop_asked_at=job.stop_asked_at,
            longest_seconds=self._settings.job_seconds,
            ours=job.host in (None, self._host),
            room=room,
            complete=seen.complete,
            failure=seen.failure,
        )

    async def _write_down(self, session: AsyncSession, job: JobRow, step: Step) -> None:
        """The decision as rows, in the transaction that took it."""
        match step:
            case Start() if job.state == JobState.QUEUED:
                job.state, job.started_at, job.host = JobState.WORKING, now(), self._host
            case End(state, because):
                job.state, job.because, job.ended_at = state, because, now()
                run = await runs.get(session, job.run_id, to_change=True)
                if run is not None:
                    said = {"because": because["because"]} if because else {}
                    events.record(session, run, f"{job.kind}_{state}", id=job.id, checkpoint=job.step, **said)
            case _:
                return
        job.version += 1

    def _act(self, job: JobRow, step: Step) -> None:
        match step:
            case Start():
                folder = self._folder(job)
                folder.hold_checkpoint(job.step, job.id)
                if job.kind == Kind.DRAW:
                    folder.put_draw_request(job.id, {**job.request, "step": job.step})
                self._programs.start(job.id, arguments_of(job, self._settings.run_url(job.run_id)))
            case Stop(force):
                self._programs.stop(job.id, force)
            case End():
                self._folder(job).release_checkpoint(job.step, job.id)
            case Wait():
                return


def is_complete(folder: RunFolder, job: JobRow) -> bool:
    """Whether the run folder holds all that was asked for."""
    try:
        if job.kind == Kind.EXPORT:
            return bool(folder.export_manifest(job.id)["files"])
        return folder.draw_index(job.id)["complete"]
    except (FileNotFoundError, ValueError, KeyError):
        return False
