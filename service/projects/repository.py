"""The queries on projects and their members. No decision is made here."""

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from service.access import Role
from service.projects.budget import Caps
from service.projects.tables import MemberRow, ProjectRow


async def get(session: AsyncSession, project_id: str, *, to_change: bool = False) -> ProjectRow | None:
    """The project; `to_change` locks its row until the transaction ends."""
    query = select(ProjectRow).where(ProjectRow.id == project_id).execution_options(populate_existing=True)
    return await session.scalar(query.with_for_update() if to_change else query)


async def page(session: AsyncSession, after: str | None, limit: int, projects: list[str] | None) -> list[ProjectRow]:
    """Projects among `projects` (None: all), by id."""
    query = select(ProjectRow).order_by(ProjectRow.id).limit(limit)
    if after:
        query = query.where(ProjectRow.id > after)
    if projects is not None:
        query = query.where(ProjectRow.id.in_(projects))
    return list((await session.scalars(query)).all())


async def roles_of(session: AsyncSession, subject: str) -> dict[str, Role]:
    """By project."""
    rows = await session.execute(select(MemberRow.project_id, MemberRow.role).where(MemberRow.subject == subject))
    return {project: Role(role) for project, role in rows.all()}


async def member(session: AsyncSession, project_id: str, subject: str) -> MemberRow | None:
    return await session.get(MemberRow, (project_id, subject), populate_existing=True)


async def members(session: AsyncSession, project_id: str, after: str | None, limit: int) -> list[MemberRow]:
    """By subject."""
    query = select(MemberRow).where(MemberRow.project_id == project_id).order_by(MemberRow.subject).limit(limit)
    if after:
        query = query.where(MemberRow.subject > after)
    return list((await session.scalars(query)).all())


async def count_admins(session: AsyncSession, project_id: str) -> int:
    query = select(func.count()).select_from(MemberRow).where(MemberRow.project_id == project_id, MemberRow.role >= Role.ADMIN)
    return await session.scalar(query) or 0


def caps_of(row: ProjectRow) -> Caps:
    return Caps(row.accelerators, row.dollars_per_day, row.dollars_per_month)


async def capped(session: AsyncSession) -> dict[str, Caps]:
    """Projects that have a limit of any kind."""
    limits = (ProjectRow.accelerators, ProjectRow.dollars_per_day, ProjectRow.dollars_per_month)
    rows = await session.scalars(select(ProjectRow).where(or_(*(limit.is_not(None) for limit in limits))))
    return {row.id: caps_of(row) for row in rows.all()}
