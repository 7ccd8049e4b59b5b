"""Noise levels, interpolation, velocities, the sampler."""

import math

import pytest
import torch

from dayrun.recipe import Objective, Times
from trainer.flow import (
    contrastive_flow_loss,
    draw,
    euler,
    flow_loss,
    interpolate,
    sampling_grid,
    shift_times,
    target_velocity,
    times_from,
    velocity_of,
)


def test_a_perfect_prediction_has_no_loss() -> None:
    clean, noise, times = torch.rand(4, 3, 8, 8) * 2 - 1, torch.randn(4, 3, 8, 8), torch.tensor([0.001, 0.03, 0.5, 0.99])
    for objective, perfect in [
        (Objective(prediction="x"), clean),
        (Objective(prediction="x", noise_scale=2.0), clean),
        (Objective(prediction="velocity", noise_scale=2.0), 2 * noise - clean),
    ]:
        noisy = interpolate(clean, noise, times, objective.noise_scale)
        loss = flow_loss(velocity_of(perfect, noisy, times, objective), target_velocity(clean, noise, noisy, times, objective))
        assert loss < 1e-10


def test_x_prediction_weighs_errors_by_one_over_t_squared_down_to_the_floor() -> None:
    clean, error = torch.zeros(3, 1, 2, 2), 0.1
    times = torch.tensor([0.01, 0.05, 0.5])
    objective = Objective()
    noisy = interpolate(clean, torch.randn_like(clean), times, 1.0)
    difference = velocity_of(clean + error, noisy, times, objective) - target_velocity(clean, clean, noisy, times, objective)
    assert difference[:, 0, 0, 0].tolist() == pytest.approx([-2.0, -2.0, -0.2], rel=1e-4)


def test_the_draws_of_a_sample_do_not_depend_on_its_neighbours() -> None:
    together, alone = draw(7, [3, 4, 5], (3, 4, 4), Objective()), draw(7, [4], (3, 4, 4), Objective())
    assert torch.equal(together.noise[1], alone.noise[0])
    assert together.times[1] == alone.times[0]
    assert not torch.equal(draw(8, [4], (3, 4, 4), Objective()).noise, alone.noise)


def test_times_follow_the_shifted_logit_normal() -> None:
    times = draw(0, list(range(20_000)), (1, 1, 1), Objective(times=Times(shift=3.0, uniform_fraction=0.0))).times
    # the median of sigmoid(n) is 1/2, which the shift moves to 3/4; quartiles of n are ±0.6745
    wanted = [shift_times(torch.sigmoid(torch.tensor(q)), 3.0).item() for q in (-0.67449, 0.0, 0.67449)]
    assert torch.quantile(times, torch.tensor([0.25, 0.5, 0.75])).tolist() == pytest.approx(wanted, abs=0.01)
    assert times.min() >= 0.001
    assert times.max() < 1


def test_one_draw_in_ten_is_uniform_and_not_shifted() -> None:
    n = torch.full((10_000,), 30.0)  # sigmoid(30) = 1: every time that is not uniform is at the top
    times = times_from(n, torch.rand(10_000), torch.rand(10_000), Times())
    assert (times < 0.99).float().mean().item() == pytest.approx(0.1 * 0.99, abs=0.012)


def test_captions_are_dropped_as_often_as_asked() -> None:
    dropped = draw(1, list(range(10_000)), (1, 1, 1), Objective(caption_dropout=0.1)).drop_caption
    assert dropped.float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert not draw(1, list(range(100)), (1, 1, 1), Objective(caption_dropout=0.0)).drop_caption.any()


def test_the_sampler_is_exact_where_the_velocity_is_constant() -> None:
    noise, clean = torch.randn(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    drawn = euler(lambda x, t: noise - clean, noise, sampling_grid(7, 3.0))
    torch.testing.assert_close(drawn, clean)


def test_the_sampler_meets_a_known_gaussian() -> None:
    """Data N(0, s²) have the velocity (t − (1 − t)s²)/((1 − t)²s² + t²)·x in closed form: the flow must map N(0, 1) to N(0, s²)."""
    s = 0.3

    def velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        u = t[:, None, None, None]
        return (u - (1 - u) * s**2) / ((1 - u) ** 2 * s**2 + u**2) * x

    drawn = euler(velocity, torch.ones(1, 1, 1, 1), sampling_grid(2000, 1.0))
    assert drawn.item() == pytest.approx(s, rel=5e-3)


def test_grid_runs_from_one_to_zero() -> None:
    grid = sampling_grid(28, 3.0)
    assert (grid[0].item(), grid[-1].item(), len(grid)) == (1.0, 0.0, 29)
    assert (grid.diff() < 0).all()


def test_contrastive_loss_is_its_closed_form() -> None:
    velocity, target = torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2)
    other = torch.stack([target[2], target[0], target[1]])
    wanted = ((velocity - target) ** 2).mean() - 0.05 * ((velocity - other) ** 2).mean()
    torch.testing.assert_close(contrastive_flow_loss(velocity, target, 0.05), wanted)
    with pytest.raises(ValueError, match="at least 2 samples"):
        contrastive_flow_loss(velocity[:1], target[:1], 0.05)


def test_noise_is_standard_normal() -> None:
    noise = draw(3, list(range(500)), (3, 8, 8), Objective()).noise
    assert noise.mean().abs() < 3 / math.sqrt(noise.numel())
    assert noise.std().item() == pytest.approx(1, abs=0.01)
