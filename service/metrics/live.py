"""Series of the runs that hold machines: what their rows say, and the newest figures of their trainers (`service/runs/figures.py`)."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from prometheus_client.core import Metric

from service.metrics.catalogue import LIVE
from service.metrics.families import family
from service.metrics.names import AS_THEY_ARE, CACHE_READS, LOADED, LOSS_PARTS, NOISE, PARTS
from service.metrics.rows import Live

Series = Iterator[tuple[str, tuple[str, ...], float]]
"""(name of the figure, its labels but `run`, value)."""


def of_live(runs: list[Live], at: datetime) -> Iterator[Metric]:
    found: dict[str, dict[tuple[str, ...], float]] = {figure.name: {} for figure in LIVE}
    for run in runs:
        for name, labels, value in of_run(run, at):
            found[name][run.id, *labels] = value
    for name, series in found.items():
        yield family(name, series)


def of_run(run: Live, at: datetime) -> Series:
    yield from of_row(run, at)
    figures = run.figures
    if figures is None:
        return
    now = figures if figures["attempt"] == run.attempt else None  # what an earlier attempt measured is history
    yield from of_whole_run(run, figures, at)
    if now is not None:
        yield from of_attempt(run, now, at)


def held_seconds(run: Live, at: datetime) -> float:
    """Of all attempts."""
    holding = (at - run.holding_since).total_seconds() if run.holding_since else 0.0
    return run.accelerator_seconds / run.world_size + max(0.0, holding)


def of_row(run: Live, at: datetime) -> Series:
    burn = run.world_size * run.dollars_per_accelerator_hour
    yield "dayrun_run_info", (run.name, run.project_id, str(run.recipe["hardware"]["accelerator"])), 1
    yield "dayrun_run_state", (str(run.state),), 1
    yield "dayrun_run_attempt", (), run.attempt
    yield "dayrun_run_accelerators", (), run.world_size
    yield "dayrun_run_step", (), run.step
    yield "dayrun_run_steps_planned", (), run.total_steps
    yield "dayrun_run_silent_seconds", (), seconds_since(newest(run), at)
    yield "dayrun_run_dollars", (), held_seconds(run, at) / 3600 * burn
    yield "dayrun_run_dollars_per_hour", (), burn
    limits: dict[str, float | None] = run.recipe.get("limits") or {}
    if (budget := limits.get("dollars")) is not None:
        yield "dayrun_run_budget_dollars", (), budget
    if run.predicted_dollars is not None:
        yield "dayrun_run_planned_dollars", (), run.predicted_dollars


def newest(run: Live) -> float | None:
    """When the attempt last told of a step, or was launched."""
    launched = run.holding_since.timestamp() if run.holding_since else None
    told = run.figures.get("time") if run.figures and run.figures["attempt"] == run.attempt else None
    return max((one for one in (launched, told) if one is not None), default=None)


def seconds_since(time: float | None, at: datetime) -> float:
    return max(0.0, at.timestamp() - time) if time is not None else 0.0


def of_whole_run(run: Live, figures: dict[str, Any], at: datetime) -> Series:
    """What holds over attempts."""
    for kind, count in figures["troubles"].items():
        yield "dayrun_run_troubles_total", (kind,), count
    for part, seconds in figures["beside"].items():
        yield "dayrun_run_beside_seconds_total", (part,), seconds
    for score, value in figures["scores"].items():
        yield "dayrun_run_score", (score,), value
    launched, saved = run.holding_since.timestamp() if run.holding_since else None, figures.get("checkpoint")
    # a run that was paused for a week has an old checkpoint, and nothing is wrong with it
    since = max((one for one in (launched, saved and saved["time"]) if one is not None), default=None)
    yield "dayrun_run_checkpoint_age_seconds", (), seconds_since(since, at)
    if saved is not None:
        yield "dayrun_run_checkpoint_step", (), saved["step"]
        yield "dayrun_run_checkpoint_seconds", (), saved["seconds"]
        yield "dayrun_run_checkpoint_stalled_seconds", (), saved["stalled_seconds"]
        yield "dayrun_run_checkpoint_bytes", (), saved["bytes"]


def of_attempt(run: Live, figures: dict[str, Any], at: datetime) -> Series:
    values: dict[str, float] = figures["values"]
    if "samples_read" in values:  # a counter that first appears when it rises has risen unseen
        values = dict.fromkeys(LOADED, 0.0) | values
    for theirs, ours in AS_THEY_ARE.items():
        if theirs in values:
            yield ours, (), values[theirs]
    for ours, names in (
        ("dayrun_run_step_part_seconds", {part: f"{part}_seconds" for part in PARTS}),
        ("dayrun_run_loss_part", {part: f"loss_{part}" for part in LOSS_PARTS}),
        ("dayrun_run_loss_by_noise", {part: f"loss_time_{part}" for part in NOISE}),
        ("dayrun_run_cache_reads_total", {result: name for name, result in CACHE_READS.items()}),
    ):
        for label, theirs in names.items():
            if theirs in values:
                yield ours, (label,), values[theirs]
    for rank, seconds in figures["ranks"].items():
        yield "dayrun_run_rank_step_seconds", (rank,), seconds
    yield "dayrun_run_straggling_ranks", (), len(figures["straggling"])
    if "step_seconds" in values:
        yield from of_pace(run, values["step_seconds"], at)


def of_pace(run: Live, step_seconds: float, at: datetime) -> Series:
    """What follows from how long a step takes now."""
    left = max(0, run.total_steps - run.step) * step_seconds
    yield "dayrun_run_eta_seconds", (), left
    yield "dayrun_run_checkpoint_due_seconds", (), run.recipe["checkpoints"]["every"] * step_seconds
    if run.predicted_hours:
        yield "dayrun_run_estimate_ratio", (), (held_seconds(run, at) + left) / (run.predicted_hours * 3600)
