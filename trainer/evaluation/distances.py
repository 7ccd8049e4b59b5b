"""Distances between two sets of features, as functions of tensors, in float64. They know neither networks nor pictures."""

import torch
from torch import Tensor

KERNEL_SIGMA = 10.0
KERNEL_SCALE = 1000.0
ROWS = 1024
"""Rows of a kernel matrix at a time: bounds memory."""


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (d,) and covariance (d, d), divided by n − 1, of (n, d) features; float64. Raises ValueError for fewer than two."""
    if len(features) < 2:
        raise ValueError(f"a covariance needs at least 2 pictures, there are {len(features)}")
    mean = features.double().mean(0)
    products = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64, device=features.device)
    for some in features.split(ROWS):
        centred = some.double() - mean
        products += centred.T @ centred
    return mean, products / (len(features) - 1)


def root(symmetric: Tensor) -> Tensor:
    """The square root of a positive semi-definite matrix; eigenvalues that rounding made negative count as 0."""
    values, vectors = torch.linalg.eigh(symmetric)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def frechet(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> float:
    """|μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2·(Σ₁Σ₂)^½) of two (mean, covariance). Source: Heusel et al. 2017, eq. 6.

    tr (Σ₁Σ₂)^½ is taken as tr (Σ₁^½ Σ₂ Σ₁^½)^½: the same eigenvalues, of a symmetric matrix, so that nothing becomes complex.
    """
    (mean_1, covariance_1), (mean_2, covariance_2) = one, other
    half = root(covariance_1)
    cross = torch.linalg.eigvalsh(half @ covariance_2 @ half).clamp(min=0).sqrt().sum()
    return float((mean_1 - mean_2).square().sum() + covariance_1.trace() + covariance_2.trace() - 2 * cross)


def mean_kernel(x: Tensor, y: Tensor, sigma: float) -> float:
    """The mean of exp(−|a − b|²/(2σ²)) over all pairs of rows of x (n, d) and y (m, d), a row with itself included."""
    total = 0.0
    y = y.double()
    for some in x.double().split(ROWS):
        squares = some.square().sum(1)[:, None] + y.square().sum(1)[None] - 2 * some @ y.T
        total += float(torch.exp(-squares.clamp(min=0) / (2 * sigma**2)).sum())
    return total / (len(x) * len(y))


def kernel_distance(x: Tensor, y: Tensor, sigma: float = KERNEL_SIGMA, scale: float = KERNEL_SCALE) -> float:
    """`scale` × the squared maximum mean discrepancy with a Gaussian kernel, all pairs counted. Source: Jayasumana et al. 2024, eq. 4.

    x (n, d), y (m, d). The estimate is the biased one, as published: the diagonal counts.
    """
    return scale * (mean_kernel(x, x, sigma) + mean_kernel(y, y, sigma) - 2 * mean_kernel(x, y, sigma))
