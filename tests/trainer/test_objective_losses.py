"""Perceptual losses and representation alignment as functions of tensors, each against a formula or a library of others."""

import importlib
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Dinov2WithRegistersModel

from dayrun.recipe import Hardware, PDino
from tests.networks import vgg_weights, write_dinov2
from trainer.model import gather_tokens
from trainer.objective.parts import seen_by_dino
from trainer.objective.perceptual import SCALE, SHIFT, Vgg16, lpips, mean_below, p_dino
from trainer.objective.pictures import IMAGENET_DEVIATION, IMAGENET_MEAN, crop_places, cropped, resized
from trainer.objective.representation import AttentionProjector, ConvProjector, MlpProjector, alignment, hold, spatially_normalised
from trainer.objective.teachers import load_vit
from trainer.trained import alone

CPU = Hardware(accelerator="cpu", threads_per_process=1, compile=False)


def pictures(count: int, *size: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# ---- how pictures reach a network ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(16, 16), (7, 24), (40, 31), (32, 20)])
def test_resizing_by_products_is_torchs_bilinear_forwards_and_backwards(size: tuple[int, int], antialias: bool):
    ours, theirs = (pictures(2, 32, 20).requires_grad_() for _ in range(2))
    found = resized(ours, *size, antialias)
    wanted = F.interpolate(theirs, size=size, mode="bilinear", antialias=antialias)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    slope = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    found.backward(slope)
    wanted.backward(slope)
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=0)


def test_a_crop_follows_from_the_sample_and_not_from_its_batch():
    together = crop_places(3, [10, 11, 12, 13], 1, 40, 24, 16)
    assert together == [crop_places(3, [position], 1, 40, 24, 16)[0] for position in (10, 11, 12, 13)]
    assert together != crop_places(3, [10, 11, 12, 13], 2, 40, 24, 16)
    assert together != crop_places(4, [10, 11, 12, 13], 1, 40, 24, 16)
    many = crop_places(0, list(range(300)), 1, 18, 20, 16)
    assert {top for top, _ in many} == {0, 1, 2}
    assert {left for _, left in many} == {0, 1, 2, 3, 4}
    x = pictures(4, 40, 24)
    for square, picture, (top, left) in zip(cropped(x, together, 16), x, together, strict=True):
        assert torch.equal(square, picture[:, top : top + 16, left : left + 16])


# ---- perceptual ----------------------------------------------------------------------------------------------------------------------


def lpips_by_formula(weights: dict[str, Tensor], a: Tensor, b: Tensor) -> Tensor:
    """LPIPS over torchvision's `features` written out as the sequence it is, with no code of ours."""
    plan = "crcrpcrcrpcrcrcrpcrcrcrpcrcrcr"  # convolution, ReLU, pool
    layers = []
    for number, kind in enumerate(plan):
        if kind == "c":
            weight = weights[f"features.{number}.weight"]
            layer = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
            layer.load_state_dict({"weight": weight, "bias": weights[f"features.{number}.bias"]})
        layers.append(layer if kind == "c" else nn.ReLU() if kind == "r" else nn.MaxPool2d(2, 2))
    taps, found = (3, 8, 15, 22, 29), []
    for x in (a, b):
        x = (x - torch.tensor(SHIFT).view(1, 3, 1, 1)) / torch.tensor(SCALE).view(1, 3, 1, 1)
        seen = []
        for number, layer in enumerate(layers):
            x = layer(x)
            if number in taps:
                seen.append(x / (x.pow(2).sum(1, keepdim=True).sqrt() + 1e-10))
        found.append(seen)
    heads = [weights[f"lin{i}.model.1.weight"] for i in range(5)]
    return sum(F.conv2d((x - y) ** 2, head).mean(dim=(2, 3)) for x, y, head in zip(*found, heads, strict=True)).flatten()


def test_lpips_is_its_formula_and_teaches_the_prediction_alone():
    weights = vgg_weights()
    network = Vgg16(weights).requires_grad_(False)
    predicted, clean = pictures(3, 32, 48, seed=1).requires_grad_(), pictures(3, 32, 48, seed=2).requires_grad_()
    found = lpips(network, predicted, clean)
    torch.testing.assert_close(found, lpips_by_formula(weights, predicted, clean), atol=1e-5, rtol=1e-5)
    assert (found > 0.01).all()
    found.sum().backward()
    assert clean.grad is None
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()
    assert predicted.grad.abs().max() > 0
    assert lpips(network, clean, clean).abs().max() == 0


def test_lpips_of_features_that_are_all_zero_has_a_finite_slope():
    weights = {key: -weight.abs() if key.endswith("bias") else weight * 0 for key, weight in vgg_weights().items()}
    weights |= {f"lin{i}.model.1.weight": torch.ones(1, width, 1, 1) for i, width in enumerate((4, 6, 8, 8, 6))}
    predicted = pictures(1, 16, 16).requires_grad_()
    lpips(Vgg16(weights).requires_grad_(False), predicted, pictures(1, 16, 16, seed=1)).sum().backward()
    assert predicted.grad is not None
    assert predicted.grad.abs().max() == 0


def test_lpips_equals_the_lpips_package():
    package = importlib.import_module("lpips")  # by name: what is tested here has that name, too
    torch.manual_seed(0)
    theirs = package.LPIPS(pretrained=False, net="vgg", pnet_rand=True, verbose=False).eval()
    weights = {}
    for i in range(5):
        head = getattr(theirs, f"lin{i}").model[1]
        nn.init.uniform_(head.weight)
        weights[f"lin{i}.model.1.weight"] = head.weight.detach()
        for number, layer in getattr(theirs.net, f"slice{i + 1}").named_children():
            weights |= {f"features.{number}.{name}": weight.detach() for name, weight in layer.named_parameters()}
    network = Vgg16(weights).requires_grad_(False)
    ours, same = (pictures(2, 48, 32, seed=1).requires_grad_() for _ in range(2))
    clean = pictures(2, 48, 32, seed=2)
    found, wanted = lpips(network, ours, clean), theirs(same, clean).flatten()
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    found.sum().backward()
    wanted.sum().backward()
    torch.testing.assert_close(ours.grad, same.grad, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("antialias", [True, False])
def test_p_dino_is_its_formula_on_the_patches_of_transformers_model(tmp_path: Path, antialias: bool):
    fields = PDino(source=str(write_dinov2(tmp_path)), pixels=28, antialias=antialias)
    predicted, clean = pictures(2, 48, 40, seed=1) * 1.2, pictures(2, 48, 40, seed=2)
    with alone(CPU) as world:
        network = load_vit(fields.source, "/perceptual/dino/source", CPU, world)
    found = p_dino(network.features(seen_by_dino(predicted, fields)), network.features(seen_by_dino(clean, fields)))
    model, patches = Dinov2WithRegistersModel.from_pretrained(tmp_path).eval(), []
    for x in (predicted, clean):
        x = F.interpolate(x, size=(28, 28), mode="bilinear", antialias=antialias)
        x = (((x + 1) / 2).clamp(0, 1) - torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)) / torch.tensor(IMAGENET_DEVIATION).view(1, 3, 1, 1)
        patches.append(model(pixel_values=x).last_hidden_state[:, 5:])
    assert patches[0].shape == (2, 4, 16)
    a, b = patches
    cosine = (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))
    torch.testing.assert_close(found, (1 - cosine).mean(dim=1), atol=1e-5, rtol=1e-5)
    assert (found > 1e-3).all()


def test_only_low_noise_counts_and_the_rest_as_nothing():
    distances, times = torch.tensor([1.0, 2.0, 4.0, 8.0]), torch.tensor([0.1, 0.6, 0.3, 0.5])
    assert mean_below(distances, times, 0.5) == (1 + 4) / 4
    assert mean_below(distances, times, 1.0) == 15 / 4
    assert mean_below(distances, times, 0.0) == 0


# ---- representation ------------------------------------------------------------------------------------------------------------------


def some_kept(count: int, grid: int, kept: int) -> Tensor:
    return torch.stack([torch.randperm(grid, generator=torch.Generator().manual_seed(i))[:kept].sort().values for i in range(count)])


def test_alignment_is_minus_the_mean_cosine():
    a, b = torch.tensor([[[3.0, 4.0], [1.0, 0.0]]]), torch.tensor([[[4.0, 3.0], [0.0, 2.0]]])
    assert alignment(a, b) == pytest.approx(-(24 / 25 + 0) / 2)


def test_alignment_under_routing_is_alignment_on_the_gathered_tokens():
    torch.manual_seed(0)
    ours, teacher, kept = torch.randn(3, 12, 8), torch.randn(3, 12, 8), some_kept(3, 12, 5)
    routed = alignment(gather_tokens(ours, kept), teacher, kept)
    assert routed == alignment(gather_tokens(ours, kept), gather_tokens(teacher, kept))
    by_hand = [F.cosine_similarity(ours[i, t], teacher[i, t], dim=0) for i in range(3) for t in kept[i].tolist()]
    torch.testing.assert_close(routed, -torch.stack(by_hand).mean())


def test_spatial_normalisation_is_its_formula():
    x = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0)) + 1
    for i in range(2):
        for c in range(4):
            centred = [x[i, t, c] - x[i, t].mean() * x[i, :, c].mean() for t in range(6)]
            mean = sum(centred) / 6
            deviation = (sum((v - mean) ** 2 for v in centred) / 5) ** 0.5
            torch.testing.assert_close(spatially_normalised(x)[i, :, c], torch.stack(centred) / (deviation + 1e-6))


@pytest.mark.parametrize("kind", [MlpProjector, ConvProjector, AttentionProjector])
def test_a_projector_gives_every_token_the_teachers_width(kind: type[nn.Module]):
    torch.manual_seed(0)
    assert kind(16, 10)(torch.randn(2, 12, 16), None, (3, 4)).shape == (2, 12, 10)


def test_a_convolution_sees_the_grid_row_by_row_and_refuses_a_part_of_it():
    torch.manual_seed(0)
    layer, x = ConvProjector(8, 5), torch.randn(1, 12, 8)
    found = layer(x, None, (3, 4)).unflatten(1, (3, 4))
    window = F.pad(x.unflatten(1, (3, 4)), (0, 0, 1, 1, 1, 1))[0, 1:4, 2:5]  # around row 1, column 2
    wanted = torch.einsum("hwc,ochw->o", window, layer.layer.weight) + layer.layer.bias
    torch.testing.assert_close(found[0, 1, 2], wanted, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="attention projector"):
        layer(x, torch.arange(12)[None], (3, 4))


def test_the_attention_projector_knows_the_places_of_the_tokens_that_passed():
    torch.manual_seed(0)
    layer, x = AttentionProjector(16, 6), torch.randn(2, 12, 16)
    everyone = torch.arange(12).expand(2, 12)
    torch.testing.assert_close(layer(x, everyone, (3, 4)), layer(x, None, (3, 4)))
    order = torch.randperm(12)
    torch.testing.assert_close(layer(x[:, order], everyone[:, order], (3, 4)), layer(x, None, (3, 4))[:, order], atol=1e-5, rtol=1e-5)
    kept = some_kept(2, 12, 5)
    assert layer(gather_tokens(x, kept), kept, (3, 4)).shape == (2, 5, 6)
    assert not torch.allclose(layer(x, everyone[:, order], (3, 4)), layer(x, None, (3, 4)), atol=1e-4)


def test_a_held_module_is_not_moved_by_its_optimizer_and_goes_on_after_that():
    torch.manual_seed(0)
    layer = nn.Linear(2, 2)
    buffer = torch.zeros(6)
    layer.weight.grad, layer.bias.grad = buffer[:4].view(2, 2), buffer[4:]
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.1)

    def step() -> Tensor:
        optimizer.step()
        return torch.cat([weight.detach().flatten().clone() for weight in layer.parameters()])

    buffer.fill_(1.0)
    moved = step()
    hold(layer, held=True)
    hold(layer, held=True)  # twice is once: two stages in a row
    assert torch.equal(step(), moved)
    hold(layer, held=False)
    buffer.fill_(1.0)
    assert not torch.equal(step(), moved)
    hold(None, held=True)
