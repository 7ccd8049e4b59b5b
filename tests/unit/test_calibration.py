"""Measured runs move the next estimate towards what was measured, and no further."""

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dayrun import builtin
from dayrun.calibration import MANY, Actual, MeasuredStage, StageSoFar, calibrated, compare, renewed
from dayrun.estimate import Estimate, estimate
from dayrun.rules import load

RECIPE = load(builtin.get("prx-24h"), for_training=False)
PRIOR = estimate(RECIPE)
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def measured(utilisation: float, planned: Estimate = PRIOR, **change: object) -> MeasuredStage:
    """A stage that reached `utilisation`."""
    stage = planned.stages[0]
    seconds = stage.flops_per_process_step / (planned.matrix_rate * utilisation)
    return MeasuredStage.of(planned, stage, seconds).model_copy(update=change)


# ---- the next run ----------------------------------------------------------------------------------------------------------------


def test_without_history_the_prior_stays():
    assert calibrated(PRIOR, []) == PRIOR.utilisation


@pytest.mark.parametrize("change", [{"accelerator": "h100"}, {"flops_per_process_step": 1e9}])
def test_what_is_not_alike_teaches_nothing(change: dict[str, object]):
    assert calibrated(PRIOR, [measured(0.4, **change)] * 3) == PRIOR.utilisation


@settings(deadline=None)
@given(st.lists(st.floats(0.01, 0.95), min_size=1, max_size=40))
def test_the_expected_value_lies_between_prior_and_measured(reached: list[float]):
    found = calibrated(PRIOR, [measured(one) for one in reached])
    logs = sorted(math.log(one) for one in reached)
    middle = math.exp((logs[(len(logs) - 1) // 2] + logs[len(logs) // 2]) / 2)
    low, high = sorted((PRIOR.utilisation.expected, middle))
    assert low * (1 - 1e-9) <= found.expected <= high * (1 + 1e-9)
    assert found.low <= found.expected <= found.high
    assert (found.source, found.runs) == ("calibrated", len(reached))


@given(st.floats(0.02, 0.9), st.integers(1, MANY - 2))
def test_each_like_run_brings_it_nearer_and_narrows_it(reached: float, runs: int):
    fewer, more = (calibrated(PRIOR, [measured(reached)] * count) for count in (runs, runs + 1))

    def distance(expected: float) -> float:
        return abs(math.log(expected / reached))

    rounding = 1e-12
    assert distance(more.expected) <= distance(fewer.expected) + rounding
    assert distance(fewer.expected) <= distance(PRIOR.utilisation.expected) + rounding
    assert more.high / more.low < fewer.high / fewer.low < PRIOR.utilisation.high / PRIOR.utilisation.low


def test_many_runs_speak_for_themselves():
    reached = [0.30 + 0.005 * i for i in range(21)]  # 0.30 to 0.40
    found = calibrated(PRIOR, [measured(one) for one in reached])
    assert (found.low, found.expected, found.high) == pytest.approx((0.305, 0.35, 0.395))


def test_one_bad_run_moves_little():
    good = calibrated(PRIOR, [measured(0.35)] * 5)
    spoiled = calibrated(PRIOR, [*[measured(0.35)] * 5, measured(0.02)])
    assert spoiled.expected == pytest.approx(good.expected, rel=0.02)


def test_a_calibrated_estimate_is_nearer_to_the_next_run():
    again = estimate(RECIPE, utilisation=calibrated(PRIOR, [measured(0.36)] * 3))
    truth = estimate(RECIPE, utilisation=PRIOR.utilisation.model_copy(update={"low": 0.36, "expected": 0.36, "high": 0.36}))
    assert abs(again.hours.expected - truth.hours.expected) < 0.1 * truth.hours.expected < abs(PRIOR.hours.expected - truth.hours.expected)
    assert truth.hours.expected in again.hours
    assert again.hours.high - again.hours.low < PRIOR.hours.high - PRIOR.hours.low


# ---- a run while it trains -------------------------------------------------------------------------------------------------------


def so_far(steps: int, seconds: float, windows: int = 50) -> list[StageSoFar]:
    return [StageSoFar(name="512px", steps_done=steps, step_seconds=[seconds] * windows)]


def test_before_the_first_step_the_plan_is_what_is_left():
    left = renewed(PRIOR, [], elapsed_hours=0, now=NOON)
    for end in ("low", "expected", "high"):
        assert getattr(left.remaining_hours, end) == pytest.approx(getattr(PRIOR.hours, end), rel=1e-6)
    assert left.slower_than_planned == pytest.approx(1)


def test_a_slow_stage_lengthens_what_is_left_and_warns_of_the_next():
    planned = PRIOR.stages[0].step_seconds.expected
    left = renewed(PRIOR, so_far(50_000, 2 * planned), elapsed_hours=20, now=NOON)
    rest_of_stage = 50_000 * 2 * planned / 3600
    assert left.remaining_hours.expected > rest_of_stage + 1.2 * PRIOR.stages[1].hours.expected
    assert left.remaining_hours.expected < rest_of_stage + 2.5 * PRIOR.stages[1].hours.expected
    assert left.slower_than_planned > 2
    assert left.ends_at_earliest < left.ends_at < left.ends_at_latest
    assert left.dollars.expected == pytest.approx(left.hours.expected * 64)
    assert left.hours.expected == pytest.approx(20 + left.remaining_hours.expected)


@settings(deadline=None)
@given(st.floats(0.3, 3), st.integers(1, 99_998), st.lists(st.floats(0.8, 1.25), min_size=1, max_size=30))
def test_more_steps_done_leave_less(slowness: float, done: int, noise: list[float]):
    seconds = [PRIOR.stages[0].step_seconds.expected * slowness * one for one in noise]
    earlier, later = (
        renewed(PRIOR, [StageSoFar(name="512px", steps_done=steps, step_seconds=seconds)], elapsed_hours=1, now=NOON)
        for steps in (done, done + 1)
    )
    assert later.remaining_hours.expected < earlier.remaining_hours.expected
    for found in (earlier, later):
        assert 0 < found.remaining_hours.low <= found.remaining_hours.expected <= found.remaining_hours.high


def test_measuring_longer_narrows_what_is_left():
    planned = PRIOR.stages[0].step_seconds.expected

    def width(windows: int) -> float:
        left = renewed(PRIOR, so_far(10_000, planned, windows), elapsed_hours=1, now=NOON).remaining_hours
        return left.high / left.low

    assert width(100) < width(3) < PRIOR.hours.high / PRIOR.hours.low


def test_the_end_of_the_last_stage_leaves_nothing():
    done = [StageSoFar(name=stage.name, steps_done=stage.steps, step_seconds=[0.1]) for stage in PRIOR.stages]
    left = renewed(PRIOR, done, elapsed_hours=9, now=NOON)
    assert left.remaining_hours.high == 0
    assert left.ends_at == NOON
    assert left.hours.expected == 9


def test_a_stage_that_was_not_planned_is_named():
    with pytest.raises(KeyError, match="no stage '256px' in the plan; there are: 512px, 1024px"):
        renewed(PRIOR, [StageSoFar(name="256px", steps_done=1, step_seconds=[1.0])], elapsed_hours=0, now=NOON)


# ---- a run that is over ----------------------------------------------------------------------------------------------------------


def test_the_published_day_lies_inside_the_interval_and_a_week_does_not():
    day = {c.name: c for c in compare(PRIOR, Actual(hours=24, dollars=24 * 64))}
    assert day["hours"].inside
    assert day["dollars"].inside
    assert day["hours"].ratio == pytest.approx(24 / PRIOR.hours.expected)
    (week,) = compare(PRIOR, Actual(hours=168))
    assert not week.inside


def test_only_what_was_measured_is_compared():
    found = compare(PRIOR, Actual(step_seconds={"1024px": 0.5}, peak_bytes_per_process=30e9))
    assert [(c.name, c.unit, c.actual) for c in found] == [("peak memory of a process", "B", 30e9), ("1024px: a step", "s", 0.5)]


def test_nothing_expected_has_no_ratio():
    free = estimate(load(builtin.get("demo")))
    (dollars,) = compare(free, Actual(dollars=0))
    assert (dollars.ratio, dollars.inside) == (None, True)
