"""In which number format products are computed, applied to the model from outside: float32, bfloat16, or float8 inside the blocks.

float8: inputs and weights in e4m3, gradients in e5m2, each tensor scaled by its own largest value at the time (Micikevicius et al. 2022,
"FP8 Formats for Deep Learning"); sums are kept in float32 by the hardware, results are bfloat16. Weights stay what they are.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dayrun.recipe import Hardware
from dayrun.recipe_errors import RecipeError, RecipeErrors
from trainer.world import World

FORWARD, BACKWARD = torch.float8_e4m3fn, torch.float8_e5m2
UNIT = 16
"""Rows and columns of float8 products come in multiples of this."""
CAPABILITY = (8, 9)
"""The first CUDA compute capability with float8 products (Ada, Hopper)."""


def autocast(hardware: Hardware, world: World) -> torch.autocast:
    """Compute in bfloat16 where the recipe asks for it (or for float8, whose results are bfloat16)."""
    return torch.autocast(world.device.type, torch.bfloat16, enabled=hardware.precision.compute != "float32")


def refuse_float8_where_there_is_none(device: torch.device) -> None:
    """Raises RecipeErrors (cause `spec`) when `device` cannot multiply in float8."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= CAPABILITY:
        return
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    because = f"this machine's {name} has no float8 matrix products; they need compute capability {CAPABILITY[0]}.{CAPABILITY[1]}"
    raise RecipeErrors([RecipeError("/hardware/precision/compute", "float8", because, ["bfloat16"])])


def use_float8(block: nn.Module) -> None:
    """The products of `block` over tokens in float8; names and weights stay. The modulation, one row an image, is left in bfloat16."""
    for name, module in block.named_modules():
        if isinstance(module, nn.Linear) and not name.startswith("modulation"):
            module.forward = partial(linear_in_float8, module)


def linear_in_float8(layer: nn.Linear, x: Tensor) -> Tensor:
    """What `layer` makes of `x` (…, in), in bfloat16; computed in bfloat16 too where the sizes are no multiples of 16."""
    rows = x.numel() // x.shape[-1]
    if rows % UNIT or layer.in_features % UNIT or layer.out_features % UNIT:
        return F.linear(x, layer.weight, layer.bias)
    with torch.autocast(x.device.type, enabled=False):
        flat = x.reshape(rows, -1).bfloat16()
        product = Float8Product.apply(flat, layer.weight.bfloat16())
        biased = product if layer.bias is None else product + layer.bias.bfloat16()
        return biased.unflatten(0, x.shape[:-1])


def quantised(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(x / scale in `dtype`, scale as a float32 scalar): the largest value lands on the format's largest."""
    scale = x.abs().amax().float().clamp(min=1e-12) / torch.finfo(dtype).max
    return (x.float() / scale).to(dtype), scale


class Float8Product(torch.autograd.Function):
    """x (m, k) times weightᵀ, weight (n, k), both bfloat16 → (m, n) bfloat16. All three products of a step are in float8."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        x8, x_scale = quantised(x, FORWARD)
        w8, w_scale = quantised(weight, FORWARD)
        ctx.save_for_backward(x8, x_scale, w8, w_scale)
        return torch._scaled_mm(x8, w8.t(), x_scale, w_scale, out_dtype=torch.bfloat16)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        x8, x_scale, w8, w_scale = ctx.saved_tensors
        g8, g_scale = quantised(gradients[0], BACKWARD)
        # the second factor must lie column by column: transposed twice, with a copy in between
        to_x = torch._scaled_mm(g8, w8.t().contiguous().t(), g_scale, w_scale, out_dtype=torch.bfloat16)
        to_weight = torch._scaled_mm(g8.t().contiguous(), x8.t().contiguous().t(), g_scale, x_scale, out_dtype=torch.bfloat16)
        return to_x, to_weight
