"""Everything that depends on there being several processes or a particular device, applied to the model from outside.

Today every rank holds the whole model and gradients are averaged. Sharding belongs here too and nowhere else.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dayrun.recipe import Hardware

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process among its peers."""

    rank: int
    size: int
    device: torch.device
    node: int = 0
    leads_node: bool = True
    """The one rank of its machine that fills and clears what all of them share there."""

    @property
    def leads(self) -> bool:
        """Rank 0: the only one that writes shared objects of the run folder."""
        return self.rank == 0

    def barrier(self) -> None:
        dist.barrier()

    def agree(self, value: Any) -> Any:
        """Rank 0's `value`, on every rank. Small Python objects only."""
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Every rank's `value`, in order of rank, on every rank. Small Python objects only."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def gather_to_lead(self, value: Any) -> list[Any]:
        """Every rank's `value`, in order of rank, on rank 0; nothing elsewhere. For what is too large to be sent to all."""
        values: list[Any] = [None] * self.size
        dist.gather_object(value, values if self.leads else None, dst=0)
        return values if self.leads else []

    def together(self, action: Callable[[], T]) -> list[T]:
        """What `action` returned on every rank; raises on every rank what it raised on the first, so that none waits for one that left."""
        result, error = None, None
        try:
            result = action()
        except Exception as raised:
            error = raised
        outcomes = self.gather((result, error))
        for _, first in outcomes:
            if first is not None:
                raise error or first
        return [result for result, _ in outcomes]


def join(hardware: Hardware) -> World:
    """Join the process group that torchrun's environment describes; a process started without torchrun is a world of one."""
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if hardware.accelerator == "cpu" or not torch.cuda.is_available():
        device, backend = torch.device("cpu"), "gloo"
        cores = hardware.threads_per_process or max(1, (os.cpu_count() or 1) // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", 1))))
        torch.set_num_threads(cores)
    else:
        device, backend = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))), "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(device)
    store = None if "MASTER_ADDR" in os.environ else dist.HashStore()
    dist.init_process_group(backend, rank=rank, world_size=size, store=store, timeout=timedelta(minutes=10))
    return World(rank, size, device, int(os.environ.get("GROUP_RANK", 0)), int(os.environ.get("LOCAL_RANK", 0)) == 0)


def leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def prepare(model: nn.Module, hardware: Hardware, world: World) -> nn.Module:
    """`model` on its device, the same weights on every rank, its blocks compiled when the recipe says so. Names stay as they were."""
    model.to(world.device)
    for tensor in model.state_dict().values():
        dist.broadcast(tensor, src=0)
    if hardware.compile:
        for block in model.blocks:  # pyright: ignore[reportGeneralTypeIssues]
            block.compile()
    return model


def autocast(hardware: Hardware, world: World) -> torch.autocast:
    """Compute in bfloat16 where the recipe asks for it; weights and optimizer state stay float32."""
    return torch.autocast(world.device.type, torch.bfloat16, enabled=hardware.precision.compute == "bfloat16")


class Gradients:
    """All gradients as views of one buffer, so that one collective averages them and one product gives their norm.

    The layout is fixed, unlike that of DistributedDataParallel's buckets, which are rebuilt after the first step: sums are added in the
    same order before and after a resume, which is what makes a resume exact to the bit.
    """

    EXTRAS = 4  # the loss, and how many ranks were told to stop, to save, to profile, ride along in the same collective

    def __init__(self, model: nn.Module, world: World) -> None:
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        self._world = world
        self._buffer = torch.zeros(sum(w.numel() for w in weights) + self.EXTRAS, device=world.device)
        self._values = self._buffer[: -self.EXTRAS]
        offset = 0
        for weight in weights:
            weight.grad = self._values[offset : offset + weight.numel()].view_as(weight)
            offset += weight.numel()

    def zero(self) -> None:
        self._buffer.zero_()

    def average(self, loss: Tensor, wishes: tuple[bool, ...]) -> tuple[float, list[bool]]:
        """Averages gradients over ranks; returns the mean loss and which wishes any rank has, the same on every rank."""
        self._buffer[-self.EXTRAS] = loss.detach()
        for i, wish in enumerate(wishes):
            self._buffer[1 - self.EXTRAS + i] = float(wish)
        if self._world.size > 1:
            dist.all_reduce(self._buffer)
            self._buffer[: 1 - self.EXTRAS] /= self._world.size
        mean_loss, *wished = self._buffer[-self.EXTRAS :].tolist()
        return mean_loss, [ranks > 0 for ranks in wished]

    def clip(self, limit: float | None) -> float:
        """Scales all gradients so that their norm is at most `limit`; returns the norm before that."""
        norm = float(self._values.norm())
        if limit is not None and norm > limit:
            self._values.mul_(limit / norm)
        return norm
