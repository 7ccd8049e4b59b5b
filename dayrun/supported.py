"""What the schema can say and the trainer cannot do yet, one row each, so that a run is refused by name before it starts.

A feature that lands in the trainer removes its row here and nothing else. Nothing in this file is a matter of taste: a combination
that can never work belongs to `rules.py`.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from dayrun.recipe import Recipe
from dayrun.recipe_errors import RecipeError, shown

Found = Iterable[tuple[str, Any]]


class Row(NamedTuple):
    found: Callable[[Recipe], Found]
    """Where the recipe asks for it: pointers and values."""
    because: str
    nearest: list[Any]
    """What there is instead; [None] says that null turns it off."""


def when(at: str, asked: Callable[[Recipe], Any], *refused: object) -> Callable[[Recipe], Found]:
    """Finds the value at `at` if it is one of `refused`; with none given, if it is not null."""

    def found(recipe: Recipe) -> Found:
        value = asked(recipe)
        if value in refused if refused else value is not None:
            yield at, value.model_dump(mode="json") if hasattr(value, "model_dump") else value

    return found


NOT_YET: list[Row] = [
    Row(
        when("/latents/precomputed", lambda r: r.latents and r.latents.precomputed, True),
        "the trainer does not read latents from shards yet: it encodes pictures while it trains",
        [False],
    ),
]


def refusals(recipe: Recipe) -> list[RecipeError]:
    """Everything that `recipe` asks for and the trainer cannot do yet. Stage overrides are not looked into: give `recipe.at_stage(i)`."""
    return [RecipeError(at, shown(value), row.because, row.nearest) for row in NOT_YET for at, value in row.found(recipe)]
