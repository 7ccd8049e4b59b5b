"""Memory of one process while it trains a stage, by part, and whether the accelerator has it.

What is held (weights, gradients, optimizer state, averages) is exact. Activations are counted from what autograd keeps of each layer and
carry an interval, since a compiler keeps less; a test holds the count to what torch really saves on a small model.
"""

import math
from typing import Literal

from pydantic import Field

from dayrun.frozen import Network, networks, projector
from dayrun.hardware import ACCELERATORS, shards
from dayrun.layers import (
    block_matrices,
    image_tokens,
    inner_width,
    kept_tokens,
    muon_parameters,
    parameters,
    routing_parameters,
    text_tokens,
)
from dayrun.quantities import Figures, Interval, largest, total
from dayrun.recipe import Recipe, Stage

EAGER = (0.95, 1.1, 1.3)
"""Activations of a model that is not compiled, in shares of the count below. Small models measure 1.06 in bfloat16, 1.15 in float32."""
COMPILED = (0.5, 0.65, 1.1)
"""The same for a compiled one, which recomputes what is cheap. Assumed: between half of it and all of it."""
PICTURES = 8
"""Float32 copies of a micro-batch around the denoiser: clean, noise, noisy, predicted, two velocities, their difference, a gradient."""


class Bytes(Figures):
    name: str
    bytes: Interval
    formula: str = Field(description="With the numbers filled in.")


class Memory(Figures):
    """Of one process. Peak = what is always held + the largest of what comes and goes: a micro-batch, the optimizer's step, drawing."""

    held: list[Bytes]
    passing: list[Bytes] = Field(description="Of these only the largest counts at a time.")
    peak_bytes: Interval
    capacity_bytes: int | None = Field(description="Of the accelerator; null: depends on the machine.")
    fits: Literal["yes", "unsure", "no", "unknown"] = Field(description="unsure: the expected peak fits, the high end does not.")
    micro_batch_size: int = Field(description="Images a process holds at once.")
    largest_micro_batch_that_fits: int | None = Field(
        description="The largest divisor of a process' share of the batch whose high end fits; null: none does, or it is not known."
    )


def exactly(name: str, value: float, formula: str) -> Bytes:
    return Bytes(name=name, bytes=Interval.exactly(value), formula=formula)


def about(name: str, value: float, formula: str, low: float, expected: float, high: float) -> Bytes:
    return Bytes(name=name, bytes=Interval(low=value * low, expected=value * expected, high=value * high), formula=formula)


def compute_bytes(recipe: Recipe) -> int:
    """Of an element in matrix products; float8 products still keep their activations in bfloat16."""
    return 4 if recipe.hardware.precision.compute == "float32" else 2


def trained_parameters(recipe: Recipe) -> float:
    """Everything that has a gradient: the denoiser and what a stage's objective trains beside it."""
    beside = [p[1].value for i in range(len(recipe.stages)) if (p := projector(recipe.at_stage(i), recipe.stages[i].pixels))]
    return total(parameters(recipe.model)) + total(routing_parameters(recipe.model, recipe.routing)) + max(beside, default=0)


def held(recipe: Recipe, frozen: list[Network]) -> list[Bytes]:
    """What a process holds all the time."""
    hardware, precision = recipe.hardware, recipe.hardware.precision
    count, spread = trained_parameters(recipe), shards(hardware)
    size = 2 if precision.weights == "bfloat16" else 4
    muon = muon_parameters(recipe.model, recipe.optimizer)
    over = f" / {spread}" if spread > 1 else ""

    def share(name: str, each: int, parameters: float) -> Bytes:
        return exactly(name, each * parameters / spread, f"{each} B · {parameters:,.0f} parameters{over}")

    found = [share("weights", size, count), share("gradients", size, count)]
    if muon:
        found.append(share("Muon's momentum", size, muon))
    found.append(share("Adam's two moments", 2 * size, count - muon))
    if recipe.ema is not None:
        found.append(share("averaged weights", 4, count))
    if spread > 1 or (size == 4 and compute_bytes(recipe) == 2):
        each = compute_bytes(recipe)
        found.append(exactly("whole weights for the products", each * count, f"{each} B · {count:,.0f} parameters"))
    for network in frozen:
        found.append(exactly(network.name, 2 * network.parameters, f"2 B · {network.parameters:,.0f} parameters (frozen)"))
    accelerator = ACCELERATORS[hardware.accelerator]
    found.append(Bytes(name="context", bytes=accelerator.resident_bytes, formula=accelerator.resident_source))
    return found


def kept_of_block(recipe: Recipe, image: int, text: int) -> tuple[float, str]:
    """Bytes that autograd keeps of one block for one image, nothing fused.

    An image token, in widths h: two norms, each with its float32 input and output and the modulated product (2·(8 + c)); queries and keys
    before their norm (8 in float32 casts, 12 as one float32 product); queries, keys, values, attention, its projection, the MLP's output
    (6·c); four MLP widths. A text token: keys, values, their joint copies and the float32 keys.
    """
    h, inner, c = recipe.model.hidden_size, inner_width(recipe.model), compute_bytes(recipe)
    per_image = h * (2 * (8 + c) + (8 if c == 2 else 12) + 6 * c) + 4 * c * inner
    per_text = h * (4 * c + (4 if c == 2 else 0))
    return image * per_image + text * per_text, f"{image:,} · {per_image:,} B + {text:,} · {per_text:,} B"


def activations(recipe: Recipe, pixels: int) -> tuple[float, str]:
    """(Bytes of one image that the denoiser keeps, formula): its blocks, and one block more for the gradients in flight."""
    model, routing = recipe.model, recipe.routing
    image, text, c = image_tokens(recipe, pixels), text_tokens(recipe), compute_bytes(recipe)
    whole, formula = kept_of_block(recipe, image, text)
    routed, kept = 0, image
    if routing is not None:
        routed, kept = routing.end - routing.start + 1, kept_tokens(image, routing)
    if recipe.hardware.activation_checkpointing:
        tokens = (model.depth - routed) * image + routed * kept
        inputs = tokens * c * model.hidden_size
        return inputs + 2 * whole, f"{tokens:,} block inputs · {c} B · {model.hidden_size:,} + 2 blocks · ({formula})"
    inside, inside_formula = kept_of_block(recipe, kept, text)
    blocks = model.depth - routed + 1
    formula = f"{blocks} blocks · ({formula})" + (f" + {routed} routed · ({inside_formula})" if routed else "")
    return blocks * whole + routed * inside, formula


def of_micro_batch(recipe: Recipe, stage: Stage, frozen: list[Network], images: int) -> Bytes:
    """What a micro-batch of `images` keeps between forward and backward."""
    c = compute_bytes(recipe)
    value, formula = activations(recipe, stage.pixels)
    low, expected, high = COMPILED if recipe.hardware.compile else EAGER
    cells = stage.pixels // (recipe.latents.downscale if recipe.latents else 1)
    pictures = PICTURES * 4.0 * recipe.model.in_channels * cells**2
    towers = sum(network.kept.value for network in frozen) * c
    text = f" + {towers:.4g} B of the frozen networks" if towers else ""
    each = Interval(
        low=low * value + pictures + towers, expected=expected * value + pictures + 1.5 * towers, high=high * value + pictures + 3 * towers
    )
    formula = f"{images} images · ({low:g}–{expected:g}–{high:g} of {formula} = {value:.4g} B + {pictures:.4g} B of pictures{text})"
    return Bytes(name="a micro-batch", bytes=each * images, formula=formula)


def of_optimizer(recipe: Recipe) -> Bytes | None:
    """What Muon holds while it orthogonalises the largest group of matrices of one shape: each rank its share, and everyone's results."""
    if recipe.optimizer.kind != "muon":
        return None
    processes, shapes = recipe.hardware.world_size, [(rows, columns) for _, rows, columns in block_matrices(recipe.model)]
    rows, columns = max(shapes, key=lambda shape: shapes.count(shape) * shape[0] * shape[1])
    many = shapes.count((rows, columns)) * recipe.model.depth
    share = math.ceil(many / processes)
    everyone = 0 if shards(recipe.hardware) > 1 else many * (16 if processes > 1 else 8)
    formula = f"({everyone} B in stacks + {share} matrices · 20 B at work) · {rows:,} · {columns:,}"
    return about("the optimizer's step", (everyone + 20 * share) * rows * columns, formula, 0.8, 1.0, 1.3)


def of_drawing(recipe: Recipe) -> Bytes | None:
    """The run's own weights, laid aside while the averaged ones draw."""
    if recipe.ema is None or not recipe.samples.ema or not recipe.samples.sets:
        return None
    count, spread = trained_parameters(recipe), shards(recipe.hardware)
    return about("drawing", 4 * count / spread, f"4 B · {count:,.0f} parameters / {spread} (and a batch of pictures)", 1.0, 1.1, 1.5)


def memory(recipe: Recipe, stage: Stage) -> Memory:
    """Memory of one process in `stage`; `recipe` as the stage sees it."""
    frozen = networks(recipe, stage.pixels)
    share = max(1, stage.batch_size // recipe.hardware.world_size)
    micro = min(stage.micro_batch_size or share, share)
    always = held(recipe, frozen)
    others = [part for part in (of_optimizer(recipe), of_drawing(recipe)) if part is not None]
    batch = of_micro_batch(recipe, stage, frozen, micro)
    capacity = ACCELERATORS[recipe.hardware.accelerator].memory_bytes

    def peak(batch: Bytes) -> Interval:
        return base + largest([part.bytes for part in [batch, *others]])

    base = sum((part.bytes for part in always), Interval.exactly(0))
    top = peak(batch)
    fitting = None
    if capacity is not None:
        fitting = next((d for d in divisors(share)[::-1] if peak(of_micro_batch(recipe, stage, frozen, d)).high <= capacity), None)
    fits = "unknown" if capacity is None else "yes" if top.high <= capacity else "unsure" if top.expected <= capacity else "no"
    return Memory(
        held=always,
        passing=[batch, *others],
        peak_bytes=top,
        capacity_bytes=capacity,
        fits=fits,
        micro_batch_size=micro,
        largest_micro_batch_that_fits=fitting,
    )


def divisors(number: int) -> list[int]:
    """All divisors, or of a hostile number those that are found in bounded time."""
    small = [d for d in range(1, min(math.isqrt(number), 100_000) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})
