"""Built-in recipes over HTTP."""

from typing import Any

from fastapi import APIRouter

from dayrun import builtin
from service.http.problem import Problem, problems
from service.runs.schemas import Recipes, RecipeSummary

router = APIRouter(tags=["recipes"])


@router.get("/recipes")
async def list_recipes() -> Recipes:
    """Recipes that a run can be made of by name."""
    found = [RecipeSummary(name=name, description=builtin.about(name), extends=builtin.extends(name)) for name in builtin.names()]
    return Recipes(items=found)


@router.get("/recipes/{name}", responses=problems(404))
async def show_recipe(name: str) -> dict[str, Any]:
    """One recipe as a JSON document, variants merged onto their baseline."""
    try:
        return builtin.get(name)
    except builtin.UnknownRecipe as error:
        raise Problem(404, str(error), kind="no-such-recipe") from error
