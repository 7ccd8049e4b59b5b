"""The recipe as a document: built-in ones, merge patches, and that nothing but RecipeErrors ever comes of a bad one."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dayrun import builtin
from dayrun.recipe import Recipe, merge_patch
from dayrun.rules import RecipeErrors, load

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
ON_LATENTS = {"perceptual": None, "representation": None, "model": {"in_channels": 16, "patch_size": 2}}
"""What else a recipe in pixels has to change."""
FIELDS = st.sampled_from(sorted(Recipe.model_fields))


@pytest.mark.parametrize("name", builtin.names())
def test_built_in_recipes_make_sense(name: str):
    recipe = load(builtin.get(name), for_training=False)
    assert recipe.name == name
    assert load(recipe.model_dump(mode="json"), for_training=False) == recipe


def test_the_demo_and_the_reference_can_be_trained_and_what_is_missing_is_named():
    for name in ("demo", "prx-24h"):
        assert load(builtin.get(name)).total_steps > 0
    latents = {"autoencoder": "flux1", "source": "x", "downscale": 8, "precomputed": True}
    with pytest.raises(RecipeErrors) as refused:
        load(merge_patch(builtin.get("prx-24h"), {"latents": latents, **ON_LATENTS}))
    assert [error.at for error in refused.value.errors] == ["/latents/precomputed"]
    assert all("yet" in error.because for error in refused.value.errors)


def test_the_reference_is_the_published_day():
    recipe = load(builtin.get("prx-24h"), for_training=False)
    assert (recipe.hardware.world_size, recipe.total_steps, recipe.limits.hours) == (32, 120_000, 24)
    assert recipe.at_stage(0).representation is not None
    assert recipe.at_stage(1).representation is None


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(builtin.UnknownRecipe, match="prx-24h"):
        builtin.get("prx-24")


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # the table of RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_is_rfc_7396(target: object, patch: object, result: object):
    before = json.dumps([target, patch])
    assert merge_patch(target, patch) == result
    assert json.dumps([target, patch]) == before


@settings(max_examples=300, deadline=None)
@given(document=JSON)
def test_nothing_but_recipe_errors_comes_of_any_json(document: object):
    with pytest.raises(RecipeErrors) as refused:
        load(document)
    assert refused.value.errors
    json.dumps([[e.at, e.value, e.because, e.nearest] for e in refused.value.errors], allow_nan=False).encode()


@settings(max_examples=300, deadline=None)
@given(section=FIELDS, value=JSON, inner=st.none() | st.text(max_size=10), text=st.booleans())
def test_nothing_but_recipe_errors_comes_of_a_spoiled_recipe(section: str, value: object, inner: str | None, text: bool):
    document = builtin.get("demo")
    document[section] = value if inner is None else {inner: value}
    try:
        recipe = load(json.dumps(document) if text else document)
    except RecipeErrors as refused:
        recipe, said = None, str(refused)
    assert load(recipe.model_dump(mode="json")) == recipe if recipe else said


def test_the_contract_loads_neither_torch_nor_a_web_framework():
    code = "import sys, dayrun, dayrun.rules, dayrun.builtin, dayrun.cli; print(*sorted(sys.modules))"
    loaded = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
    assert not loaded & {"torch", "fastapi", "sqlalchemy", "celery", "httpx", "rich", "PIL"}
    bare = subprocess.run([sys.executable, "-c", "import sys, dayrun; print(*sys.modules)"], capture_output=True, text=True, check=True)
    assert "pydantic" not in bare.stdout
