"""What is refused, warned of and paused for money: tables, no service."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayrun.recipe import Recipe
from service.projects.budget import (
    Cap,
    Caps,
    Prediction,
    Spent,
    caps_of_project,
    caps_of_run,
    due_warnings,
    first_reached,
    predict,
    refusals_of_new,
    refusals_of_resumed,
    still_to_spend,
)
from tests.tiny import tiny_recipe

AT = datetime(2026, 11, 24, 20, 0, tzinfo=UTC)
PLAN = {"hours": {"low": 20.0, "expected": 24.0, "high": 30.0}, "dollars": {"low": 1280.0, "expected": 1536.0, "high": 1920.0}}


def recipe(dollars: float = 2.0, hours_limit: float | None = None, dollars_limit: float | None = None) -> Recipe:
    """For 4 × 8 accelerators."""
    document = tiny_recipe("data", processes=8, limits={"hours": hours_limit, "dollars": dollars_limit})
    document["hardware"] |= {"nodes": 4, "dollars_per_accelerator_hour": dollars}
    return Recipe.model_validate(document)


@pytest.mark.parametrize(
    ("asked", "estimate", "expected"),
    [
        (recipe(), None, Prediction()),
        (recipe(), PLAN, Prediction(24.0, 1536.0, "estimate")),
        (recipe(dollars_limit=640.0), None, Prediction(10.0, 640.0, "/limits/dollars")),
        (recipe(hours_limit=12.0), PLAN, Prediction(12.0, 768.0, "/limits/hours")),
        (recipe(dollars_limit=9999.0), PLAN, Prediction(24.0, 1536.0, "estimate")),
        (recipe(dollars=0.0), None, Prediction(None, 0.0, "/hardware/dollars_per_accelerator_hour")),
    ],
)
def test_a_run_is_predicted_to_cost_the_least_of_its_plan_and_its_limits(asked: Recipe, estimate: dict | None, expected: Prediction):
    assert predict(asked, estimate) == expected


MONTH = Caps(dollars_per_month=2000.0)


@pytest.mark.parametrize(
    ("asked", "caps", "in_all", "this_month", "reserved", "wanted", "refused"),
    [
        pytest.param(recipe(), Caps(), None, 0.0, 0.0, 1536.0, [], id="no limit"),
        pytest.param(recipe(), Caps(accelerators=32), None, 0.0, 0.0, None, [], id="just as wide as the quota"),
        pytest.param(recipe(), Caps(accelerators=20), None, 0.0, 0.0, None, [("/recipe/hardware/nodes", 4, [2])], id="fewer nodes"),
        pytest.param(
            recipe(), Caps(accelerators=4), None, 0.0, 0.0, None, [("/recipe/hardware/processes_per_node", 8, [1])], id="narrower nodes"
        ),
        pytest.param(
            recipe(), Caps(accelerators=3), None, 0.0, 0.0, None, [("/recipe/hardware/processes_per_node", 8, [])], id="nothing near"
        ),
        pytest.param(recipe(), Caps(), 16, 0.0, 0.0, None, [("/recipe/hardware/nodes", 4, [2])], id="wider than all there is"),
        pytest.param(recipe(), MONTH, None, 464.0, 0.0, 1536.0, [], id="exactly what is left"),
        pytest.param(recipe(), MONTH, None, 400.0, 100.0, 1536.0, [("/recipe/limits/dollars", 1536.0, [1500.0])], id="less is left"),
        pytest.param(recipe(), MONTH, None, 400.0, 100.0, None, [], id="nothing known, something left"),
        pytest.param(recipe(), MONTH, None, 2000.0, 0.0, None, [("/recipe/limits/dollars", None, [])], id="nothing known, nothing left"),
        pytest.param(recipe(dollars=0.0), MONTH, None, 2000.0, 0.0, 0.0, [], id="it costs nothing"),
        pytest.param(recipe(), Caps(dollars_per_day=1.0), None, 50.0, 0.0, 1536.0, [], id="a day's budget paces, it does not refuse"),
        pytest.param(
            recipe(),
            Caps(accelerators=8, dollars_per_month=10.0),
            None,
            0.0,
            0.0,
            1536.0,
            [("/recipe/hardware/nodes", 4, [1]), ("/recipe/limits/dollars", 1536.0, [10.0])],
            id="everything is told at once",
        ),
    ],
)
def test_admission(
    asked: Recipe,
    caps: Caps,
    in_all: int | None,
    this_month: float,
    reserved: float,
    wanted: float | None,
    refused: list[tuple[str, Any, list]],
):
    found = refusals_of_new(asked, "vision", caps, in_all, this_month, reserved, wanted, AT)
    assert [(one.at, one.value, one.nearest) for one in found] == refused


def test_a_refusal_says_the_numbers():
    (refusal,) = refusals_of_new(recipe(), "vision", MONTH, None, 400.0, 100.0, 1536.0, AT)
    assert refusal.because == (
        "it needs $1,536.00; of the $2,000.00 that project 'vision' has for 2026-11 (UTC) $400.00 are spent and $100.00 reserved: "
        "$1,500.00 are left"
    )


money = st.floats(0, 10_000).map(lambda dollars: round(dollars, 2))


@given(st.floats(0.01, 10_000).map(lambda dollars: round(dollars, 2)), money, money, money)
def test_what_is_admitted_fits_and_the_nearest_of_what_is_not_is_admitted(cap: float, spent: float, reserved: float, wanted: float):
    def refusals(dollars: float) -> list:
        return refusals_of_new(recipe(), "vision", Caps(dollars_per_month=cap), None, spent, reserved, dollars, AT)

    if not (refused := refusals(wanted)):
        assert wanted == 0 or spent + reserved + wanted <= cap + 1e-6
    elif refused[0].nearest:
        assert refusals(refused[0].nearest[0]) == []


def used(name: str, share: float, period: str = "", until: datetime | None = None) -> Cap:
    return Cap(name, "dollars", 100.0, 100.0 * share, "budget", "", period, until)


@pytest.mark.parametrize(
    ("caps", "warned", "due"),
    [
        ([used("/limits/dollars", 0.79)], {}, []),
        ([used("/limits/dollars", 0.8)], {}, ["/limits/dollars"]),
        ([used("/limits/dollars", 0.9)], {"/limits/dollars": ""}, []),
        ([used("dollars_per_day", 0.9, "2026-11-25")], {"dollars_per_day": "2026-11-24"}, ["dollars_per_day"]),
        ([used("dollars_per_day", 0.95, "2026-11-25")], {"dollars_per_day": "2026-11-25"}, []),
        ([used("dollars_per_day", 0.9, "d"), used("dollars_per_month", 1.2, "m")], {}, ["dollars_per_day", "dollars_per_month"]),
    ],
)
def test_a_cap_is_warned_of_once_a_period(caps: list[Cap], warned: dict[str, str], due: list[str]):
    assert [cap.name for cap in due_warnings(caps, warned)] == due


def test_of_several_caps_that_are_reached_the_one_closed_for_longest_is_named():
    day, month = caps_of_project("vision", Caps(None, 10.0, 20.0), Spent(11.0, 21.0), AT)
    own = caps_of_run(recipe(hours_limit=1.0), 32 * 3600.0)
    assert first_reached([day, month]) == month
    assert first_reached([day, month, *own]) == own[0]
    assert own[0].because == "/limits/hours: 1.00 of 1.00 hours are used"
    assert month.because == "dollars_per_month: $21.00 of $20.00 are used by project 'vision' in 2026-11 (UTC)"
    assert first_reached(caps_of_project("vision", Caps(None, 10.0, 20.0), Spent(9.99, 19.99), AT)) is None


@pytest.mark.parametrize(
    ("caps", "spent", "reserved", "wanted", "refused"),
    [
        (Caps(), Spent(5.0, 50.0), 0.0, 10.0, []),
        (Caps(dollars_per_day=5.0), Spent(5.0, 50.0), 0.0, 10.0, ["dollars_per_day"]),
        (Caps(dollars_per_day=5.0), Spent(4.0, 50.0), 0.0, 10.0, []),
        (Caps(dollars_per_month=60.0), Spent(5.0, 50.0), 0.0, 10.0, []),
        (Caps(dollars_per_month=60.0), Spent(5.0, 50.0), 5.0, 10.0, ["dollars_per_month"]),
        (Caps(dollars_per_month=50.0), Spent(5.0, 50.0), 0.0, None, ["dollars_per_month"]),
    ],
)
def test_what_keeps_a_paused_run_from_going_on(caps: Caps, spent: Spent, reserved: float, wanted: float | None, refused: list[str]):
    assert [one.at for one in refusals_of_resumed("vision", caps, spent, reserved, wanted, [], AT)] == refused


def test_the_day_says_when_there_is_room_again():
    (refusal,) = refusals_of_resumed("vision", Caps(dollars_per_day=5.0), Spent(5.0, 5.0), 0.0, None, [], AT)
    assert refusal.because.endswith("there is room again from 2026-11-25 00:00 UTC")


def test_a_run_reserves_what_it_has_not_spent_yet():
    assert [still_to_spend(100.0, 30.0), still_to_spend(100.0, 130.0), still_to_spend(None, 30.0)] == [70.0, 0.0, 0.0]
