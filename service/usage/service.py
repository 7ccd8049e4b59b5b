"""What a run and a project have cost, put together from the ledger. Changes nothing."""

from collections import defaultdict
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from dayrun.recipe import Recipe
from service.access import no_such_project
from service.plans.repository import document_of
from service.projects import repository as projects
from service.projects.budget import caps_of_project, caps_of_run, predict, still_to_spend
from service.runs.cost import used_accelerator_seconds, used_dollars
from service.runs.states import OVER
from service.runs.tables import RunRow
from service.usage import repository as ledger
from service.usage.ledger import accelerator_hours_within, day_of, dollars_by_day, dollars_within, month_of
from service.usage.schemas import AttemptCost, CapLeft, DayUsage, Predicted, ProjectCaps, ProjectUsage, RunCost, RunUsage


async def cost_of_run(session: AsyncSession, run: RunRow, at: datetime) -> RunCost:
    recipe = Recipe.model_validate(run.recipe)
    predicted = predict(recipe, await document_of(session, run.id))
    seconds, dollars = used_accelerator_seconds(run, at), used_dollars(run, at)
    project = await projects.get(session, run.project_id)
    caps = caps_of_run(recipe, seconds)
    if project is not None:
        spent = (await ledger.spent(session, [project.id], at))[project.id]
        caps += caps_of_project(project.id, projects.caps_of(project), spent, at)
    attempts: list[AttemptCost] = []
    for row in await ledger.of_run(session, run.id):
        holding = ledger.holding_of(row)
        hours, cost = accelerator_hours_within(holding, row.held_from, at), dollars_within(holding, row.held_from, at)
        kept = {name: getattr(row, name) for name in ("attempt", "accelerators", "dollars_per_accelerator_hour", "held_from", "held_until")}
        attempts.append(AttemptCost(**kept, accelerator_hours=hours, dollars=cost))
    return RunCost(
        run=run.id,
        project=run.project_id,
        accelerators=run.world_size,
        dollars_per_accelerator_hour=run.dollars_per_accelerator_hour,
        accelerator_hours=seconds / 3600,
        dollars=dollars,
        dollars_per_hour=run.world_size * run.dollars_per_accelerator_hour if run.holding_since else 0.0,
        attempts=attempts,
        predicted=None
        if predicted.dollars is None or predicted.basis is None
        else Predicted(hours=predicted.hours, dollars=predicted.dollars, basis=predicted.basis),
        reserved_dollars=0.0 if run.state in OVER else still_to_spend(run.predicted_dollars, dollars),
        caps=[CapLeft.of(cap) for cap in caps],
    )


async def usage_of_project(session: AsyncSession, project_id: str, limit: int, at: datetime) -> ProjectUsage:
    """Raises Problem 404."""
    project = await projects.get(session, project_id)
    if project is None:
        raise no_such_project(project_id, [])
    caps, day, month = projects.caps_of(project), day_of(at), month_of(at)
    rows = await ledger.of_project(session, project_id, month.start)
    dollars, hours = defaultdict[str, float](float), defaultdict[str, float](float)
    for row in rows:
        dollars[row.run_id] += dollars_within(ledger.holding_of(row), month.start, at)
        hours[row.run_id] += accelerator_hours_within(ledger.holding_of(row), month.start, at)
    days = dollars_by_day([ledger.holding_of(row) for row in rows], month.start, at)
    held = [ledger.holding_of(row) for row in rows if row.held_until is None]
    today, this_month = days.get(day.name, 0.0), sum(days.values())
    reserved = await ledger.reserved(session, project_id, at)
    dearest = sorted(dollars, key=lambda run_id: (-dollars[run_id], run_id))[:limit]
    about = await ledger.about_runs(session, dearest)
    return ProjectUsage(
        project=project_id,
        at=at,
        dollars_today=today,
        dollars_this_month=this_month,
        dollars_per_hour=sum(one.dollars_per_hour for one in held),
        accelerators_held=sum(one.accelerators for one in held),
        reserved_dollars=reserved,
        runs_without_prediction=await ledger.count_unpredicted(session, project_id),
        caps=ProjectCaps(accelerators=caps.accelerators, dollars_per_day=caps.dollars_per_day, dollars_per_month=caps.dollars_per_month),
        left_today=None if caps.dollars_per_day is None else max(0.0, caps.dollars_per_day - today),
        left_this_month=None if caps.dollars_per_month is None else max(0.0, caps.dollars_per_month - this_month - reserved),
        days=[DayUsage(day=name, dollars=cost) for name, cost in days.items()],
        runs=[
            RunUsage(run=run_id, name=about[run_id][0], state=about[run_id][1], accelerator_hours=hours[run_id], dollars=dollars[run_id])
            for run_id in dearest
        ],
        more_runs=len(dollars) - len(dearest),
    )
