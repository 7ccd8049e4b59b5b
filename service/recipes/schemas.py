"""What the wire carries about recipes."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field


class RecipeSummary(BaseModel):
    name: str
    description: str
    extends: str | None = Field(default=None, description="The built-in recipe that it is a variant of.")
    project: str | None = Field(default=None, description="Whose it is; null: it comes with dayrun.")
    version: int | None = None
    created_at: datetime | None = None
    created_by: str | None = None


class Recipes(BaseModel):
    items: list[RecipeSummary]


class StoredRecipe(RecipeSummary):
    """A version of a project's recipe."""

    recipe: dict[str, Any]
