"""How far a run is, and what that makes of the learning rate and of its stages. Pure functions; no optimizer and no clock in here.

With `by: step` a run is as far as its steps. With `by: limits` it is as far as the greatest of the shares of its steps, hours and dollars
that are used: a slower run still reaches its last stage, brings its rate down in time and ends by itself; a faster one is not held back.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from dayrun.recipe import Limits, Recipe, Schedule, Stage
from dayrun.run_folder import Event, Metric

RESERVE = 0.03
"""Share of the limits that is kept for what a launcher needs before the first step, and for the last checkpoint and pictures."""


@dataclass(frozen=True)
class Used:
    """Time of the run and what all its processes cost in it, over all attempts."""

    hours: float = 0.0
    dollars: float = 0.0

    def and_then(self, seconds: float, dollars_per_hour: float) -> "Used":
        hours = seconds / 3600
        return Used(self.hours + hours, self.dollars + hours * dollars_per_hour)


def share_used(limits: Limits, used: Used) -> float:
    """The greater of the used shares of the limits, less what is kept in reserve; 1 and more: it is time to end."""
    hours = used.hours / limits.hours if limits.hours else 0.0
    dollars = used.dollars / limits.dollars if limits.dollars else 0.0
    return max(hours, dollars) / (1 - RESERVE)


def rate_factor(step: int, total_steps: int, schedule: Schedule, used: float = 0.0) -> float:
    """What every learning rate is multiplied by in step `step` (0 is the first of `total_steps`): a number in (0, 1].

    Warm-up is linear and reaches 1 in step `warmup_steps − 1`. `warmdown` is linear to 0 over the last `warmdown_fraction` of the run,
    `cosine` falls from the end of the warm-up on; neither is ever exactly 0, so that the last step still learns. With `by: limits`,
    `used` of the limits moves the run on as if so many of its steps were done; the warm-up is counted in steps all the same.
    """
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    place: float = step
    if schedule.by == "limits":
        place = min(max(place, used * total_steps), total_steps - 1)
    if schedule.kind == "cosine":
        progress = (place - schedule.warmup_steps) / max(1, total_steps - schedule.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * progress))
    if schedule.kind == "warmdown":
        return min(1.0, (total_steps - place) / max(1.0, schedule.warmdown_fraction * total_steps))
    return 1.0


def stage_is_over(step: int, last_step: int, total_steps: int, schedule: Schedule, used: float) -> bool:
    """Whether the stage that ends with step `last_step` of `total_steps` is over when `step` steps are done.

    With `by: limits` also once the used share of the limits is what the steps until then are of all steps.
    """
    return step >= last_step or (schedule.by == "limits" and used >= last_step / total_steps)


def spread(steps: list[int], index: int, done: int) -> list[int]:
    """`steps` of each stage when stage `index` did only `done` of its own."""
    changed = list(steps)
    changed[index] = done
    if index + 1 < len(steps):
        changed[index + 1] += steps[index] - done
    return changed


def after_stages(recipe: Recipe, ended: list[int]) -> list[int]:
    """Steps of each stage of `recipe`, when the first ones took as many as `ended` says."""
    steps = [stage.steps for stage in recipe.stages]
    for index, done in enumerate(ended[: len(steps)]):
        steps = spread(steps, index, done)
    return steps


def with_stage_steps(recipe: Recipe, steps: list[int]) -> Recipe:
    """The recipe with other lengths of its stages."""
    stages: list[Stage] = [stage.model_copy(update={"steps": n}) for stage, n in zip(recipe.stages, steps, strict=True)]
    return recipe.model_copy(update={"stages": stages})


def used_before(attempt: int, events: Iterable[Event], metrics: Iterable[Metric], dollars_per_process_hour: float) -> Used:
    """What the attempts before `attempt` have used, from what they wrote: each from its first event to the last line it left.

    Work that was lost since no checkpoint was written after it is counted: it took its time and was paid for.
    """
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    processes: dict[int, int] = {}
    for event in events:
        number = event["attempt"]
        if number < attempt:
            first.setdefault(number, event["time"])
            last[number] = max(last.get(number, 0.0), event["time"])
            if event["type"] == "attempt_started":
                processes[number] = event["data"].get("world_size", 1)
    starts = sorted((start, number) for number, start in first.items())
    for metric in metrics:
        owner = next((number for start, number in reversed(starts) if start <= metric["time"]), None)
        if owner is not None:
            last[owner] = max(last[owner], metric["time"])
    used = Used()
    for number, start in first.items():
        used = used.and_then(last[number] - start, processes.get(number, 1) * dollars_per_process_hour)
    return used
