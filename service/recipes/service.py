"""The decisions about recipes that projects keep, each inside the caller's transaction."""

import difflib
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from dayrun import builtin
from dayrun.rules import RecipeErrors, load
from service.access import Permit
from service.database import now
from service.http.etags import check_match, check_none_match, version_tag
from service.http.problem import ErrorDetail, Problem
from service.recipes import repository
from service.recipes.tables import RecipeRow
from service.runs.schemas import NewRun

NAME = r"^[a-z0-9][a-z0-9._-]*$"


def split(name: str) -> tuple[str, int | None]:
    """`mine@3` as name and version."""
    base, at, version = name.rpartition("@")
    return (base, int(version)) if at and version.isdecimal() and len(version) < 9 else (name, None)


async def named(session: AsyncSession, new: NewRun, name: str, permit: Permit) -> NewRun:
    """`new` with the recipe that its project keeps under `name` in place of the name; unchanged where dayrun's own is meant.

    A built-in name is dayrun's own everywhere. Raises Problem 422 for a name that neither has.
    """
    if name in builtin.names():
        return new
    permit.on(new.project)
    row = await repository.get(session, new.project, *split(name))
    if row is None:
        known = [*builtin.names(), *(one.name for one in await repository.newest(session, [new.project]))]
        because = "no built-in recipe has this name, and the project keeps none under it"
        nearest = difflib.get_close_matches(split(name)[0], known, cutoff=0.4) or known
        detail = ErrorDetail(pointer="/recipe", value=name[:100], because=because, nearest=list(nearest))
        raise Problem(422, f"recipe {name[:100]!r}: {because}; there are: {', '.join(nearest)}", kind="invalid-recipe", errors=[detail])
    return new.model_copy(update={"recipe": row.document})


async def put(
    session: AsyncSession, project_id: str, name: str, document: dict[str, Any], permit: Permit, match: str | None, none_match: str | None
) -> RecipeRow:
    """Keep a new version. Raises Problem 403, 404, 409, 412, 422 and 428."""
    permit.on(project_id)
    if name in builtin.names():
        raise Problem(409, f"{name} comes with dayrun and stays what it is; take another name, e.g. {name}-2", kind="built-in")
    try:
        load(document)
    except RecipeErrors as error:
        errors = [ErrorDetail(pointer=one.at, value=one.value, because=one.because, nearest=list(one.nearest)) for one in error.errors]
        raise Problem(422, f"it cannot be trained: {error.errors[0]}", kind="invalid-recipe", errors=errors) from error
    held = await repository.get(session, project_id, name)
    tag = version_tag(held.version) if held else None
    check_none_match(none_match, tag)
    check_match(match, tag, needed=True)
    version = held.version + 1 if held else 1
    row = RecipeRow(project_id=project_id, name=name, version=version, document=document, created_at=now(), created_by=permit.actor.subject)
    session.add(row)
    try:
        await session.flush()
    except IntegrityError as error:  # somebody was faster
        raise Problem(412, f"version {version} of {name} was stored in this very moment: look at it again", kind="changed-since") from error
    return row
