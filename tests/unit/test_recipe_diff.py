"""What differs between two recipes, as a table."""

from typing import Any

import pytest

from dayrun import builtin
from dayrun.recipe_diff import recipe_diff


@pytest.mark.parametrize(
    ("before", "after", "places"),
    [
        ({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}}, [("/b/c", 2, 3)]),
        ({"a": [1, {"b": 2}, 3]}, {"a": [1, {"b": 4}]}, [("/a/1/b", 2, 4), ("/a/2", 3, None)]),
        ({"a": None}, {"a": {"b": 1}}, [("/a", None, {"b": 1})]),
        ({"a": 1}, {"a": 1.0}, []),
        ({"a": 1}, {"a": True}, [("/a", 1, True)]),
        ({"a/b": 1, "c~d": 2}, {"a/b": 2}, [("/a~1b", 1, 2), ("/c~0d", 2, None)]),
        ({"a": 1}, {"b": 1}, [("/a", 1, None), ("/b", None, 1)]),
        ([1], {"a": 1}, [("", [1], {"a": 1})]),
    ],
)
def test_the_smallest_places_that_differ_are_named(before: Any, after: Any, places: list[tuple[str, Any, Any]]):
    assert [(one["pointer"], one["from"], one["to"]) for one in recipe_diff(before, after)] == places


def test_a_recipe_does_not_differ_from_itself_and_a_variant_only_in_what_it_changes():
    baseline, variant = builtin.get("prx-ablation-256"), builtin.get("prx-ablation-256-muon")
    assert recipe_diff(baseline, baseline) == []
    assert {one["pointer"].split("/")[1] for one in recipe_diff(baseline, variant)} == {"name", "description", "optimizer"}
