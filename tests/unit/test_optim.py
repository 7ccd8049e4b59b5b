"""Muon, the averaged weights, the schedule."""

import pytest
import torch

from dayrun.recipe import Ema, Model, Optimizer, Schedule
from trainer.ema import AveragedWeights
from trainer.model import Denoiser
from trainer.muon import Muon, orthogonalise
from trainer.optim import Optimizers
from trainer.schedule import rate_factor


@pytest.mark.parametrize("shape", [(48, 16), (16, 48), (32, 32)])
def test_muon_equals_torchs(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(w) for w in [torch.randn(shape)] * 2)
    ours, theirs = torch.nn.Parameter(ours.detach().clone()), torch.nn.Parameter(theirs.detach().clone())
    mine = Muon([ours], lr=0.01, momentum=0.95, steps=5, weight_decay=0.1)
    reference = torch.optim.Muon([theirs], lr=0.01, momentum=0.95, ns_steps=5, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        gradient = torch.randn(shape)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step()
        reference.step()
    # theirs multiplies in bfloat16 (8 bits of mantissa), ours in float32 on a CPU: four updates of size 0.01·0.2·√48 differ by 1 %
    torch.testing.assert_close(ours, theirs, atol=4 * 0.01 * 0.2 * 48**0.5 * 0.01, rtol=0)


def test_orthogonalise_brings_singular_values_near_one_for_each_matrix_alone() -> None:
    torch.manual_seed(0)
    matrices = torch.randn(5, 24, 40)
    values = torch.linalg.svdvals(orthogonalise(matrices, 5))
    assert values.min() > 0.6
    assert values.max() < 1.3
    torch.testing.assert_close(orthogonalise(matrices, 5)[2], orthogonalise(matrices[2:3], 5)[0], atol=1e-5, rtol=1e-4)


def test_muon_takes_the_matrices_of_blocks_and_adam_the_rest() -> None:
    model = Denoiser(Model(hidden_size=32, depth=1, heads=2, rotary_axes=[8, 8], patch_size=4, text_width=8))
    names = list(Optimizers(model, Optimizer()).tensors())
    muon = {name.split(".", 1)[1].removesuffix(".momentum_buffer") for name in names if name.startswith("muon.")}
    assert muon == {n for n, p in model.named_parameters() if n.startswith("blocks.") and p.ndim == 2}
    assert "blocks.0.modulation.lin.weight" in muon
    assert "adamw.img_in.weight.exp_avg" in names
    assert all(name.startswith("adamw.") for name in Optimizers(model, Optimizer(kind="adamw")).tensors())


def test_average_starts_as_a_copy_and_follows_the_formula() -> None:
    model = torch.nn.Linear(2, 1, bias=False)
    first = model.weight.detach().clone()
    average = AveragedWeights(model, Ema(decay=0.9, every=2))
    with torch.no_grad():
        model.weight.add_(1.0)
    average.update(1)
    assert torch.equal(average.tensors["weight"], first)  # only every second step
    average.update(2)
    torch.testing.assert_close(average.tensors["weight"], 0.9 * first + 0.1 * (first + 1))
    own = model.weight.detach().clone()
    with average.in_place():
        assert torch.equal(model.weight, average.tensors["weight"])
    assert torch.equal(model.weight, own)


@pytest.mark.parametrize(
    ("schedule", "step", "wanted"),
    [
        (Schedule(kind="constant", warmup_steps=10), 0, 0.1),
        (Schedule(kind="constant", warmup_steps=10), 9, 1.0),
        (Schedule(kind="constant", warmup_steps=10), 99, 1.0),
        (Schedule(kind="warmdown", warmup_steps=10, warmdown_fraction=0.3), 70, 1.0),
        (Schedule(kind="warmdown", warmup_steps=10, warmdown_fraction=0.3), 85, 0.5),
        (Schedule(kind="warmdown", warmup_steps=10, warmdown_fraction=0.3), 99, 1 / 30),
        (Schedule(kind="cosine", warmup_steps=0), 0, 1.0),
        (Schedule(kind="cosine", warmup_steps=0), 50, 0.5),
        (Schedule(kind="cosine", warmup_steps=20), 60, 0.5),
        (Schedule(kind="warmdown", warmup_steps=0, warmdown_fraction=0.0), 99, 1.0),
    ],
)
def test_the_schedule(schedule: Schedule, step: int, wanted: float) -> None:
    assert rate_factor(step, 100, schedule) == pytest.approx(wanted)
