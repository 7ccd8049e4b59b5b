"""Recipes over HTTP: those that come with dayrun, and those that projects keep."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Request, Response
from pydantic_core import to_json

from dayrun import builtin
from service.access import DEFAULT_PROJECT
from service.context import Ctx
from service.http.etags import IfMatch, IfNoneMatch, content_tag, is_known, version_tag
from service.http.identity import CreateRuns, ReadRuns
from service.http.problem import Problem, problems
from service.recipes import repository, service
from service.recipes.schemas import Recipes, RecipeSummary, StoredRecipe
from service.recipes.tables import RecipeRow

router = APIRouter(tags=["recipes"])

Project = Annotated[str, Query(min_length=1, max_length=40, description="Whose recipe.")]
Name = Annotated[str, Path(min_length=1, max_length=100, pattern=service.NAME)]


def told(row: RecipeRow) -> dict[str, Any]:
    about = str(row.document.get("description", ""))
    same = {name: getattr(row, name) for name in ("name", "version", "created_at", "created_by")}
    return {**same, "project": row.project_id, "description": about}


@router.get("/recipes")
async def list_recipes(context: Ctx, permit: ReadRuns) -> Recipes:
    """Recipes that a run can be made of by name."""
    found = [RecipeSummary(name=name, description=builtin.about(name), extends=builtin.extends(name)) for name in builtin.names()]
    async with context.database.read() as session:
        rows = await repository.newest(session, permit.projects)
    return Recipes(items=[*found, *(RecipeSummary(**told(row)) for row in rows)])


@router.get("/recipes/{name}", response_model=dict[str, Any], responses={**problems(404, 422), 304: {"description": "The client has it."}})
async def show_recipe(
    request: Request,
    context: Ctx,
    permit: ReadRuns,
    name: str,
    project: Project = DEFAULT_PROJECT,
    version: Annotated[int | None, Query(ge=1, le=10**8, description="Default: the newest.")] = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """One recipe as a JSON document, variants merged onto their baseline. The ETag is what replacing it takes."""
    if name in builtin.names():
        document = to_json(builtin.get(name))
        tag = content_tag(document)
    else:
        async with context.database.read() as session:
            row = await repository.get(session, project, name, version) if permit.sees(project) else None
        if row is None:
            which = f"version {version} of " if version else ""
            raise Problem(404, f"there is no {which}recipe {name[:100]!r} here; GET /recipes lists them", kind="no-such-recipe")
        permit.on(project)
        document, tag = to_json(row.document), version_tag(row.version)
    if is_known(if_none_match, tag):
        return Response(status_code=304, headers={"ETag": tag})
    return Response(document, media_type="application/json", headers={"ETag": tag})


@router.put(
    "/recipes/{name}",
    status_code=201,
    response_model=StoredRecipe,
    responses={**problems(403, 404, 409, 412, 413, 422, 428), 200: {"model": StoredRecipe, "description": "A new version of it."}},
)
async def put_recipe(
    context: Ctx,
    permit: CreateRuns,
    name: Name,
    document: Annotated[dict[str, Any], Body(description="A recipe as in docs/recipe.schema.json.")],
    project: Project = DEFAULT_PROJECT,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Keep a recipe for the project; runs name it. What was kept before stays readable as an older version, and takes If-Match."""
    async with context.database.write() as session:
        row = await service.put(session, project, name, document, permit, if_match, if_none_match)
    body = StoredRecipe(**told(row), recipe=row.document).model_dump_json()
    headers = {"ETag": version_tag(row.version), "Location": f"/recipes/{name}?project={project}&version={row.version}"}
    return Response(body, 201 if row.version == 1 else 200, headers, "application/json")
