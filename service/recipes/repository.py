"""The queries on stored recipes. No decision is made here."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from service.recipes.tables import RecipeRow


async def get(session: AsyncSession, project_id: str, name: str, version: int | None = None) -> RecipeRow | None:
    """One version of a recipe; the newest when none is named."""
    query = select(RecipeRow).where(RecipeRow.project_id == project_id, RecipeRow.name == name)
    if version is not None:
        query = query.where(RecipeRow.version == version)
    return (await session.scalars(query.order_by(RecipeRow.version.desc()).limit(1))).first()


async def newest(session: AsyncSession, projects: list[str] | None) -> Sequence[RecipeRow]:
    """The newest version of every recipe of `projects` (None: of all), by name."""
    last = select(RecipeRow.project_id, RecipeRow.name, func.max(RecipeRow.version).label("version"))
    last = last.group_by(RecipeRow.project_id, RecipeRow.name).subquery()
    same = (RecipeRow.project_id == last.c.project_id) & (RecipeRow.name == last.c.name) & (RecipeRow.version == last.c.version)
    query = select(RecipeRow).join(last, same).order_by(RecipeRow.name, RecipeRow.project_id)
    if projects is not None:
        query = query.where(RecipeRow.project_id.in_(projects))
    return (await session.scalars(query)).all()
