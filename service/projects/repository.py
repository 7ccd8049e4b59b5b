"""The queries on projects. No decision is made here."""

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from service.projects.budget import Caps
from service.projects.tables import ProjectRow


async def get(session: AsyncSession, project_id: str, *, to_change: bool = False) -> ProjectRow | None:
    """The project; `to_change` locks its row until the transaction ends."""
    return await session.get(ProjectRow, project_id, populate_existing=True, with_for_update=to_change)


def caps_of(row: ProjectRow) -> Caps:
    return Caps(row.accelerators, row.dollars_per_day, row.dollars_per_month)


async def capped(session: AsyncSession) -> dict[str, Caps]:
    """Projects that have a limit of any kind."""
    limits = (ProjectRow.accelerators, ProjectRow.dollars_per_day, ProjectRow.dollars_per_month)
    rows = await session.scalars(select(ProjectRow).where(or_(*(limit.is_not(None) for limit in limits))))
    return {row.id: caps_of(row) for row in rows.all()}
