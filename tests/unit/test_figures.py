"""The newest figures of a run: from what is new in its folder, whatever attempt wrote it."""

from typing import Any

from dayrun.run_folder import Event, Metric
from service.metrics.catalogue import MOST_RANKS, MOST_SCORES
from service.runs.figures import renewed


def line(name: str, value: float, step: int = 10, time: float = 100.0) -> Metric:
    return {"step": step, "name": name, "value": value, "time": time}


def event(type: Any, attempt: int = 1, step: int = 10, time: float = 100.0, **data: Any) -> Event:
    return {"time": time, "attempt": attempt, "step": step, "type": type, "data": data}


def test_the_newest_value_of_each_figure_is_kept_and_no_curve():
    first = renewed(None, 1, [], [line("loss", 2.0), line("loss", 1.0, 11, 101.0), line("forward_seconds", 0.2)])
    then = renewed(first, 1, [], [line("loss", 0.5, 12, 102.0), line("gradient_norm_block_00", 3.0)])
    assert then["values"] == {"loss": 0.5, "forward_seconds": 0.2}
    assert (then.get("began"), then.get("time")) == (100.0, 102.0)
    assert first["values"]["loss"] == 1.0  # the row's own document is as it was


def test_an_attempt_begins_without_the_figures_of_the_one_before():
    before = renewed(None, 1, [event("straggler", rank=3), event("step_skipped")], [line("loss", 2.0), line("own_seconds_rank_1", 0.1)])
    after = renewed(before, 2, [event("attempt_started", attempt=2, time=200.0)], [])
    assert (after["attempt"], after["values"], after["ranks"], after["straggling"]) == (2, {}, {}, [])
    assert "began" not in after
    assert after["troubles"] == {"straggler": 1, "step_skipped": 1}  # counters go on


def test_what_an_overtaken_attempt_still_tells_is_left_out():
    newer = renewed(None, 2, [event("attempt_started", attempt=2)], [])
    assert renewed(newer, 2, [event("step_skipped", attempt=1), event("checkpoint_saved", attempt=1, seconds=1.0)], []) == newer


def test_time_beside_the_steps_and_troubles_are_added_up():
    first = renewed(None, 1, [event("loss_spike")], [line("checkpoint_seconds", 2.0), line("preview_seconds", 1.0)])
    then = renewed(first, 1, [event("loss_spike"), event("samples_drawn")], [line("checkpoint_seconds", 3.0)])
    assert then["beside"] == {"checkpoint": 5.0, "preview": 1.0}
    assert then["troubles"] == {"loss_spike": 2}


def test_a_straggler_is_one_until_it_is_over():
    slow = renewed(None, 1, [event("straggler", rank=3), event("straggler", rank=1)], [])
    assert slow["straggling"] == [1, 3]
    assert renewed(slow, 1, [event("straggler_over", rank=3)], [])["straggling"] == [1]


def test_the_newest_checkpoint_is_known_by_the_next_attempt_too():
    saved = renewed(None, 1, [event("checkpoint_saved", step=20, time=50.0, seconds=1.5, stalled_seconds=0.1, bytes=7)], [])
    after = renewed(saved, 2, [event("attempt_started", attempt=2)], [])
    assert after.get("checkpoint") == {"step": 20, "time": 50.0, "seconds": 1.5, "stalled_seconds": 0.1, "bytes": 7}


def test_it_stays_small_whatever_a_run_tells():
    ranks = [line(f"own_seconds_rank_{rank}", 0.1) for rank in range(MOST_RANKS + 10)]
    scores = [event("evaluated", metrics={f"fid_{number}": 1.0}) for number in range(MOST_SCORES + 10)]
    found = renewed(None, 1, scores, [*ranks, *(line(f"update_norm_block_{number:02d}", 1.0) for number in range(100))])
    assert len(found["ranks"]) == MOST_RANKS
    assert len(found["scores"]) == MOST_SCORES
    assert found["values"] == {}
    assert renewed(found, 1, [event("evaluated", metrics={"fid_0": 0.5})], [])["scores"]["fid_0"] == 0.5
