"""What becomes of a bad step: the decisions by themselves, without a model."""

import json
import math

import pytest

from dayrun.recipe import Guard as GuardFields
from trainer.faults import DivergedError
from trainer.guard import FEWEST, Guard, spike

NAN = math.nan


def judged(fields: GuardFields, losses: list[float], guard: Guard | None = None) -> tuple[list[str], list[tuple[str, dict]]]:
    """The verdicts on a run of losses, and what was told."""
    told: list[tuple[str, dict]] = []
    guard = guard or Guard(fields, lambda type, step, **data: told.append((type, data)))
    guard._tell = lambda type, step, **data: told.append((type, data))
    return [guard.judge(step, loss, 1.0, list) for step, loss in enumerate(losses, 1)], told


@pytest.mark.parametrize(
    ("recent", "loss", "usual"),
    [
        ([1.0] * FEWEST, 3.1, 1.0),
        ([1.0] * FEWEST, 3.0, None),
        ([1.0] * (FEWEST - 1), 100.0, None),
        ([1.0] * 19 + [50.0], 10.0, 1.0),  # one in twenty hides nothing
        ([1.0] * 18 + [5.0] * 2, 10.0, None),  # such losses are usual here
        ([0.0] * FEWEST, 1.0, None),
    ],
)
def test_a_spike_is_a_loss_far_above_what_is_usual(recent: list[float], loss: float, usual: float | None):
    assert spike(recent, loss, 3.0) == usual


def test_a_spike_is_told_once_and_the_step_is_taken():
    verdicts, told = judged(GuardFields(), [1.0] * FEWEST + [9.0, 9.0, 1.0, 9.0])
    assert set(verdicts) == {"step"}
    assert [(type, data["loss"], data["usual"]) for type, data in told] == [("loss_spike", 9.0, 1.0)] * 2


def test_a_level_that_lasts_is_a_new_one():
    _, told = judged(GuardFields(spike_window=30), [1.0] * 30 + [9.0] * 200 + [40.0])
    assert [data["loss"] for _, data in told] == [9.0, 40.0]


@pytest.mark.parametrize("bad", [(NAN, 1.0), (math.inf, 1.0), (1.0, NAN), (1.0, math.inf)])
def test_loss_and_gradients_must_both_be_numbers(bad: tuple[float, float]):
    guard = Guard(GuardFields(), lambda *_, **__: None)
    assert guard.judge(1, *bad, list) == "skip"
    assert guard.judge(2, 1.0, 1.0, list) == "step"
    assert guard.recent == [1.0]


def test_only_skipped_steps_in_a_row_count_towards_the_end():
    fields = GuardFields(skip_limit=3)
    verdicts, _ = judged(fields, [NAN, NAN, 1.0, NAN, NAN, 1.0])
    assert verdicts == ["skip", "skip", "step", "skip", "skip", "step"]
    with pytest.raises(DivergedError, match="step 3: loss or gradients of 3 steps in a row were no numbers"):
        judged(fields, [NAN, NAN, NAN])


def test_the_run_goes_back_before_it_ends_and_only_as_often_as_it_may():
    fields = GuardFields(skip_limit=2, roll_back=1)
    guard = Guard(fields, lambda *_, **__: None)
    assert judged(fields, [1.0, 1.0, NAN, NAN], guard)[0] == ["step", "step", "skip", "roll_back"]
    assert guard.good_until == 2
    guard.rolled_back({"recent": [1.0]})
    assert (guard.recent, guard.skipped, guard.roll_backs) == ([1.0], 0, 1)
    with pytest.raises(DivergedError):
        judged(fields, [1.0, NAN, NAN], guard)


def test_a_spike_that_lasts_is_gone_back_from_where_the_recipe_says_so():
    fields = GuardFields(spike_limit=3, roll_back=1)
    guard = Guard(fields, lambda *_, **__: None)
    assert judged(fields, [1.0] * FEWEST + [9.0] * 3, guard)[0] == ["step"] * (FEWEST + 2) + ["roll_back"]
    assert guard.good_until == FEWEST
    assert judged(GuardFields(spike_limit=3), [1.0] * FEWEST + [9.0] * 4)[0] == ["step"] * (FEWEST + 4)


def test_what_a_checkpoint_keeps_is_all_that_the_guard_remembers():
    losses = [1.0 + 0.1 * (i % 3) for i in range(30)] + [NAN, 9.0, 9.0, 1.0, 9.0]
    straight = Guard(GuardFields(spike_window=25), lambda *_, **__: None)
    for step, loss in enumerate(losses[:31], 1):
        straight.judge(step, loss, 1.0, list)
    resumed = Guard(GuardFields(spike_window=25), lambda *_, **__: None)
    resumed.remember(json.loads(json.dumps(straight.memory())))
    assert judged(GuardFields(), losses[31:], straight) == judged(GuardFields(), losses[31:], resumed)
    assert straight.memory() == resumed.memory()
