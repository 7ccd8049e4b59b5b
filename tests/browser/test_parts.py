"""The page's arithmetic, against the product's own: merge patches against what the service makes of them, fields against the schema."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from dayrun.builtin import get, names
from dayrun.recipe import Recipe, merge_patch
from tests.browser.conftest import Open
from tests.service.inside import listening


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with listening(tmp_path_factory.mktemp("parts"), auth="none") as (address, _):
        yield address


def test_a_form_s_changes_are_the_patch_that_makes_them(tab: Open, url: str):
    pairs = [(get(one), get(other)) for one in names() for other in ("demo", "prx-24h")]
    page = tab(f"{url}/")
    made = page.evaluate(
        "(pairs) => import('/web/new/schema.js').then(({ mergePatch }) => pairs.map(([from, to]) => mergePatch(from, to) ?? null))", pairs
    )
    for (before, after), patch in zip(pairs, made, strict=True):
        assert without_null(merge_patch(before, patch) if patch is not None else before) == without_null(after)


def without_null(value: Any) -> Any:
    """A merge patch cannot say null: it takes the field away, and the recipe's default, which is null too, comes in its place."""
    if isinstance(value, dict):
        return {name: without_null(one) for name, one in value.items() if one is not None}
    return [without_null(one) for one in value] if isinstance(value, list) else value


def test_what_may_be_null_is_null_by_default():
    """Else a form could not say null of it. In lists it could: a patch replaces them whole."""
    schema = Recipe.model_json_schema()
    every = [field for part in (schema, *schema["$defs"].values()) for field in part["properties"].values()]
    listed = [field["items"]["$ref"] for field in every if "$ref" in field.get("items", {})]
    parts = [schema, *(part for name, part in schema["$defs"].items() if f"#/$defs/{name}" not in listed)]
    fields = [(part["title"], name, field) for part in parts for name, field in part.get("properties", {}).items()]
    nullable = [(part, name, field) for part, name, field in fields if {"type": "null"} in field.get("anyOf", [])]
    assert nullable
    assert [(part, name) for part, name, field in nullable if field.get("default", "none") is not None] == []


def test_every_field_of_a_recipe_has_its_control(tab: Open, url: str):
    page = tab(f"{url}/#/new?recipe=prx-24h")
    page.locator('[data-at="/name"]').wait_for()
    shown = set(page.evaluate("[...document.querySelectorAll('[data-at]')].map((one) => one.dataset.at)"))
    assert {f"/{name}" for name in Recipe.model_fields if name != "version"} <= shown
    recipe = Recipe.model_validate(get("prx-24h"))
    sections = {f"/{name}/{field}" for name, value in recipe if isinstance(value, BaseModel) for field in type(value).model_fields}
    assert sections <= shown
    assert page.locator("label").evaluate_all("(all) => all.every((one) => one.control !== null)")


def test_the_schema_is_the_one_in_the_docs(url: str):
    docs = Path(__file__).parents[2] / "docs"
    assert httpx.get(f"{url}/web/recipe.schema.json").json() == json.loads((docs / "recipe.schema.json").read_text())
