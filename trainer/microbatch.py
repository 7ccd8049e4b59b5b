"""How many images a process holds at once: by measurement where the recipe leaves it open, and less after memory has run out.

The batch of a step is always the recipe's. A micro-batch divides a process' share of it, so that every micro-batch of a step is alike.
"""

from collections.abc import Callable, Iterable

import torch

from dayrun.recipe import Recipe, Stage
from dayrun.run_folder import Event, RunFolder
from trainer.world import World

FILLED = 0.92
"""Share of the memory that may be planned with: the rest is for what comes and goes beside a micro-batch, and for fragments."""


def chosen(stage: Stage, share: int, world: World, folder: RunFolder, try_out: Callable[[int], None]) -> int:
    """The micro-batch that a stage begins with: what was asked for, else on an accelerator what was measured to fit; no more than an
    earlier attempt came down to. `try_out` does forward and backward of so many images. Every rank calls it."""
    size = min(stage.micro_batch_size or share, share)
    if stage.micro_batch_size is None and world.device.type != "cpu":
        size = measured(share, world, try_out)
    told = ("stage_started", "micro_batch_reduced", "ended")
    events = world.together(lambda: [e for e in folder.events() if e["type"] in told] if world.leads else [])[0]
    return after_earlier_attempts(events, stage.name, share, size)


def shrunk(recipe: Recipe, share: int, micro_batch: int, world: World) -> int:
    """A smaller micro-batch, after memory has run out on some rank. Raises OutOfMemoryError on every rank where there is none."""
    to = smaller(share, micro_batch, at_least=2 if recipe.objective.contrastive else 1)
    if to is None:
        raise torch.OutOfMemoryError(f"memory has run out with a micro-batch of {micro_batch}, and no smaller one is possible")
    if world.device.type == "cuda":
        torch.cuda.empty_cache()
    return to


def divisors(share: int) -> list[int]:
    return [d for d in range(1, share + 1) if share % d == 0]


def smaller(share: int, micro_batch: int, at_least: int = 1) -> int | None:
    """The greatest micro-batch of at most half of `micro_batch` that divides `share`; None when there is none of `at_least` images."""
    return max((d for d in divisors(share) if at_least <= d <= micro_batch // 2), default=None)


def to_be_measured(share: int) -> list[int]:
    """Two small sizes from which the rest can be told: 1, and the largest up to 4."""
    small = [d for d in divisors(share) if d <= 4]
    return [1, small[-1]] if len(small) > 1 else [1]


def greatest_that_fits(share: int, peaks: dict[int, int], capacity: int) -> int:
    """The greatest divisor of `share` whose peak stays below the capacity (bytes), told from the `peaks` of one or two sizes: a peak is
    what is always there plus a part for each image. 1 when none does."""
    sizes = sorted(peaks)
    each = (peaks[sizes[-1]] - peaks[sizes[0]]) / (sizes[-1] - sizes[0]) if len(sizes) > 1 else 0.0
    always = peaks[sizes[0]] - each * sizes[0]
    return max((d for d in divisors(share) if always + each * d <= FILLED * capacity), default=1)


def measured(share: int, world: World, try_out: Callable[[int], None]) -> int:
    """The micro-batch for an accelerator: `try_out` does forward and backward of so many images. The same on every rank."""
    device = world.device
    peaks: dict[int, int] = {}
    for size in to_be_measured(share):
        try_out(size)  # compiles, and lets libraries take their workspaces
        torch.cuda.reset_peak_memory_stats(device)
        try_out(size)
        peaks[size] = torch.cuda.max_memory_allocated(device)
    free, _ = torch.cuda.mem_get_info(device)
    capacity = free + torch.cuda.memory_reserved(device)
    return min(world.gather(greatest_that_fits(share, peaks, capacity)))


def ran_out(error: BaseException) -> bool:
    """Whether `error` says that memory has run out, of an accelerator or of this machine."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def after_earlier_attempts(events: Iterable[Event], stage: str, share: int, micro_batch: int) -> int:
    """`micro_batch`, or less if an earlier attempt came down to less in this stage, or ended for want of memory."""
    at: tuple[str, int] | None = None
    for event in events:
        data = event["data"]
        match event["type"]:
            case "stage_started":
                at = (data["stage"], data.get("micro_batch_size", share))
            case "micro_batch_reduced" if data["stage"] == stage:
                at = (stage, data["now"])
                micro_batch = min(micro_batch, data["now"])
            case "ended" if data.get("cause") == "oom" and at is not None and at[0] == stage:
                micro_batch = min(micro_batch, smaller(share, at[1]) or 1)
                at = None  # every rank that saw it has told of it
    return max(d for d in divisors(share) if d <= micro_batch)
