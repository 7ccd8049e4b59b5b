"""What a run tells of itself every few steps: speed, time by part, memory, norms by block, loss by noise level, dollars.

Ranks exchange a handful of numbers on the CPU at that moment and at no other; rank 0 writes. docs/run-folder.md has the names.
"""

import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dayrun.estimate import per_image
from dayrun.layers import newton_schulz
from dayrun.quantities import total
from dayrun.recipe import Recipe, Stage
from trainer.telemetry import LOG_EVERY, Telemetry
from trainer.timing import OWN, Timing, measured_rate
from trainer.watch import Stragglers, straggling
from trainer.world import World

NORMS_EVERY = 10 * LOG_EVERY
"""Steps between norms by block (a copy of the weights for a moment, and two lines a block) and between the ranks' own times."""
TIME_BINS = (0.0, 0.3, 0.6, 1.0)
IN_A_STEP = ("data_wait", "forward", "backward", "communication", "optimizer")
BESIDE = ("checkpoint", "preview", "evaluation")
BIN_NAMES = tuple(f"loss_time_{round(100 * a)}_{round(100 * b)}" for a, b in pairwise(TIME_BINS))


def by_time(errors: Tensor, times: Tensor) -> Tensor:
    """Sums and numbers of `errors` by noise level: (n,), (n,) of floats → (2, 3) float32 for t in [0, .3), [.3, .6), [.6, 1].

    Errors that are no numbers are left out. Waits for no device.
    """
    which = torch.zeros(len(times), dtype=torch.int64, device=errors.device)
    for edge in TIME_BINS[1:-1]:  # a tensor of the edges would have to be sent to the device, and waited for
        which += times.detach() >= edge
    fine = errors.isfinite()
    both = torch.stack([torch.where(fine, errors.detach().float(), 0.0), fine.float()])
    return torch.zeros(2, len(TIME_BINS) - 1, device=errors.device).index_add_(1, which, both)


def blocks_of(names: Sequence[str]) -> dict[str, list[str]]:
    """Names of weights by what they belong to: `block_00`, `block_01`, …, and `rest`."""
    found: dict[str, list[str]] = {}
    for name in names:
        head, _, tail = name.partition(".")
        found.setdefault(f"block_{int(tail.split('.')[0]):02d}" if head == "blocks" else "rest", []).append(name)
    return found


def norms(tensors: dict[str, Tensor]) -> dict[str, float]:
    """Euclidean norm by block. Tensors may be sharded: then every rank must call it."""
    squares = {name: tensor.detach().float().square().sum() for name, tensor in tensors.items()}
    whole = {name: value.full_tensor() if hasattr(value, "full_tensor") else value for name, value in squares.items()}
    return {block: float(torch.stack([whole[name] for name in names]).sum().sqrt()) for block, names in blocks_of(list(whole)).items()}


class Meter:
    """The run's numbers, gathered and written every `LOG_EVERY` steps."""

    def __init__(self, recipe: Recipe, world: World, telemetry: Telemetry, timing: Timing) -> None:
        self._recipe, self._world, self._telemetry, self.timing = recipe, world, telemetry, timing
        dtype = torch.float32 if recipe.hardware.precision.compute == "float32" else torch.bfloat16
        self._rate = measured_rate(world.device, dtype)
        self._bins = torch.zeros(2, len(TIME_BINS) - 1, device=world.device)
        self._stragglers = Stragglers(recipe.guard.straggler_factor)
        self._places: list[tuple[int, str]] = world.gather((world.node, os.uname().nodename))
        self._flops = 0.0
        self._batch_size = 0
        self._begun = time.monotonic()
        self._seconds_before = 0.0

    def begin_stage(self, recipe: Recipe, stage: Stage) -> None:
        """`recipe` as the stage sees it."""
        share = stage.batch_size / self._world.size
        self._flops = share * total(per_image(recipe, stage.pixels)) + total(
            newton_schulz(recipe.model, recipe.optimizer, self._world.size)
        )
        self._batch_size = stage.batch_size
        self.timing.begin_stage()

    # dollars: what earlier attempts took is in the checkpoint; what came after it and was lost is not
    @property
    def seconds(self) -> float:
        """Of all attempts up to now, as far as their checkpoints tell."""
        return self._seconds_before + self.attempt_seconds

    @property
    def attempt_seconds(self) -> float:
        return time.monotonic() - self._begun

    def went_on_from(self, seconds: float) -> None:
        self._seconds_before = seconds

    @property
    def dollars(self) -> float:
        return self.seconds / 3600 * self._world.size * self._recipe.hardware.dollars_per_accelerator_hour

    # in every step
    def saw(self, velocity: Tensor, target: Tensor, times: Tensor) -> None:
        """Velocities of a micro-batch, (n, channels, height, width), and their noise levels (n,)."""
        with torch.no_grad():
            self._bins += by_time((velocity.detach().float() - target.float()).square().flatten(1).mean(1), times)

    def forget(self) -> None:
        """What was seen since the last report was a trial."""
        self._bins.zero_()

    @contextmanager
    def norms_of(self, model: nn.Module, step: int, gradient_norm: float) -> Iterator[None]:
        """The optimizer's step `step` happens in this block; when norms are due, they are taken from around it."""
        if step % NORMS_EVERY:
            yield
            return
        weights = dict(model.named_parameters())
        gradients = norms({name: weight.grad for name, weight in weights.items() if weight.grad is not None})
        before = {name: weight.detach().clone() for name, weight in weights.items()}
        yield
        updates = norms({name: weight.detach() - before[name] for name, weight in weights.items()})
        clipped = sum(value**2 for value in gradients.values()) ** 0.5
        scale = gradient_norm / clipped if clipped else 1.0  # the gradients were scaled down already; what is told is from before that
        self._telemetry.metric(step, **{f"gradient_norm_{block}": value * scale for block, value in gradients.items()})
        self._telemetry.metric(step, **{f"update_norm_{block}": value for block, value in updates.items()})

    def report(
        self,
        step: int,
        last: bool,
        loss: float,
        norm: float,
        learning_rate: float,
        more: Callable[[], dict[str, float]],
        loaded: Callable[[], dict[str, float]],
    ) -> None:
        """After every step, on every rank. `last`: of the run. `more`: further means since it was last called, when they are due;
        `loaded`: what this rank's loaders have done in the attempt, by the same names on every rank.
        """
        self._telemetry.check()
        self._telemetry.metric(step, loss=loss)
        if step % LOG_EVERY and not last:
            return
        taken = self.timing.take()
        steps, own = max(1.0, taken["steps"]), sum(taken.get(part, 0.0) for part in OWN)
        parts_of_step, bins, done = [taken.get(part, 0.0) for part in IN_A_STEP], self._bins.flatten().tolist(), loaded()
        ranks, parts_of_loss = self._gather([own, self._memory(), *parts_of_step, *bins, *done.values()]), more()
        self._bins.zero_()
        if not self._world.leads:
            return
        own_seconds = [rank[0] for rank in ranks]
        self._name_stragglers(step, own_seconds, int(steps))
        if self._world.size > 1 and (step % NORMS_EVERY == 0 or last):
            self._telemetry.metric(step, **{f"own_seconds_rank_{rank}": each / steps for rank, each in enumerate(own_seconds)})
        seconds = taken["step_seconds"] / steps
        parts = {part: statistics.fmean(rank[2 + i] for rank in ranks) / steps for i, part in enumerate(IN_A_STEP)}
        sums = torch.tensor([rank[2 + len(IN_A_STEP) :] for rank in ranks], dtype=torch.float64).sum(0)
        by_noise, by_loaders = sums[: len(bins)].view(2, -1), sums[len(bins) :].tolist()
        self._telemetry.metric(
            step,
            gradient_norm=norm,
            learning_rate=learning_rate,
            step_seconds=seconds,
            steps_per_second=1 / seconds,
            images_per_second=self._batch_size / seconds,
            **{f"{part}_seconds": value for part, value in parts.items()},
            **{f"{part}_seconds": taken[part] for part in BESIDE if taken.get(part)},
            memory_bytes=max(rank[1] for rank in ranks),
            peak_share=self._flops / (seconds * self._rate),
            dollars=self.dollars,
            **parts_of_loss,
            **{name: float(mean) for name, mean in zip(BIN_NAMES, by_noise[0] / by_noise[1], strict=True)},
            **{name: total for name, total in zip(done, by_loaders, strict=True) if total},  # most runs have no cache
        )

    def _name_stragglers(self, step: int, own_seconds: list[float], steps: int) -> None:
        if self._world.size == 1:
            return
        slow, over = self._stragglers.window(own_seconds)
        for rank in slow:
            self._telemetry.event("straggler", step, **straggling(rank, own_seconds, self._stragglers.factor, steps, self._places))
        for rank in over:
            node, host = self._places[rank]
            self._telemetry.event("straggler_over", step, rank=rank, node=node, host=host)

    def _memory(self) -> float:
        """The most bytes this rank has held so far: allocated on its GPU, or resident where there is none."""
        if self._world.device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(self._world.device))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0

    def _gather(self, mine: list[float]) -> list[list[float]]:
        if self._world.size == 1:
            return [mine]
        sent = torch.tensor(mine, dtype=torch.float64)
        received = [torch.empty_like(sent) for _ in range(self._world.size)]
        dist.all_gather(received, sent)
        return [numbers.tolist() for numbers in received]
