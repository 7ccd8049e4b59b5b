"""When pictures are drawn where they may only take a share of the time."""

from collections.abc import Iterator

import pytest

from dayrun.rules import load
from tests.tiny import tiny_recipe
from trainer.budget import SampleBudget
from trainer.telemetry import LOG_EVERY
from trainer.trained import alone
from trainer.world import World

SETS = [
    {"name": "often", "prompts": ["a pear"], "every": 10, "at_start": True, "at_end": True},
    {"name": "seldom", "prompts": ["a fig"], "every": 30, "at_end": False},
]
RECIPE = load(tiny_recipe("data", steps=60, samples={"sets": SETS, "guidance": 1.0}))


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with alone(RECIPE.hardware) as found:
        yield found


def names(budget: SampleBudget, step: int, elapsed: float, world: World) -> tuple[list[str], list[str]]:
    """(drawn, put off) by name; what is drawn takes 2 seconds."""
    drawn, late = budget.sets(RECIPE, step, elapsed, world)
    for one in drawn:
        budget.spent_on(one.name, 2.0)
    return [one.name for one in drawn], [name for name, _ in late]


def test_without_a_budget_everything_is_drawn_when_it_is_due(world: World):
    budget = SampleBudget(None)
    due = {0: ["often"], 5: [], 10: ["often"], 30: ["often", "seldom"], 60: ["often", "seldom"]}
    assert {step: names(budget, step, 0.0, world)[0] for step in due} == due


def test_what_would_pass_the_budget_is_put_off_until_it_fits(world: World):
    budget = SampleBudget(0.1)
    assert names(budget, 0, 0.0, world) == (["often"], [])  # the start is not periodic
    assert names(budget, 10, 30.0, world) == ([], ["often"])  # 2 s were spent, 2 more would be 4 of 30
    assert names(budget, 11, 100.0, world) == ([], [])  # looked at again every few steps, not in each
    assert names(budget, 10 + LOG_EVERY // 2, 100.0, world) == ([], [])
    assert names(budget, 20, 41.0, world) == (["often"], [])
    assert names(budget, 30, 41.0, world) == (["seldom"], ["often"])  # what it costs is not known before it was drawn
    assert names(budget, 40, 62.0, world) == ([], ["often"])
    assert names(budget, 50, 1000.0, world) == (["often"], [])
    assert names(budget, 60, 0.0, world) == (["often"], ["seldom"])  # nor is the end of the one that asks for it


def test_a_set_that_waits_is_drawn_between_its_steps(world: World):
    budget = SampleBudget(0.1)
    names(budget, 0, 0.0, world)
    seldom = RECIPE.model_copy(update={"samples": RECIPE.samples.model_copy(update={"sets": [RECIPE.samples.sets[1]]})})
    budget.spent_on("seldom", 2.0)
    assert [one.name for one in budget.sets(seldom, 30, 10.0, world)[0]] == []
    assert [one.name for one in budget.sets(seldom, 40, 100.0, world)[0]] == ["seldom"]
    assert [one.name for one in budget.sets(seldom, 50, 1000.0, world)[0]] == []
