"""The recipes that come with dayrun, as JSON documents: what is in `recipes/`, with variants merged onto their baseline.

A variant is a file `{"extends": BASE, "name": ..., "description": ..., "patch": {...}}`; the patch is a JSON Merge Patch (RFC 7396), so
that the file shows what differs and nothing else. Documents are given as written: defaults come in when `rules.load` reads them.
"""

import difflib
import json
from functools import cache
from importlib.resources import files
from typing import Any

from dayrun.recipe import merge_patch


class UnknownRecipe(LookupError):
    """No built-in recipe has this name; the message names the nearest."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nearest = difflib.get_close_matches(name[:100], names(), cutoff=0.4) or list(names())
        super().__init__(f"no built-in recipe {name[:100]!r}; there are: {', '.join(self.nearest)}")


@cache
def names() -> tuple[str, ...]:
    """Names of all built-in recipes: whole ones first, then variants, each in alphabetical order."""
    found = [entry.name.removesuffix(".json") for entry in files("dayrun").joinpath("recipes").iterdir() if entry.name.endswith(".json")]
    return tuple(sorted(found, key=lambda name: ("extends" in stored(name), name)))


def get(name: str) -> dict[str, Any]:
    """The document of the recipe `name`, variants resolved. The caller's own copy. Raises UnknownRecipe."""
    document = stored(name) if name in names() else None
    if document is None:
        raise UnknownRecipe(name)
    if "extends" not in document:
        return document
    effective = merge_patch(get(document["extends"]), document["patch"])
    return {**effective, "name": document["name"], "description": document["description"]}


def about(name: str) -> str:
    """What the recipe `name` is, in a sentence or two. Raises UnknownRecipe."""
    return get(name)["description"]


def extends(name: str) -> str | None:
    """The baseline that the recipe `name` is a variant of, or None. Raises UnknownRecipe."""
    if name not in names():
        raise UnknownRecipe(name)
    return stored(name).get("extends")


def stored(name: str) -> dict[str, Any]:
    """The file of the recipe `name` as it is."""
    return json.loads(files("dayrun").joinpath("recipes", f"{name}.json").read_text())
