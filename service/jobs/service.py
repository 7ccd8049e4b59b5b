"""The decisions of people about jobs, each inside the caller's transaction."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from service import events
from service.access import Permit
from service.database import new_id, now
from service.folders import folder_at
from service.http.problem import ErrorDetail, Problem
from service.jobs import repository
from service.jobs.tables import JobRow, JobState, Kind
from service.runs import repository as runs
from service.runs.tables import RunRow

COME_AGAIN_SECONDS = 30


def checkpoint_of(url: str, step: int | None) -> int:
    """The complete checkpoint of `step`, or the newest. Reads the folder. Raises Problem 409 when there is none at all, 422 for another."""
    steps = folder_at(url).checkpoints()
    if not steps:
        raise Problem(409, "the run has no complete checkpoint yet; GET …/checkpoints lists them as they come", kind="no-checkpoint-yet")
    if step is None:
        return steps[-1]
    if step not in steps:
        nearest = sorted(sorted(steps, key=lambda one: abs(one - step))[:4])
        because = f"the run has no complete checkpoint of step {step}"
        detail = ErrorDetail(pointer="/step", value=step, because=because, nearest=nearest)
        raise Problem(422, f"{because}; nearest: {', '.join(map(str, nearest))}", kind="no-such-checkpoint", errors=[detail])
    return step


async def order(
    session: AsyncSession, run: RunRow, kind: Kind, step: int, request: dict[str, Any], permit: Permit, most_waiting: int
) -> JobRow:
    """Store a job, queued. The run's row is locked: the event goes into its log. Raises Problem 429 when too many wait already."""
    waiting = await repository.count_waiting(session)
    if waiting >= most_waiting:
        detail = f"{waiting} draws and exports wait already, and {most_waiting} may; ask again when some are done"
        raise Problem(429, detail, kind="too-many-waiting", headers={"Retry-After": str(COME_AGAIN_SECONDS)})
    job = JobRow(
        id=new_id(kind),
        kind=kind,
        run_id=run.id,
        step=step,
        request=request,
        created_by=permit.actor.subject,
        state=JobState.QUEUED,
        version=1,
        created_at=now(),
    )
    session.add(job)
    events.record(session, run, f"{kind}_requested", by=permit.actor.subject, id=job.id, checkpoint=step)
    await session.flush()
    return job


async def find(session: AsyncSession, run_id: str, kind: Kind, job_id: str, *, to_change: bool = False) -> JobRow:
    """A job of a run that the caller was found to see. Raises Problem 404."""
    job = await repository.get(session, job_id, to_change=to_change)
    if job is None or job.run_id != run_id or job.kind != kind:
        raise Problem(404, f"the run has no {kind} {job_id[:60]!r}; GET /runs/{run_id}/{kind}s lists them", kind=f"no-such-{kind}")
    return job


async def cancel(session: AsyncSession, job: JobRow, permit: Permit) -> None:
    """Ask a job whose row is locked to end; one that waits ends at once. Raises Problem 409 when it is over."""
    if job.state not in (JobState.QUEUED, JobState.WORKING):
        raise Problem(409, f"the {job.kind} is {job.state} already", kind="over-already")
    at = now()
    job.stop_asked_at, job.version = job.stop_asked_at or at, job.version + 1
    told = "stop_requested"
    if job.state == JobState.QUEUED:
        job.state, job.ended_at = JobState.CANCELLED, at
        told = str(job.state)
    run = await runs.get(session, job.run_id, to_change=True)
    if run is not None:
        events.record(session, run, f"{job.kind}_{told}", by=permit.actor.subject, id=job.id, checkpoint=job.step)
