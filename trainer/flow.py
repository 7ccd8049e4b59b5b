"""Flow matching: noise levels, interpolation, velocities, and the sampler. Functions of tensors; no model class, no state.

t = 0 is data, t = 1 is noise: x_t = (1 − t)·x0 + t·σ·ε. With prediction "x" the network outputs x̂0 and the loss is still taken between
velocities (Li & He 2025, "Back to Basics"); with "velocity" it outputs v = σ·ε − x0 itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dayrun.recipe import Objective, Times

MASK = 2**64 - 1


@dataclass(frozen=True)
class Draws:
    """Everything random in a training step, one entry a sample: a function of (seed, position) alone, whatever the number of ranks."""

    times: Tensor  # (n,) float32
    noise: Tensor  # (n, channels, height, width) float32, standard normal
    drop_caption: Tensor  # (n,) bool


def shift_times(times: Tensor, shift: float) -> Tensor:
    """t ← s·t/(1 + (s − 1)·t): more weight on noise for s > 1. Source: Esser et al. 2024, eq. 23."""
    return shift * times / (1 + (shift - 1) * times)


def mix(seed: int, position: int) -> int:
    """A seed for sample `position`: SplitMix64, since neighbouring seeds of a Mersenne twister give correlated first draws."""
    return split_mix((seed * 0x9E3779B97F4A7C15 + (position + 1) * 0xBF58476D1CE4E5B9) & MASK) >> 1


def split_mix(z: Any) -> Any:
    """The finaliser of SplitMix64 (Steele et al. 2014, fig. 16), of an int below 2⁶⁴ or an array of uint64."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def draw(seed: int, positions: list[int], shape: tuple[int, int, int], objective: Objective) -> Draws:
    """The draws of the samples at `positions` of the run's order; `shape` is (channels, height, width)."""
    scalars = torch.empty(len(positions), 4)
    noise = torch.empty(len(positions), *shape)
    for i, position in enumerate(positions):
        generator = torch.Generator().manual_seed(mix(seed, position))
        scalars[i, 0] = torch.randn((), generator=generator)
        scalars[i, 1:] = torch.rand(3, generator=generator)
        noise[i] = torch.randn(shape, generator=generator)
    normal, uniform, coin, caption = scalars.unbind(1)
    return Draws(times_from(normal, uniform, coin, objective.times), noise, caption < objective.caption_dropout)


def times_from(normal: Tensor, uniform: Tensor, coin: Tensor, times: Times) -> Tensor:
    """Noise levels from a normal, a uniform and a coin in [0, 1), each (n,). Source: Esser et al. 2024, §3.1, and the recipe's §3."""
    if times.distribution == "uniform":
        drawn = uniform
    else:
        drawn = torch.where(coin < times.uniform_fraction, uniform, shift_times(torch.sigmoid(normal), times.shift))
    return drawn.clamp(times.minimum, 1 - 1e-6)


def interpolate(clean: Tensor, noise: Tensor, times: Tensor, noise_scale: float) -> Tensor:
    """x_t = (1 − t)·x0 + t·σ·ε; pictures (n, c, h, w), times (n,)."""
    t = times[:, None, None, None]
    return (1 - t) * clean + t * noise_scale * noise


def velocity_of(predicted: Tensor, noisy: Tensor, times: Tensor, objective: Objective) -> Tensor:
    """The velocity that an output stands for: itself, or (x_t − x̂0)/max(t, floor) for x-prediction. Source: Li & He 2025, eq. 4."""
    if objective.prediction == "velocity":
        return predicted
    return (noisy - predicted) / times.clamp(min=objective.velocity_floor)[:, None, None, None]


def target_velocity(clean: Tensor, noise: Tensor, noisy: Tensor, times: Tensor, objective: Objective) -> Tensor:
    """What `velocity_of` should give. For x-prediction the same floored quotient is applied to the clean picture."""
    if objective.prediction == "velocity":
        return objective.noise_scale * noise - clean
    return velocity_of(clean, noisy, times, objective)


def flow_loss(velocity: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of velocities over all elements, as a float32 scalar."""
    return (velocity.float() - target.float()).square().mean()


def contrastive_flow_loss(velocity: Tensor, target: Tensor, weight: float) -> Tensor:
    """Flow-matching error minus `weight` times the error against another sample's target (the batch rolled by one).

    velocity, target: (batch, channels, height, width), any float dtype. Returns a float32 scalar.
    Raises ValueError for a batch of one: there is no other sample. Source: Stoica et al. 2025, eq. 5.
    """
    if len(velocity) < 2:
        raise ValueError("contrastive flow matching needs at least 2 samples in a micro-batch: there is no other sample to push from")
    return flow_loss(velocity, target) - weight * flow_loss(velocity, target.roll(1, dims=0))


def sampling_grid(steps: int, shift: float) -> Tensor:
    """Noise levels from 1 to 0: (steps + 1,) float32, a uniform grid shifted as the training times were."""
    return shift_times(torch.linspace(1, 0, steps + 1), shift)


@torch.no_grad()
def euler(velocity: Callable[[Tensor, Tensor], Tensor], start: Tensor, grid: Tensor) -> Tensor:
    """Integrates from noise to data with Euler steps. velocity(x, t) with t (n,); start (n, c, h, w), already scaled by σ."""
    x = start
    for now, after in zip(grid[:-1].tolist(), grid[1:].tolist(), strict=True):
        x = x + (after - now) * velocity(x, torch.full((len(x),), now, device=x.device))
    return x


def start_noise(seed: int, shape: tuple[int, int, int], noise_scale: float) -> Tensor:
    """The noise that a sample with `seed` starts from, (1, channels, height, width): drawn on the CPU, the same on every device."""
    return noise_scale * torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed))
