"""How the model is laid over the processes and devices, applied to it from outside: sharding, precision, compilation, recomputation.

`replicate`: every process holds the whole model. `full`: each holds a slice of every weight (FSDP2; Zhao et al. 2023). `hybrid`: slices
within a node, copies across nodes. Weights are gathered once a step and kept for forward and backward (as ZeRO-2 does; Rajbhandari et al.
2020). Names of parameters never change. Gradients are averaged by `gradients.py`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

from dayrun.recipe import Hardware
from trainer.precision import refuse_float8_where_there_is_none, use_float8
from trainer.world import World

REPLICATE, SHARD = "replicate", "shard"
VARIANTS = 256
"""Compiled variants a block may have: one for each aspect bucket, with and without routing, for training and for drawing."""


def mesh_shape(sharding: Literal["replicate", "full", "hybrid"], size: int, processes_per_node: int) -> tuple[int, int]:
    """(copies of the model, slices of each) for `size` processes, of which consecutive ones share a node.

    Where nodes are not whole, as after a resume at another size, `hybrid` slices over all processes: that always fits the memory.
    """
    if sharding == "replicate":
        return size, 1
    if sharding == "full" or size % processes_per_node:
        return 1, size
    return size // processes_per_node, processes_per_node


def prepare(model: nn.Module, hardware: Hardware, world: World) -> nn.Module:
    """`model` on its device, the same weights on every rank, as the recipe's /hardware says. Its blocks are `model.blocks`."""
    precision = hardware.precision
    model.to(world.device, torch.bfloat16 if precision.weights == "bfloat16" else None)
    for tensor in model.state_dict().values():
        dist.broadcast(tensor, src=0)
    blocks: list[nn.Module] = list(model.blocks)  # pyright: ignore[reportArgumentType]
    if precision.compute == "float8":
        refuse_float8_where_there_is_none(world.device)
        for block in blocks:
            use_float8(block)
    for block in blocks:
        # of `forward` and not of the module: what gathers weights hangs on the module's call and stays outside of both
        if hardware.compile:
            block.forward = torch.compile(block.forward, dynamic=False, recompile_limit=VARIANTS)
        if hardware.activation_checkpointing:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
    copies, slices = mesh_shape(hardware.sharding, world.size, hardware.processes_per_node)
    if slices > 1:
        shard(model, blocks, hardware, world, copies, slices)
    return model


def shard(model: nn.Module, blocks: list[nn.Module], hardware: Hardware, world: World, copies: int, slices: int) -> None:
    """Slice every weight of `model` over `slices` ranks, the same on `copies` groups of them; one gathering for each block."""
    kind = world.device.type
    if copies > 1:
        mesh = init_device_mesh(kind, (copies, slices), mesh_dim_names=(REPLICATE, SHARD))
    else:
        mesh = init_device_mesh(kind, (slices,), mesh_dim_names=(SHARD,))
    narrow = hardware.precision.compute != "float32"
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if narrow else None,
        reduce_dtype=torch.float32,
        # autocast decides what is computed in which format, as it does without sharding: only the transport is narrow
        cast_forward_inputs=False,
        param_dtype_override_fn=kept_wide if narrow else None,
    )
    for module in [*blocks, model]:
        fully_shard(module, mesh=mesh, reshard_after_forward=False, mp_policy=policy)
    for module in sharded_modules(model):
        module.set_force_sum_reduction_for_comms(kind == "cpu")  # gloo does not average
    sharded_modules(model)[0].set_reduce_scatter_unused_params(True)  # a part that a stage does not use has zero gradient, not none


def kept_wide(weight: nn.Parameter) -> torch.dtype | None:
    """The norms' weights are used in float32, and they are vectors; so are biases, which autocast narrows later."""
    return weight.dtype if weight.ndim < 2 else None


def sharded_modules(model: nn.Module) -> list[FSDPModule]:
    """Everything that gathers its weights by itself, the model first; empty when nothing is sharded."""
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def local(tensor: Tensor) -> Tensor:
    """This rank's slice of `tensor`, in the same memory; the tensor itself when it is not sharded."""
    return tensor._local_tensor if isinstance(tensor, DTensor) else tensor  # to_local() would make a node of autograd


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Whole weights on every rank inside this block, so that ranks may call the model a different number of times. All ranks enter."""
    modules = sharded_modules(model)
    for module in modules:
        module.unshard()
    try:
        yield
    finally:
        for module in modules:
            module.reshard()
