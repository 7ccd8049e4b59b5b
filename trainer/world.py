"""This process among its peers: the process group, what all of them agree on, and what happens to all when it happens to one.

It knows no model. What is exchanged here are small Python objects; tensors are the business of whoever holds them.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from dayrun.recipe import Hardware

T = TypeVar("T")

TIMEOUT = timedelta(minutes=10)
TIMEOUT_ASIDE = timedelta(hours=1)
"""Beside the training a peer may be busy for long: it waits for an object store that is away, or hashes what it has written."""


@dataclass(frozen=True)
class World:
    """This process among its peers."""

    rank: int
    size: int
    device: torch.device
    node: int = 0
    leads_node: bool = True
    """The one rank of its machine that fills and clears what all of them share there."""
    group: dist.ProcessGroup | None = None
    """What is said here goes through this group; None: through the one that the training uses."""
    aside: "World | None" = None
    """The same processes through a group of their own: a thread beside the training must never take part in its collectives."""

    @property
    def leads(self) -> bool:
        """Rank 0: the only one that writes shared objects of the run folder."""
        return self.rank == 0

    def barrier(self) -> None:
        dist.barrier(self.group)

    def agree(self, value: Any) -> Any:
        """Rank 0's `value`, on every rank. Small Python objects only."""
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Every rank's `value`, in order of rank, on every rank. Small Python objects only."""
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.group)
        return values

    def gather_to_lead(self, value: Any) -> list[Any]:
        """Every rank's `value`, in order of rank, on rank 0; nothing elsewhere. For what is too large to be sent to all."""
        values: list[Any] = [None] * self.size
        dist.gather_object(value, values if self.leads else None, dst=0, group=self.group)
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
    dist.init_process_group(backend, rank=rank, world_size=size, store=store, timeout=TIMEOUT)
    world = World(rank, size, device, int(os.environ.get("GROUP_RANK", 0)), int(os.environ.get("LOCAL_RANK", 0)) == 0)
    return replace(world, aside=replace(world, group=dist.new_group(backend="gloo", timeout=TIMEOUT_ASIDE)))


def leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
