"""Distances between sets of features, against other implementations and in closed form."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from trainer.evaluation.distances import frechet, kernel_distance, mean_kernel, moments


def features(count: int, width: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=generator)
    return torch.randn(count, width, generator=generator) @ mixing + torch.randn(width, generator=generator)


def test_moments_are_numpys_and_do_not_depend_on_the_pieces():
    some = features(3000, 7, 0)  # more than one piece
    mean, covariance = moments(some)
    np.testing.assert_allclose(mean, some.double().numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(some.double().numpy(), rowvar=False), rtol=1e-10)
    with pytest.raises(ValueError, match="at least 2"):
        moments(some[:1])


@pytest.mark.parametrize("count", [400, 9])  # fewer pictures than features: the covariances are singular
def test_the_frechet_distance_is_the_published_formula(count: int):
    one, other = moments(features(count, 16, 1)), moments(features(count, 16, 2))
    (m1, s1), (m2, s2) = [(m.numpy(), s.numpy()) for m, s in (one, other)]
    wanted = ((m1 - m2) ** 2).sum() + np.trace(s1 + s2 - 2 * scipy.linalg.sqrtm(s1 @ s2).real)
    assert frechet(one, other) == pytest.approx(wanted, rel=1e-5)
    assert frechet(one, one) == pytest.approx(0, abs=1e-6 * float(one[1].trace()))


def test_the_frechet_distance_is_that_of_torchmetrics():
    from torchmetrics.image.fid import FrechetInceptionDistance

    class AsTheyAre(torch.nn.Module):
        num_features = 16

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return pictures

    real, drawn = features(300, 16, 3), features(200, 16, 4)
    theirs = FrechetInceptionDistance(feature=AsTheyAre()).set_dtype(torch.float64)
    theirs.update(real.double(), real=True)
    theirs.update(drawn.double(), real=False)
    assert frechet(moments(real), moments(drawn)) == pytest.approx(float(theirs.compute()), rel=1e-6)


def test_gaussians_whose_covariances_commute_have_a_distance_in_closed_form():
    identity = torch.eye(3, dtype=torch.float64)
    one, other = (torch.zeros(3, dtype=torch.float64), 4 * identity), (torch.full((3,), 2.0, dtype=torch.float64), 9 * identity)
    assert frechet(one, other) == pytest.approx(3 * 2.0**2 + 3 * (3 - 2) ** 2)


def test_the_kernel_distance_counts_all_pairs_the_diagonal_too():
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0]])
    k = lambda d: math.exp(-(d**2) / 200)  # noqa: E731
    assert mean_kernel(x, x, 10.0) == pytest.approx((2 + 2 * k(1)) / 4)
    assert kernel_distance(x, y) == pytest.approx(1000 * ((2 + 2 * k(1)) / 4 + 1 - 2 * (k(3) + k(2)) / 2), rel=1e-9)
    assert kernel_distance(x, x) == pytest.approx(0, abs=1e-9)


def test_the_kernel_distance_does_not_depend_on_the_pieces():
    x, y = features(2500, 4, 5), features(1100, 4, 6)
    whole = [float(torch.exp(-torch.cdist(a.double(), b.double()).square() / 200).mean()) for a, b in ((x, x), (y, y), (x, y))]
    assert kernel_distance(x, y) == pytest.approx(1000 * (whole[0] + whole[1] - 2 * whole[2]), rel=1e-6)
