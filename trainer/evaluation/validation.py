"""The training loss on data that the model never saw, at fixed noise levels: comparable from step to step and from run to run."""

from itertools import pairwise

import torch
from torch import nn

from dayrun.recipe import Recipe
from trainer.autoencoder import Autoencoder
from trainer.evaluation.reference import Reference
from trainer.flow import interpolate, mix, target_velocity, velocity_of
from trainer.meter import BIN_NAMES, TIME_BINS
from trainer.world import World

CHUNK = 16
"""Samples at a time. Chunks do not depend on the number of ranks, so that neither do the sums."""
BINS = list(pairwise(TIME_BINS))


@torch.no_grad()
def validation_loss(
    model: nn.Module, autoencoder: Autoencoder | None, recipe: Recipe, reference: Reference, samples: int, world: World
) -> dict[str, float]:
    """Mean squared error of velocities over `samples` samples of the reference, each at one noise level of every bin.

    Returns `validation_loss_time_0_30` and so on, and `validation_loss`: the bins weighted by their widths, as for uniform times.
    Captions are never dropped. The same on every rank; every rank must call it.
    """
    assert recipe.evaluation is not None
    samples = min(samples, len(reference))
    starts = list(range(0, samples, CHUNK))[world.rank :: world.size]
    chunks = {start: list(range(start, min(start + CHUNK, samples))) for start in starts}
    mine = {start: chunk_errors(model, autoencoder, recipe, reference, places, world) for start, places in chunks.items()}
    sums: dict[int, list[float]] = {}
    for one in world.gather(mine):
        sums |= one
    means = [sum(sums[start][i] for start in sorted(sums)) / samples for i in range(len(BINS))]
    whole = sum(mean * (high - low) for mean, (low, high) in zip(means, BINS, strict=True))
    named = {f"validation_{name}": mean for mean, name in zip(means, BIN_NAMES, strict=True)}
    return {"validation_loss": whole, **named}


def chunk_errors(
    model: nn.Module, autoencoder: Autoencoder | None, recipe: Recipe, reference: Reference, places: list[int], world: World
) -> list[float]:
    """The sum of the samples' errors in each bin."""
    assert recipe.evaluation is not None
    some, objective, device = reference.some(places), recipe.objective, world.device
    pictures, text, mask = some.images.to(device), some.text.to(device), some.text_mask.to(device)
    clean = autoencoder.encode(pictures) if autoencoder else pictures
    found: list[float] = []
    for number, (low, high) in enumerate(BINS):
        drawn = [drawn_for(recipe.evaluation.seed, len(BINS) * place + number, tuple(clean.shape[1:])) for place in places]
        noise = torch.stack([noise for noise, _ in drawn]).to(device)
        times = torch.tensor([low + (high - low) * uniform for _, uniform in drawn]).clamp(objective.times.minimum, 1 - 1e-6).to(device)
        noisy = interpolate(clean, noise, times, objective.noise_scale)
        predicted = model(noisy, times, text, mask).float()
        error = velocity_of(predicted, noisy, times, objective) - target_velocity(clean, noise, noisy, times, objective)
        found.append(float(error.double().square().flatten(1).mean(1).sum()))
    return found


def drawn_for(seed: int, place: int, shape: tuple[int, ...]) -> tuple[torch.Tensor, float]:
    """Noise of `shape` and a number in [0, 1), drawn on the CPU: the same on every device."""
    generator = torch.Generator().manual_seed(mix(seed, place))
    return torch.randn(shape, generator=generator), float(torch.rand((), generator=generator))
