"""How measured runs change what is predicted: `calibrated` for the next run, `renewed` while one trains, `compare` when it is over.

Speeds are compared as logarithms, where half and double are equally far. A belief is a log-normal: its middle and its spread, so that the
ends of an interval are e^(middle ± 1.645 · spread), nine outcomes in ten. Pure functions of figures; where the figures come from is the
service's business.
"""

import math
import statistics
from collections.abc import Sequence
from datetime import datetime, timedelta

from pydantic import Field

from dayrun.estimate import Estimate, StageEstimate
from dayrun.hardware import Utilisation
from dayrun.quantities import Figures, Interval

NINE_IN_TEN = 1.645
"""Standard deviations on each side of a normal's middle that hold nine in ten."""
BETWEEN_RUNS = 0.2
"""Standard deviation of like runs' log utilisation, until their own spread shows. Assumed: ± 20 %."""
BETWEEN_STAGES = 0.15
"""The same of one run's stages against its other stages. Assumed."""
BETWEEN_WINDOWS = 0.1
"""The same of one stage's windows of steps, before its own spread shows. Assumed."""
DRIFT = 0.05
"""How far the mean of the steps to come may lie from that of the steps so far. Assumed."""
MANY = 20
"""Samples from which on their own quantiles are used and the prior no more."""
ALIKE = 8.0
"""Stages are alike when their processes' FLOP a step differ by less than this factor: small steps reach less of a machine."""


# ---- the next run --------------------------------------------------------------------------------------------------------------------


class MeasuredStage(Figures):
    """One stage of a run that is over, or far enough to be believed."""

    accelerator: str
    matrix_rate: float = Field(gt=0, description="FLOP/s of one process, as the estimate had it.")
    processes: int = Field(gt=0)
    flops_per_process_step: float = Field(gt=0)
    step_seconds: float = Field(gt=0, description="Mean over the stage's steps, first ones left out.")

    @property
    def utilisation(self) -> float:
        return self.flops_per_process_step / (self.matrix_rate * self.step_seconds)

    @classmethod
    def of(cls, predicted: Estimate, stage: StageEstimate, step_seconds: float) -> "MeasuredStage":
        """What `stage` of a run with this estimate measured."""
        return cls(
            accelerator=predicted.accelerator,
            matrix_rate=predicted.matrix_rate,
            processes=predicted.processes,
            flops_per_process_step=stage.flops_per_process_step,
            step_seconds=step_seconds,
        )


def calibrated(estimate: Estimate, history: Sequence[MeasuredStage]) -> Utilisation:
    """The utilisation to estimate again with: that of `estimate` (a prior), moved towards what like stages in `history` measured.

    Few samples shrink towards the prior (a log-normal belief updated by the samples' median); from 20 on, their own quantiles count.
    The expected value never lies outside prior and median. With nothing alike, the utilisation of `estimate` comes back.
    Give an estimate made with the accelerator's prior: one that is calibrated already would count the same runs twice.
    """
    samples = [math.log(measured.utilisation) for measured in history if any(alike(estimate, stage, measured) for stage in estimate.stages)]
    if not samples:
        return estimate.utilisation
    if len(samples) >= MANY:
        twentieths = statistics.quantiles(samples, n=20, method="inclusive")
        belief = ordered(twentieths[0], statistics.median(samples), twentieths[-1])
    else:
        belief = believed(estimate.utilisation, samples, BETWEEN_RUNS, spread_of(samples, BETWEEN_RUNS))
    return Utilisation(low=belief.low, expected=belief.expected, high=belief.high, source="calibrated", runs=len(samples))


def alike(estimate: Estimate, stage: StageEstimate, measured: MeasuredStage) -> bool:
    """Whether a measured stage says something about `stage`: the same accelerator, steps of about the same size."""
    factor = stage.flops_per_process_step / measured.flops_per_process_step
    return measured.accelerator == estimate.accelerator and 1 / ALIKE < factor < ALIKE


def believed(prior: Interval, samples: Sequence[float], each: float, beyond: float) -> Interval:
    """A log-normal prior updated by the median of `samples` (logarithms), each off by `each`; what comes is off by `beyond` more."""
    middle, spread = math.log(prior.expected), math.log(prior.high / prior.low) / (2 * NINE_IN_TEN)
    if spread == 0 or not samples:
        return Interval(low=prior.low, expected=prior.expected, high=prior.high)
    weight = len(samples) * spread**2 / (len(samples) * spread**2 + each**2)
    middle += weight * (statistics.median(samples) - middle)
    around = NINE_IN_TEN * math.sqrt((1 - weight) * spread**2 + beyond**2)
    return ordered(middle - around, middle, middle + around)


def spread_of(samples: Sequence[float], assumed: float) -> float:
    """Standard deviation of `samples` by their median deviation, which one bad run does not move; near `assumed` while they are few."""
    middle = statistics.median(samples)
    seen = 1.4826 * statistics.median(abs(sample - middle) for sample in samples)
    few = 4
    return math.sqrt((few * assumed**2 + len(samples) * seen**2) / (few + len(samples)))


def ordered(low: float, middle: float, high: float) -> Interval:
    """An interval from logarithms."""
    return Interval(low=math.exp(min(low, middle)), expected=math.exp(middle), high=math.exp(max(high, middle)))


# ---- a run while it trains -----------------------------------------------------------------------------------------------------------


class StageSoFar(Figures):
    name: str
    steps_done: int = Field(ge=0)
    step_seconds: list[float] = Field(description="Means of windows of steps, oldest first; training steps alone.")


class Renewal(Figures):
    """What is left of a run and what it will come to, from what it measured."""

    remaining_hours: Interval
    hours: Interval = Field(description="In all, with the hours so far.")
    dollars: Interval = Field(description="In all.")
    ends_at: datetime
    ends_at_earliest: datetime
    ends_at_latest: datetime
    slower_than_planned: float = Field(description="Expected hours in all over those of the plan: 1.1 is a tenth slower.")


def renewed(estimate: Estimate, so_far: Sequence[StageSoFar], elapsed_hours: float, now: datetime) -> Renewal:
    """The estimate of a run that has trained for `elapsed_hours` (with everything beside the steps), renewed from its own step times.

    A stage that has begun is believed from its windows; one that has not, from how much the others were off. Pictures, evaluations and
    checkpoints to come are the planned ones for the steps to come, off by as much. Raises KeyError for a stage the plan does not have.
    """
    planned = {stage.name: stage for stage in estimate.stages}
    seen = {stage.name: stage for stage in so_far}
    if unknown := sorted(seen.keys() - planned.keys()):
        raise KeyError(f"no stage {unknown[0]!r} in the plan; there are: {', '.join(planned)}")
    off = [
        math.log(statistics.median(s.step_seconds) / planned[s.name].step_seconds.expected) for s in so_far if s.step_seconds
    ]  # fmt: skip
    remaining, steps_left = Interval.exactly(0), 0
    factors = [factor(stage, off) for stage in estimate.stages]
    for stage, by_others in zip(estimate.stages, factors, strict=True):
        here = seen.get(stage.name)
        left = max(0, stage.steps - (here.steps_done if here else 0))
        steps_left += left
        if here and here.step_seconds:
            windows = [math.log(seconds) for seconds in here.step_seconds[-200:]]
            spread = spread_of(windows, BETWEEN_WINDOWS)
            step = believed(stage.step_seconds, windows, spread, DRIFT)
        else:
            step = by_others
        remaining += step * (left / 3600)
    share_left = steps_left / sum(stage.steps for stage in estimate.stages)
    stretch = factors[0] * (1 / estimate.stages[0].step_seconds.expected)
    begun = any(stage.steps_done for stage in so_far)
    for overhead in estimate.overheads:
        if overhead.name == "start":
            remaining += overhead.hours * (0 if begun else 1)
        elif overhead.name == "checkpoints":
            remaining += overhead.hours * share_left
        else:
            remaining += stretch * (overhead.hours.expected * share_left)
    hours = remaining + Interval.exactly(elapsed_hours)
    return Renewal(
        remaining_hours=remaining,
        hours=hours,
        dollars=hours * estimate.dollars_per_hour,
        ends_at=after(now, remaining.expected),
        ends_at_earliest=after(now, remaining.low),
        ends_at_latest=after(now, remaining.high),
        slower_than_planned=hours.expected / estimate.hours.expected,
    )


def after(now: datetime, hours: float) -> datetime:
    """`hours` from now, or the last moment that a date can say."""
    try:
        return now + timedelta(hours=hours)
    except OverflowError:
        return datetime.max.replace(tzinfo=now.tzinfo)


def factor(stage: StageEstimate, off: Sequence[float]) -> Interval:
    """Seconds of a step of a stage that has not begun, given the logarithms by which the others' steps were off."""
    middle = math.log(stage.step_seconds.expected)
    return believed(stage.step_seconds, [middle + one for one in off], BETWEEN_STAGES, BETWEEN_STAGES if off else 0)


# ---- a run that is over --------------------------------------------------------------------------------------------------------------


class Actual(Figures):
    """What a run came to; null or left out where it was not measured."""

    hours: float | None = None
    dollars: float | None = None
    step_seconds: dict[str, float] = Field(default={}, description="By name of the stage.")
    peak_bytes_per_process: float | None = None


class Comparison(Figures):
    name: str
    unit: str
    predicted: Interval
    actual: float
    ratio: float | None = Field(description="Actual over expected; null where nothing was expected, e.g. $0.")
    inside: bool = Field(description="The actual figure lies in the predicted interval.")


def compare(predicted: Estimate, actual: Actual) -> list[Comparison]:
    """Predicted and actual side by side, for everything that was measured."""
    pairs: list[tuple[str, str, Interval, float | None]] = [
        ("hours", "h", predicted.hours, actual.hours),
        ("dollars", "$", predicted.dollars, actual.dollars),
        ("peak memory of a process", "B", predicted.peak_bytes_per_process, actual.peak_bytes_per_process),
    ]
    pairs += [(f"{stage.name}: a step", "s", stage.step_seconds, actual.step_seconds.get(stage.name)) for stage in predicted.stages]
    return [
        Comparison(name=name, unit=unit, predicted=p, actual=a, ratio=a / p.expected if p.expected else None, inside=a in p)
        for name, unit, p, a in pairs
        if a is not None
    ]
