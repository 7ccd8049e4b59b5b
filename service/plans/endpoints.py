"""Plans over HTTP: in and out, nothing else."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Response

from dayrun.estimate import Estimate
from dayrun.plan import Finding, Plan, Verdict
from dayrun.recipe import Recipe
from service.access import Permit
from service.context import Context, Ctx
from service.database import new_id, now
from service.http.etags import tags_of
from service.http.identity import CreateRuns, ReadRuns
from service.http.problem import Problem, problems
from service.launchers import Order, Unsuitable
from service.plans import repository
from service.plans import service as plans
from service.plans.schemas import PlanAnswer, PreflightAnswer, RunEstimate
from service.projects import service as projects
from service.recipes.service import named
from service.runs import service as runs
from service.runs.schemas import NewRun
from service.runs.states import OVER

router = APIRouter(tags=["runs"])


@router.post("/runs:plan", responses=problems(403, 404, 413, 422))
async def plan_run(response: Response, context: Ctx, permit: CreateRuns, new: NewRun) -> PlanAnswer:
    """What a run would be, take and cost, before it exists. Nothing is stored or reserved."""
    new, recipe, found = await planned(context, permit, new)
    verdicts = [*found.verdicts, *await of_launcher(context, recipe)]
    response.headers["ETag"] = tag(new, recipe, found.estimate, verdicts)
    try:
        manifest = context.launcher.manifest(order_of(context, recipe))
    except Unsuitable:  # a verdict says so
        manifest = None
    return PlanAnswer(
        recipe=recipe.model_dump(mode="json"),
        estimate=found.estimate,
        verdicts=verdicts,
        manifest=manifest,
        can_start=not any(verdict.level == "no" for verdict in verdicts),
    )


async def planned(context: Context, permit: Permit, new: NewRun) -> tuple[NewRun, Recipe, Plan]:
    """What is asked for with its stored recipe in place, the effective recipe, and its plan. Raises Problem 403, 404 and 422."""
    async with context.database.read() as session:
        project = await projects.find(session, new.project, permit)
        if isinstance(new.recipe, str):
            new = await named(session, new, new.recipe, permit)
        recipe = runs.effective_recipe(new, for_training=False)
        return new, recipe, await plans.plan_of(session, recipe, project, context.settings.accelerators, context.history)


@router.post("/runs:preflight", responses=problems(403, 404, 413, 422))
async def preflight_run(
    context: Ctx,
    permit: CreateRuns,
    new: NewRun,
    nodes: Annotated[bool, Query(description="Also start pods of the run's shape, for a matrix product and an all-reduce.")] = False,
) -> PreflightAnswer:
    """Try the cluster before a run costs anything: quotas, queue, nodes; a small pod that pulls the image and reaches the store.

    Answers when it is over, which takes up to three minutes. Nothing is stored, and of the pods nothing is left.
    """
    _, recipe, found = await planned(context, permit, new)
    kept_out = [verdict.because for verdict in found.verdicts if (verdict.about, verdict.level) == ("quota", "no")]
    if context.trials.locked():
        detail = "as many preflights as may be are under way: each takes up to three minutes"
        raise Problem(429, detail, kind="preflights-under-way", headers={"Retry-After": "60"})
    async with context.trials:
        order = order_of(context, recipe, new_id("preflight"))
        findings = await asyncio.to_thread(context.launcher.preflight, order, nodes and not kept_out)
    if nodes and kept_out:  # whose run may not hold these nodes may not hold them for seconds
        because = f"not tried, since the project has no room: {'; '.join(kept_out)}"
        findings.append(Finding(check="group", level="note", at="/hardware/nodes", because=because))
    return PreflightAnswer(findings=findings, can_start=not any(finding.level == "no" for finding in findings))


async def of_launcher(context: Context, recipe: Recipe) -> list[Verdict]:
    """What stands against it where it would be launched."""
    return await asyncio.to_thread(context.launcher.verdicts, order_of(context, recipe))


def order_of(context: Context, recipe: Recipe, run_id: str = "run_to_be") -> Order:
    settings = context.settings
    return Order(run_id, 1, settings.run_url(run_id), recipe, settings.stop_seconds)


def tag(new: NewRun, recipe: Recipe, estimate: Estimate, verdicts: list[Verdict]) -> str:
    """Changes with whatever a reader of the plan would decide by: the recipe, the predicted figures, the verdicts.

    Of the cluster only what stands against the run: that it is busy, or does not answer for a moment, makes no plan stale.
    """
    lasting = [(one.about, one.level, one.at) for one in verdicts if one.about != "cluster" or one.level in ("no", "unsure")]
    figures = [estimate.hours.model_dump(), estimate.dollars.model_dump(), estimate.peak_bytes_per_process.model_dump()]
    return f'"{plans.fingerprint(new.project, recipe.model_dump(mode="json"), figures, lasting)}"'


async def must_still_hold(context: Context, new: NewRun, recipe: Recipe, permit: Permit, match: str) -> None:
    """Raises Problem 412 when a plan with the ETag `match` would come out differently now."""
    async with context.database.read() as session:
        project = await projects.find(session, new.project, permit)
        found = await plans.plan_of(session, recipe, project, context.settings.accelerators, context.history)
    verdicts = [*found.verdicts, *await of_launcher(context, recipe)]
    if match.strip() != "*" and (False, tag(new, recipe, found.estimate, verdicts)) not in tags_of(match):
        raise Problem(
            412,
            "the plan that If-Match names is no longer what would be run: the recipe, the prediction or a verdict has changed; plan again",
            kind="plan-changed",
        )


@router.get("/runs/{run_id}/estimate", responses=problems(403, 404))
async def show_estimate(context: Ctx, permit: ReadRuns, run_id: str) -> RunEstimate:
    """What was predicted, what the run's own speed says now, and the two side by side."""
    async with context.database.read() as session:
        run = await runs.find(session, run_id, permit)
        accepted_with = await repository.estimate_of(session, run_id)
        renewal = None if run.state in OVER else await plans.renewal_of(session, run)
        comparison = await plans.compared(session, run)
    return RunEstimate(predicted=accepted_with, renewed=renewal, comparison=comparison, as_of=now())
