"""The learning-rate schedule as a pure function of the step. It knows no optimizer."""

import math

from dayrun.recipe import Schedule


def rate_factor(step: int, total_steps: int, schedule: Schedule) -> float:
    """What every learning rate is multiplied by in step `step` (0 is the first of `total_steps`): a number in (0, 1].

    Warm-up is linear and reaches 1 in step `warmup_steps − 1`. `warmdown` is linear to 0 over the last `warmdown_fraction` of the run,
    `cosine` falls from the end of the warm-up on; neither is ever exactly 0, so that the last step still learns.
    """
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    if schedule.kind == "cosine":
        progress = (step - schedule.warmup_steps) / max(1, total_steps - schedule.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * progress))
    if schedule.kind == "warmdown":
        return min(1.0, (total_steps - step) / max(1.0, schedule.warmdown_fraction * total_steps))
    return 1.0
