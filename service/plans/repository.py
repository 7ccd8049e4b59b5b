"""The queries on what was measured."""

from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from dayrun.calibration import MeasuredStage
from dayrun.estimate import Estimate
from service.database import upsert
from service.plans.tables import MeasuredStageRow
from service.runs.tables import MetricRow, RunRow

NEWEST = 200
"""Measured stages that a plan looks at: older ones were trained by other code."""


async def history(session: AsyncSession, accelerator: str) -> list[MeasuredStage]:
    """The newest measured stages on `accelerator`."""
    query = select(MeasuredStageRow).where(MeasuredStageRow.accelerator == accelerator)
    rows = (await session.scalars(query.order_by(MeasuredStageRow.measured_at.desc()).limit(NEWEST))).all()
    return [MeasuredStage(**{name: getattr(row, name) for name in MeasuredStage.model_fields}) for row in rows]


async def document_of(session: AsyncSession, run_id: str) -> dict[str, Any] | None:
    """The estimate that a run was accepted with, as it is stored; None for one from before there were plans."""
    return await session.scalar(select(RunRow.estimate).where(RunRow.id == run_id))


async def estimate_of(session: AsyncSession, run_id: str) -> Estimate | None:
    """The estimate that a run was accepted with."""
    document = await document_of(session, run_id)
    return None if document is None else Estimate.model_validate(document)


async def step_seconds(session: AsyncSession, run_id: str, after: int, until: int) -> list[float]:
    """Mean seconds of a step in each window that was measured, of steps above `after` up to `until`, oldest first."""
    query = select(MetricRow.value).where(
        MetricRow.run_id == run_id, MetricRow.name == "step_seconds", MetricRow.step > after, MetricRow.step <= until
    )
    return list((await session.scalars(query.order_by(MetricRow.step))).all())


async def largest(session: AsyncSession, run_id: str, name: str) -> float | None:
    """The largest value of one metric."""
    return await session.scalar(select(func.max(MetricRow.value)).where(MetricRow.run_id == run_id, MetricRow.name == name))


async def keep(
    session: AsyncSession, run_id: str, stage: str, measured: MeasuredStage, predicted_step_seconds: float, steps: int, at: datetime
) -> None:
    """Keep what a stage measured, in place of what the same stage measured before, beside what its plan expected."""
    row = {**measured.model_dump(), "run_id": run_id, "stage": stage, "steps": steps, "measured_at": at}
    row["predicted_step_seconds"] = predicted_step_seconds
    statement = upsert(session, MeasuredStageRow).values(row)
    await session.execute(statement.on_conflict_do_update(index_elements=["run_id", "stage"], set_=row))
