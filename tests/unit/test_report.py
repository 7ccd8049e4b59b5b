"""What a report makes of the facts of a run, without any service: figures, attempts, promises, and names that would be markup."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dayrun.answers import (
    AttemptCost,
    CapLeft,
    Chain,
    Checkpoint,
    Cost,
    Difference,
    Event,
    Parent,
    Progress,
    Run,
    RunCost,
    RunEstimate,
    Sample,
)
from dayrun.event_chain import Broken
from dayrun.report import story
from dayrun.report.curves import Line, Mark, chart, running_mean, ticks, x_axis, y_axis
from dayrun.report.gather import Facts, Picture, PromptRow, SampleSheet, spread
from dayrun.report.markup import el
from dayrun.report.page import page
from tests.reports import Read

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOSTILE = "</style></title><script>alert(1)</script><img src=x onerror=alert(1)>\"'&amp;"


def event(sequence: int, type: str, attempt: int, step: int, **data: Any) -> Event:
    return Event(run_id="run_1", sequence=sequence, time=AT, type=type, attempt=attempt, step=step, data=data, digest="0" * 64)


def attempt_cost(attempt: int, dollars: float) -> AttemptCost:
    return AttemptCost(
        attempt=attempt,
        accelerators=2,
        dollars_per_accelerator_hour=36.0,
        held_from=AT,
        held_until=AT + timedelta(minutes=10),
        accelerator_hours=1 / 3,
        dollars=dollars,
    )


def facts(**changes: Any) -> Facts:
    """A run that failed once and then reached its end, unless `changes` say otherwise."""
    run = Run(
        id="run_1",
        name="tiny",
        labels={},
        state="succeeded",
        attempt=2,
        attempts_allowed=3,
        created_at=AT,
        ended_at=AT + timedelta(hours=1),
        progress=Progress(step=60, total_steps=60, fraction=1.0, loss=0.25),
        cost=Cost(accelerator_hours=2 / 3, dollars=24.5),
        version=9,
        recipe={"name": "tiny", "stages": [{"name": "one", "pixels": 8, "steps": 60, "batch_size": 8}]},
    )
    caps = [CapLeft(name="/limits/dollars", unit="dollars", limit=30.0, used=24.5, left=5.5)]
    costs = [attempt_cost(1, 12.0), attempt_cost(2, 12.5)]
    cost = RunCost(
        run="run_1",
        project="default",
        accelerators=2,
        dollars_per_accelerator_hour=36.0,
        accelerator_hours=2 / 3,
        dollars=24.5,
        dollars_per_hour=0,
        attempts=costs,
        reserved_dollars=0,
        caps=caps,
    )
    log = [
        event(1, "attempt_started", 1, 0, world_size=2, device="cpu", host="here", versions={"torch": "2.9"}),
        event(2, "state_changed", 1, 45, move="retry", cause="oom", evidence=["CUDA out of memory"]),
        event(3, "resumed", 2, 40, checkpoint=40),
        event(4, "step_skipped", 2, 50, loss=float("inf"), in_a_row=1),
        event(5, "state_changed", 2, 60, move="succeed"),
    ]
    values: dict[str, Any] = {
        "at": AT + timedelta(hours=2),
        "service_version": "0.1.0",
        "run": run,
        "cost": cost,
        "estimate": RunEstimate(comparison=[], as_of=AT),
        "events": log,
        "chain": Chain(length=5, digest="0" * 64),
        "broken": None,
        "diff": [],
        "series": {"loss": [(step, 1 / step, AT) for step in range(1, 61)]},
        "checkpoints": [],
        "exports": [],
    }
    return Facts(**(values | changes))


def test_an_attempts_lost_steps_are_those_that_the_next_one_does_again():
    first, second = story.attempts(facts())
    assert (first.began_at, first.reached, first.lost_steps, first.cause) == (0, 45, 5, "oom")
    assert first.lost_dollars == pytest.approx(12.0 * 5 / 45)
    assert (second.began_at, second.reached, second.lost_steps, second.ending) == (40, 60, 0, "reached the end")
    assert second.lost_dollars == 0


def test_what_a_run_that_ended_badly_did_after_its_newest_checkpoint_is_lost():
    whole = facts()
    log = [event(1, "attempt_started", 1, 0), event(2, "state_changed", 1, 50, move="fail", cause="diverged", evidence=[])]
    run = whole.run.model_copy(update={"state": "failed", "cause": "diverged", "attempt": 1})
    kept = Checkpoint(step=40, attempt=1, time=AT, bytes=1, world_size=2, digest="d")
    costs = whole.cost.model_copy(update={"attempts": whole.cost.attempts[:1]})
    (only,) = story.attempts(facts(run=run, events=log, checkpoints=[kept], cost=costs))
    assert (only.ending, only.lost_steps) == ("failed for good", 10)
    assert only.lost_dollars == pytest.approx(12.0 * 10 / 50)
    assert story.attempts(facts(run=run, events=log, cost=costs))[0].lost_steps == 50


def test_an_attempt_that_died_before_its_first_step_cost_all_it_cost():
    log = [event(1, "state_changed", 1, 0, move="retry", cause="image_pull", evidence=[]), event(2, "attempt_started", 2, 0)]
    first, second = story.attempts(facts(events=log))
    assert first.lost_dollars == 12.0
    assert (second.ending, second.lost_dollars) == ("under way", 0.0)


def test_a_promise_is_broken_only_by_more_than_the_limit():
    whole = facts()
    assert story.promises_said(whole) == "/limits/dollars was kept"
    caps = [CapLeft(name=name, unit="dollars", limit=24.0, used=24.5, left=0) for name in ("/limits/dollars", "dollars_per_day")]
    broken = facts(cost=whole.cost.model_copy(update={"caps": caps}))
    assert story.promises_said(broken) == "it passed /limits/dollars"  # a project's budget is no promise of the recipe
    assert 'class="verdict bad"' in page(broken)
    assert story.promises_said(facts(cost=whole.cost.model_copy(update={"caps": []}))) == "its recipe promises no limit"


def test_the_summary_says_what_a_decision_rests_on():
    read = Read(page(facts()))
    said = "Succeeded after 60 of 60 steps and 20 min 00 s on 2 accelerators, for $24.50; /limits/dollars was kept; the loss went from"
    assert said in read.text
    assert "its log is whole" in read.text
    assert read.figures == {
        "dollars": 24.5,
        "accelerator-hours": 2 / 3,
        "steps": 60,
        "loss": 0.25,
        "attempts": 2,
        "dollars of attempt 1": 12.0,
        "dollars of attempt 2": 12.5,
    }
    assert "failed; tried again: oom" in read.text
    assert "CUDA out of memory" in read.text
    assert "step_skipped" in read.text
    assert "torch 2.9" in read.text


def test_a_broken_log_is_said_first_and_last():
    read = Read(page(facts(broken=Broken("run_1", 3, "it is missing: event 4 comes after event 2"))))
    assert "its log is broken at event 3" in read.text
    assert "Do not rest a decision on this run's history" in read.text
    assert "Proven" not in read.text


def test_no_name_becomes_a_tag():
    sample = Sample(step=1, set=HOSTILE, prompt=HOSTILE, seed=0, guidance=1.0, steps=2, ema=True, width=8, height=8, time=AT, url="/x")
    sheet = SampleSheet(HOSTILE, [1], [PromptRow(HOSTILE, 0, {1: Picture(sample, "data:image/webp;base64,AAAA")})], 0)
    whole = facts()
    recipe = {"name": HOSTILE, "description": HOSTILE, "data": {"sources": [{"url": HOSTILE}]}, "model": {"depth": HOSTILE}}
    recipe["stages"] = [{"name": HOSTILE, "overrides": {HOSTILE: HOSTILE}}]
    run = whole.run.model_copy(
        update={
            "name": HOSTILE,
            "labels": {HOSTILE: HOSTILE},
            "recipe": recipe,
            "evidence": [HOSTILE],
            "parent": Parent(run=HOSTILE, step=1, weights="all"),
        }
    )
    log = [*whole.events, event(6, "hang", 2, 60, doing=HOSTILE), event(7, "stage_started", 2, 60, stage=HOSTILE)]
    log[0].data["host"] = log[1].data["evidence"][0] = HOSTILE
    diff = [Difference(pointer=HOSTILE, before=HOSTILE, after=HOSTILE)]
    series = {"loss": whole.series["loss"], f"fid_{HOSTILE}": [(1, 1.0, AT)]}
    plain, hostile = Read(page(whole)), Read(page(facts(run=run, events=log, sheets=[sheet], diff=diff, series=series)))
    hostile.must_stand_alone()
    assert hostile.text.count("<script>alert(1)</script>") > 10  # it is there, as text
    assert {tag for tag, _ in hostile.tags} <= {tag for tag, _ in plain.tags} | {"img", "h3", "ul", "li"}


def test_attributes_and_text_are_escaped_and_markup_is_not_escaped_twice():
    assert el("p", 'a < "b"', el("b", "&"), None, [1, " ", 2.5], title='"><x', class_="y", hidden=True, id=None) == (
        '<p title="&quot;&gt;&lt;x" class="y" hidden>a &lt; "b"<b>&amp;</b>1 2.5</p>'
    )


def test_steps_are_thinned_evenly_with_both_ends():
    assert spread([1, 2, 3], 7) == [1, 2, 3]
    assert spread(list(range(1001)), 5) == [0, 250, 500, 750, 1000]


def test_a_chart_leaves_out_what_is_no_number_and_says_when_nothing_is_left():
    dots = [(1.0, float("nan")), (2.0, 1.0), (3.0, float("inf")), (4.0, 2.0)]
    drawn = chart("loss", "", [Line("loss", dots)], [Mark(3, "two", "stage"), Mark(9, "far", "stage")])
    assert drawn.count("<polyline") == 1
    assert "nan" not in drawn
    assert "inf" not in drawn
    assert ">two<" in drawn
    assert ">far<" not in drawn  # beyond the axis
    assert "Nothing was measured" in chart("loss", "", [Line("loss", [(1, float("nan"))])])


def test_the_running_mean_of_a_straight_line_is_the_line():
    dots = [(float(step), 2.0 * step) for step in range(100)]
    assert [step for step, _ in running_mean(dots)] == [step for step, _ in dots]
    assert [value for _, value in running_mean(dots)] == pytest.approx([value for _, value in dots])


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (3.0, 3.0), (-5.0, 2.0), (0.001, 900.0), (0.0, 1e-9)])
def test_ticks_are_round_and_lie_on_the_axis(low: float, high: float):
    lines = [Line("x", [(0.0, low), (10.0, high)])]
    for axis in (x_axis(lines), y_axis(lines, lines)):
        found = ticks(axis, 4)
        assert 1 <= len(found) <= 9
        assert all(axis.low <= tick <= axis.high for tick in found)
        assert all(f"{tick:.0e}"[0] in "0123456789-" and float(f"{tick:.3g}") == pytest.approx(tick, abs=1e-15) for tick in found)
