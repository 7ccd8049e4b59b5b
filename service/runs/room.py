"""The queue as `placement.py` wants to see it, read from rows, and its answers written back. Runs are locked only to change them."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from service.database import now
from service.projects import repository as projects
from service.projects.budget import Cap, caps_of_project, first_reached
from service.runs import repository
from service.runs.placement import Capacity, Closed, Code, Held, Placement, Queued, Waiting, place, worth_telling
from service.runs.repository import InLine
from service.runs.states import HOLDS_MACHINES, State
from service.settings import Settings
from service.usage import repository as ledger

PLACING_LOCK = 0x6461797275_01
"""Taken on Postgres by whoever decides what begins; any number that nobody else takes."""


@dataclass(frozen=True)
class Picture:
    """What was decided about the queue, and the budgets of the projects that have one."""

    placements: list[Placement]
    budgets: dict[str, list[Cap]]
    told: dict[str, dict[str, Any] | None]  # what each run was last told

    @property
    def begins(self) -> list[str]:
        return [one.run_id for one in self.placements if one.waiting is None]


def held_back(picture: Picture, store: str) -> Picture:
    """The same, but nothing begins: without the store of run folders a run would hold machines and not train. `store`: what is wrong."""
    away = Waiting(Code.STORE_AWAY, f"it has room, but not the store of run folders ({store})")
    return replace(picture, placements=[one if one.waiting else replace(one, waiting=away) for one in picture.placements])


def capacity_of(settings: Settings) -> Capacity:
    return Capacity(accelerators=settings.accelerators) if settings.accelerators else Capacity(runs=settings.runs_at_once)


async def decide(session: AsyncSession, settings: Settings) -> Picture:
    """Place every queued run. One transaction at a time does this: two that saw the same room would fill it twice."""
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer anyway
        await session.execute(text(f"SELECT pg_advisory_xact_lock({PLACING_LOCK})"))
    at = now()
    queued, held = await repository.in_line(session, [State.QUEUED]), await repository.in_line(session, HOLDS_MACHINES)
    capped = await projects.capped(session)
    dollars = [project_id for project_id, caps in capped.items() if caps.dollars_per_day is not None or caps.dollars_per_month is not None]
    spent = await ledger.spent(session, dollars, at) if dollars else {}
    budgets = {project_id: caps_of_project(project_id, capped[project_id], spent[project_id], at) for project_id in dollars}
    closed = {project_id: shut for project_id, caps in budgets.items() if (shut := closed_by(caps)) is not None}
    quotas = {project_id: caps.accelerators for project_id, caps in capped.items() if caps.accelerators is not None}
    queue = [replace(queued_of(line), closed=closed.get(line.project_id)) for line in queued]
    holding = [held_of(line, at, settings.stop_seconds) for line in held]
    return Picture(place(queue, holding, capacity_of(settings), quotas, at), budgets, {line.id: line.waiting for line in queued})


def closed_by(caps: list[Cap]) -> Closed | None:
    """What keeps a project's runs from beginning, if its budget is used up."""
    cap = first_reached(caps)
    if cap is None or cap.until is None:
        return None
    code = Code.DAY_BUDGET if cap.name == "dollars_per_day" else Code.MONTH_BUDGET
    # not what was spent: it rises while the last checkpoints are written, and the sentence should stay
    said = f"{cap.name}: ${cap.limit:,.2f} are used up{cap.said}; there is room again from {cap.until:%Y-%m-%d %H:%M} UTC"
    return Closed(code, said, cap.until)


def queued_of(line: InLine) -> Queued:
    left = None if line.predicted_hours is None else max(0.0, line.predicted_hours * 3600 - line.accelerator_seconds / line.world_size)
    return Queued(line.id, line.project_id, line.world_size, line.priority, left, line.next_attempt_at)


def held_of(line: InLine, at: datetime, stop_seconds: float) -> Held:
    """When it is expected to be over: by its speed where it trains, else by what was predicted. What is overdue is unknown."""
    until: datetime | None = None
    if line.state in (State.PAUSING, State.CANCELLING):
        until = (line.stop_asked_at or at) + timedelta(seconds=stop_seconds)
    elif line.state == State.RUNNING and line.step_seconds is not None:
        until = at + timedelta(seconds=(line.total_steps - line.step) * line.step_seconds)
    elif line.predicted_hours is not None and line.holding_since is not None:
        until = line.holding_since + timedelta(seconds=line.predicted_hours * 3600 - line.accelerator_seconds / line.world_size)
    return Held(line.project_id, line.world_size, until if until is not None and until >= at else None)


async def tell(session: AsyncSession, picture: Picture) -> None:
    """Write down what each run waits for, where that is news. A row that somebody else is changing is told next time."""
    at = now()
    waits = {one.run_id: one.waiting for one in picture.placements if one.waiting is not None}
    news = [run_id for run_id, waiting in waits.items() if worth_telling(picture.told[run_id], waiting, at)]
    await repository.put_waiting(session, {run_id: waits[run_id].as_json() for run_id in news}, at)
