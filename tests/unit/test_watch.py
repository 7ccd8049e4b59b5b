"""Who is to blame when nothing moves, who is slow, how long is too long, how much time pictures may take: the decisions by themselves."""

import pytest
import torch

from trainer.budget import affordable
from trainer.meter import by_time
from trainer.watch import PATIENCE_SECONDS, SLOW_PATIENCE_SECONDS, WINDOWS, Beat, Stragglers, culprits, patience, straggling


def beats(*said: tuple[int, int, str]) -> dict[int, Beat]:
    return {rank: Beat(*one) for rank, one in enumerate(said)}


@pytest.mark.parametrize(
    ("before", "after", "ranks", "silent"),
    [
        pytest.param(
            beats((5, 9, "communication"), (5, 9, "forward")), beats((8, 9, "communication"), (5, 9, "forward")), [1], [1], id="stopped"
        ),
        pytest.param(beats((5, 9, "communication")), beats((8, 9, "communication")), [1], [1], id="never came"),
        pytest.param(
            beats((5, 9, "communication"), (5, 9, "data_wait")),
            beats((8, 9, "communication"), (8, 9, "data_wait")),
            [1],
            [],
            id="busy while the other waits",
        ),
        pytest.param(
            beats((5, 9, "communication"), (5, 8, "communication")),
            beats((8, 9, "communication"), (8, 8, "communication")),
            [1],
            [],
            id="a step behind",
        ),
        pytest.param(
            beats((5, 9, "communication"), (5, 9, "communication")),
            beats((8, 9, "communication"), (8, 9, "communication")),
            [],
            [],
            id="all wait: the network, or a device",
        ),
        pytest.param(
            beats((5, 9, "checkpoint"), (5, 9, "checkpoint")), beats((8, 9, "checkpoint"), (8, 9, "checkpoint")), [], [], id="all save"
        ),
    ],
)
def test_the_rank_that_is_silent_or_behind_or_busy_is_named(
    before: dict[int, Beat], after: dict[int, Beat], ranks: list[int], silent: list[int]
):
    assert culprits(before, after, size=2) == (ranks, silent)


def test_patience_follows_the_step_and_is_long_for_what_takes_long():
    assert patience("forward", True, [2.0, 5.0, 1.0], None) == PATIENCE_SECONDS + 50
    assert patience("forward", True, [2.0], 7.0) == 7.0
    for doing, warm in (("forward", False), ("checkpoint", True), ("preview", True), ("evaluation", True), ("start", True)):
        assert patience(doing, warm, [0.1], 7.0) == SLOW_PATIENCE_SECONDS
    assert patience("checkpoint", True, [], 2 * SLOW_PATIENCE_SECONDS) == 2 * SLOW_PATIENCE_SECONDS


def test_a_straggler_is_named_after_some_windows_in_a_row_and_let_go_after_as_many():
    stragglers = Stragglers(factor=1.5)
    slow, even, nearly = [1.0, 1.0, 1.6, 1.0], [1.0, 1.1, 0.9, 1.0], [1.0, 1.0, 1.4, 1.0]
    windows = [slow, slow, even, *[slow] * WINDOWS, slow, nearly, slow, *[even] * WINDOWS, even]
    assert [stragglers.window(one) for one in windows] == [
        *[([], [])] * (3 + WINDOWS - 1),
        ([2], []),
        *[([], [])] * (3 + WINDOWS - 1),
        ([], [2]),
        ([], []),
    ]


def test_of_two_ranks_one_can_be_the_straggler():
    stragglers = Stragglers(factor=1.5)
    assert [stragglers.window([1.0, 3.0]) for _ in range(WINDOWS)][-1] == ([1], [])
    about = straggling(1, [1.0, 3.0], 1.5, 10, [(0, "a"), (4, "b")])
    assert about == {"rank": 1, "node": 4, "host": "b", "seconds": 0.3, "median": 0.1, "factor": 1.5}


def test_errors_are_told_apart_by_noise_level_and_what_is_no_number_is_left_out():
    times = torch.tensor([0.0, 0.29, 0.3, 0.59, 0.6, 1.0, 0.5])
    errors = torch.tensor([1.0, 3.0, 5.0, 7.0, 9.0, 11.0, torch.nan])
    assert by_time(errors, times).tolist() == [[4.0, 12.0, 20.0], [2.0, 2.0, 2.0]]


@pytest.mark.parametrize(
    ("cost", "spent", "elapsed", "fits"),
    [(0.0, 0.0, 0.0, True), (2.0, 0.0, 100.0, True), (2.0, 0.1, 100.0, False), (2.0, 2.0, 200.0, True)],
)
def test_pictures_take_no_more_than_their_share(cost: float, spent: float, elapsed: float, fits: bool):
    assert affordable(cost, spent, elapsed, share=0.02) is fits
