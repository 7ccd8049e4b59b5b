"""Schedules by time and money: a slower run reaches its last stage, brings its rate down, and ends before its limits."""

from pathlib import Path
from typing import Any

import pytest

from dayrun.objects import Prefix
from dayrun.recipe import Limits, Schedule
from dayrun.rules import load
from dayrun.run_folder import LineWriter, RunFolder
from tests.tiny import tiny_recipe
from tests.trainer.ranks import StopAt
from trainer.schedule import RESERVE, Used, after_stages, rate_factor, share_used, spread, stage_is_over, used_before
from trainer.telemetry import Telemetry
from trainer.train import Run
from trainer.world import World, join, leave

BY_LIMITS = Schedule(kind="warmdown", warmup_steps=10, warmdown_fraction=0.5, by="limits")


def test_the_greater_share_counts():
    assert share_used(Limits(hours=10), Used(hours=1, dollars=999)) == pytest.approx(0.1 / (1 - RESERVE))
    assert share_used(Limits(hours=10, dollars=100), Used(hours=1, dollars=50)) == pytest.approx(0.5 / (1 - RESERVE))
    assert share_used(Limits(), Used(hours=1, dollars=50)) == 0


def test_a_slow_run_brings_its_rate_down_by_the_clock_and_a_fast_one_by_its_steps():
    assert rate_factor(40, 100, BY_LIMITS, used=0.0) == 1.0
    assert rate_factor(40, 100, BY_LIMITS, used=0.75) == pytest.approx(0.5)
    assert rate_factor(75, 100, BY_LIMITS, used=0.1) == pytest.approx(0.5)
    assert rate_factor(40, 100, BY_LIMITS, used=1.5) == pytest.approx(1 / 50)  # the last step still learns
    assert rate_factor(4, 100, BY_LIMITS, used=0.9) == 0.5  # warming up comes first
    by_step = BY_LIMITS.model_copy(update={"by": "step"})
    assert rate_factor(40, 100, by_step, used=0.75) == 1.0


def test_stages_end_by_the_clock_in_the_same_proportions():
    assert not stage_is_over(10, 80, 100, BY_LIMITS, used=0.79)
    assert stage_is_over(10, 80, 100, BY_LIMITS, used=0.8)
    assert stage_is_over(80, 80, 100, BY_LIMITS, used=0.0)
    assert not stage_is_over(10, 80, 100, BY_LIMITS.model_copy(update={"by": "step"}), used=0.9)
    assert spread([80, 20], 0, 30) == [30, 70]
    assert spread([30, 70], 1, 15) == [30, 15]


def event(attempt: int, time: float, type: str = "resumed", **data: Any) -> Any:
    return {"time": time, "attempt": attempt, "step": 0, "type": type, "data": data}


def test_what_earlier_attempts_took_is_counted_with_what_they_lost():
    events = [
        event(1, 0.0, "attempt_started", world_size=2),
        event(1, 1800.0, "checkpoint_saved"),
        event(2, 7200.0, "attempt_started", world_size=4),
        event(2, 9000.0),
        event(3, 99999.0, "attempt_started", world_size=4),  # ourselves
    ]
    metrics: list[Any] = [{"step": 9, "name": "loss", "value": 1.0, "time": at} for at in (100.0, 3600.0, 7300.0)]
    used = used_before(3, events, metrics, dollars_per_process_hour=10.0)
    assert used == Used(hours=1.5, dollars=1 * 2 * 10.0 + 0.5 * 4 * 10.0)


class Clock:
    """Time that passes only by being looked at: so much a step."""

    def __init__(self, seconds_a_look: float) -> None:
        self.now, self._seconds = 0.0, seconds_a_look

    def __call__(self) -> float:
        self.now += self._seconds
        return self.now


@pytest.fixture
def world():
    yield join(load(tiny_recipe("data", processes=1)).hardware)
    leave()


def by_limits(data: Path, hours: float) -> dict[str, Any]:
    stages = [{"name": name, "pixels": 8, "steps": steps, "batch_size": 4} for name, steps in (("small", 60), ("large", 20))]
    schedule = {"kind": "warmdown", "warmup_steps": 2, "warmdown_fraction": 0.25, "by": "limits"}
    return tiny_recipe(data, processes=1, stages=stages, schedule=schedule, limits={"hours": hours}, checkpoints={"every": 1000})


def train(world: World, document: dict[str, Any], folder: RunFolder, clock: Clock, stop_at: int | None = None) -> Run:
    folder.put_recipe(document)
    attempt = folder.newest_attempt() + 1
    folder.claim_attempt(attempt, {})
    telemetry = Telemetry(folder, attempt, 0)
    telemetry.event("attempt_started", 0, world_size=1)
    stop = StopAt(stop_at)
    stop.run = run = Run(load(document), folder, attempt, world, telemetry, stop, clock)  # pyright: ignore[reportArgumentType]
    assert run.train() == ("succeeded" if stop_at is None else "stopped")
    telemetry.close()
    return run


def test_a_run_that_is_four_times_too_slow_ends_in_time(world: World, tiny_data: Path, tmp_path: Path):
    """80 steps of 1 minute, and 20 minutes to do them in."""
    folder = RunFolder(Prefix(tmp_path / "run"))
    limit = 0.999 / 3 / (1 - RESERVE)
    run = train(world, by_limits(tiny_data, limit), folder, Clock(60.0))
    assert run.progress.step == 20
    assert run.stages_ended == [15, 5]
    started = [(e["step"], e["data"]["stage"]) for e in folder.events() if e["type"] == "stage_started"]
    assert started == [(0, "small"), (15, "large")]
    assert folder.checkpoints() == [20]
    assert folder.checkpoint_manifest(20)["stages_ended"] == [15, 5]
    rates = {m["step"]: m["value"] for m in folder.metrics() if m["name"] == "learning_rate"}
    assert rates[10] == pytest.approx(0.002)
    assert rates[20] < 0.002 * 0.1


def test_a_run_with_time_to_spare_does_its_steps(world: World, tiny_data: Path, tmp_path: Path):
    folder = RunFolder(Prefix(tmp_path / "run"))
    run = train(world, by_limits(tiny_data, 1000.0), folder, Clock(60.0))
    assert (run.progress.step, run.stages_ended) == (80, [60, 20])


def test_an_attempt_that_comes_back_late_goes_on_with_the_stage_that_is_due(world: World, tiny_data: Path, tmp_path: Path):
    """The first one has taken 16 of 20 minutes for 10 steps, as its last event says."""
    folder = RunFolder(Prefix(tmp_path / "run"))
    document = by_limits(tiny_data, 0.999 / 3 / (1 - RESERVE))
    train(world, document, folder, Clock(0.0), stop_at=10)
    last = LineWriter(folder.prefix, "events", 1, rank=1)
    last.write(event(1, next(folder.events())["time"] + 16 * 60.0))
    last.flush()
    run = train(world, document, folder, Clock(60.0))
    assert run.stages_ended == [10, 4]
    assert [(e["step"], e["data"]["stage"]) for e in folder.events() if e["type"] == "stage_started"] == [(0, "small"), (10, "large")]


def test_stages_that_are_over_keep_the_length_they_had():
    known = load(by_limits(Path("data"), 1.0))
    assert after_stages(known, []) == [60, 20]
    assert after_stages(known, [15]) == [15, 65]
    assert after_stages(known, [15, 5]) == [15, 5]
