"""Gradients over all ranks: their mean, their norm, and what else the ranks must agree on in a step, in one collective and one read.

Where the model is whole on every rank, all gradients are views of one buffer. Where it is sharded, FSDP has averaged them by the end of
the last backward pass, and only the norm is left to be summed.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from trainer.parallel import local, sharded_modules
from trainer.world import World


@dataclass(frozen=True)
class Signals:
    """What a rank has to say to the others in a step."""

    stop: bool = False
    out_of_memory: bool = False
    save_failed: bool = False
    seconds: float = 0.0
    """Trained so far; rank 0's clock is everybody's, the others say 0."""
    save: bool = False
    profile: bool = False


@dataclass(frozen=True)
class Agreed:
    """What every rank knows after a step's collective: the same on all of them."""

    loss: float
    stop: bool
    out_of_memory: bool
    save_failed: bool
    seconds: float
    save: bool
    """Whether somebody asked for a checkpoint now."""
    profile: bool
    norm: float
    """Of the mean gradient."""


def said(loss: Tensor, signals: Signals) -> Tensor:
    """One rank's contribution to the sum, float32 on the device of `loss`."""
    told = [signals.stop, signals.out_of_memory, signals.save_failed, signals.seconds, signals.save, signals.profile]
    return torch.cat([loss.detach().float().reshape(1), torch.tensor(told, dtype=torch.float32, device=loss.device)])


def agreed(values: list[float]) -> Agreed:
    loss, stop, out_of_memory, save_failed, seconds, save, profile, norm = values
    return Agreed(loss, stop > 0, out_of_memory > 0, save_failed > 0, seconds, save > 0, profile > 0, norm)


class Gradients(Protocol):
    """Between the backward passes and the optimizer."""

    def zero(self) -> None:
        """Before a step's first micro-batch, and after one that failed."""
        ...

    def before_backward(self, last: bool) -> None:
        """Before each micro-batch: only the `last` one of a step is followed by communication."""
        ...

    def average(self, loss: Tensor, signals: Signals) -> Agreed:
        """After the last micro-batch: gradients and loss become means over all ranks."""
        ...

    def clip(self, limit: float | None) -> float:
        """Scales all gradients so that their norm is at most `limit`; returns the norm before that."""
        ...

    @property
    def survives(self) -> bool:
        """Whether this rank may give up a micro-batch half-way and still meet the others in `average`."""
        ...

    def be_careful(self) -> None:
        """The next steps may run out of memory: their size was never tried."""
        ...

    def forget(self) -> None:
        """After micro-batches that are not gone on with, on all ranks."""
        ...


def gradients_of(model: nn.Module, world: World) -> Gradients:
    return ShardedGradients(model, world) if sharded_modules(model) else WholeGradients(model, world)


class WholeGradients:
    """All gradients as views of one buffer, so that one collective averages them and one product gives their norm.

    The layout is fixed, unlike that of DistributedDataParallel's buckets, which are rebuilt after the first step: sums are added in the
    same order before and after a resume, which is what makes a resume exact to the bit.
    """

    EXTRAS = 7  # the loss and the signals ride along in the same collective

    def __init__(self, model: nn.Module, world: World) -> None:
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        self._world = world
        count = sum(w.numel() for w in weights)
        dtype = weights[0].dtype
        self._buffer = torch.zeros(count + (self.EXTRAS if dtype == torch.float32 else 0), device=world.device, dtype=dtype)
        self._values = self._buffer[:count]
        # bfloat16 has no room for a count of seconds: beside such gradients the extras travel by themselves
        self._extras = self._buffer[count:] if dtype == torch.float32 else torch.zeros(self.EXTRAS, device=world.device)
        self._norm = 0.0
        offset = 0
        for weight in weights:
            weight.grad = self._values[offset : offset + weight.numel()].view_as(weight)
            offset += weight.numel()

    survives = True

    def be_careful(self) -> None:
        pass  # nothing is sent before `average`, so that a rank may fail at any time

    def forget(self) -> None:
        self.zero()

    def zero(self) -> None:
        self._buffer.zero_()

    def before_backward(self, last: bool) -> None:
        pass

    def average(self, loss: Tensor, signals: Signals) -> Agreed:
        self._extras.copy_(said(loss, signals))
        if self._world.size > 1:
            dist.all_reduce(self._buffer)
            if self._extras.dtype != self._buffer.dtype:
                dist.all_reduce(self._extras)
            self._values /= self._world.size
            self._extras[0] /= self._world.size
        norm = torch.linalg.vector_norm(self._values, dtype=torch.float32)
        found = agreed([*torch.cat([self._extras, norm[None]]).tolist()])
        self._norm = found.norm
        return found

    def clip(self, limit: float | None) -> float:
        if limit is not None and self._norm > limit:
            self._values.mul_(limit / self._norm)
        return self._norm


class ShardedGradients:
    """Each rank has its slice of every mean gradient; the norm of all is the root of the sum of the slices' squares.

    Weights are gathered and gradients sent while the passes run, which hides the time that takes; a rank that fails in between would leave
    the others waiting for it. So the first steps of a size are careful ones: everything is gathered before, nothing sent until all
    ranks have said that they are through.
    """

    CAREFUL_STEPS = 2

    def __init__(self, model: nn.Module, world: World) -> None:
        self._world, self._modules = world, sharded_modules(model)
        self._root = self._modules[0]
        self._weights = [weight for weight in model.parameters() if weight.requires_grad]
        mesh = next(weight.device_mesh for weight in self._weights if isinstance(weight, DTensor))
        self._copies = mesh.size(0) if mesh.ndim == 2 else 1
        self._norm = 0.0
        self._careful = self.CAREFUL_STEPS

    @property
    def survives(self) -> bool:
        return self._careful > 0

    def be_careful(self) -> None:
        self._careful = self.CAREFUL_STEPS

    def forget(self) -> None:
        self._root.reset_iter_state()

    def zero(self) -> None:
        for weight in self._weights:
            weight.grad = None
        self._root.set_manual_backward_finalization(self.survives)
        if self.survives:
            for module in self._modules:
                module.unshard()

    def before_backward(self, last: bool) -> None:
        send = last and not self.survives
        self._root.set_requires_gradient_sync(send)
        self._root.set_reshard_after_backward(send)
        self._root.set_is_last_backward(send)

    def average(self, loss: Tensor, signals: Signals) -> Agreed:
        if self.survives:
            failures = torch.tensor(float(signals.out_of_memory), device=loss.device)
            dist.all_reduce(failures)
            if failures.item():
                self.forget()
                return Agreed(float("nan"), False, True, False, 0.0, False, False, float("nan"))
            self._root.set_requires_gradient_sync(True)
            self._root.set_reshard_after_backward(True)
            self._root.finalize_backward()
            self._careful -= 1
        squares = torch.stack(torch._foreach_norm(self._slices(), 2, dtype=torch.float32)).square().sum()
        values = torch.cat([said(loss, signals), squares[None]])
        dist.all_reduce(values)
        values[0] /= self._world.size
        values[-1] = (values[-1] / self._copies).sqrt()
        found = agreed(values.tolist())
        self._norm = found.norm
        return found

    def clip(self, limit: float | None) -> float:
        if limit is not None and self._norm > limit:
            torch._foreach_mul_(self._slices(), limit / self._norm)
        return self._norm

    def _slices(self) -> list[Tensor]:
        return [local(weight.grad) for weight in self._weights if weight.grad is not None]
