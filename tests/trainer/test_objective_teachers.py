"""Loading frozen networks: from folders and files, and never with a weight that was not there."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

from dayrun.recipe import Hardware
from dayrun.recipe_errors import RecipeErrors
from tests.networks import change, vgg_weights, write_dinov2, write_dinov3, write_plain_dinov2, write_vgg
from trainer.objective.perceptual import lpips
from trainer.objective.teachers import load_vgg, load_vit
from trainer.trained import alone

CPU = Hardware(accelerator="cpu", threads_per_process=1, compile=False)
AT = "/perceptual/lpips/source"


def vgg(source: Path | str):
    with alone(CPU) as world:
        return load_vgg(str(source), AT, CPU, world)


def vit(source: Path | str):
    with alone(CPU) as world:
        return load_vit(str(source), "/representation/teacher", CPU, world)


def refused(load, source: Path | str) -> str:
    with pytest.raises(RecipeErrors) as caught:
        load(source)
    (error,) = caught.value.errors
    assert error.at in (AT, "/representation/teacher")
    assert str(source) in str(error.value)
    return error.because


def test_vgg_comes_from_one_file_or_several_and_is_frozen(tmp_path: Path):
    torch.save(vgg_weights() | {"classifier.0.weight": torch.zeros(1), "classifier.6.bias": torch.zeros(1)}, tmp_path / "all.pth")
    several, one, folder = vgg(write_vgg(tmp_path / "several")), vgg(tmp_path / "all.pth"), vgg(tmp_path)
    x = torch.randn(1, 3, 16, 16)
    for other in (one, folder):
        assert all(torch.equal(a, b) for a, b in zip(several(x), other(x), strict=True))
    assert not several.training
    assert not any(weight.requires_grad for weight in several.parameters())


@pytest.mark.parametrize(
    ("edit", "because"),
    [
        (lambda w: w.pop("features.21.bias"), r"1 missing keys (features.21.bias)"),
        (lambda w: w.pop("lin3.model.1.weight"), r"1 missing keys (lin3.model.1.weight)"),
        (lambda w: w.update({"features.1.running_mean": torch.zeros(4)}), r"1 unexpected keys (features.1.running_mean)"),
        (lambda w: w.update({"features.29.weight": w.pop("features.28.weight")}), r"1 missing keys (features.28.weight)"),
        (lambda w: w.update({"features.5.weight": torch.zeros(6, 5, 3, 3)}), "features.5.weight is of shape [6, 5, 3, 3]"),
        (lambda w: w.update({"lin0.model.1.weight": torch.zeros(1, 9, 1, 1)}), "lin0.model.1.weight is of shape [1, 9, 1, 1]"),
    ],
    ids=["missing", "no head", "batch norm", "renamed", "shape", "head of another"],
)
def test_a_vgg_that_is_not_whole_is_refused_by_its_keys(tmp_path: Path, edit, because: str):
    weights = vgg_weights()
    edit(weights)
    save_file(weights, tmp_path / "vgg.safetensors")
    assert because in refused(vgg, tmp_path)


def test_places_that_hold_no_network_are_told(tmp_path: Path):
    assert "there is no such folder" in refused(vgg, tmp_path / "none")
    assert "there is no such folder" in refused(vit, "lpips-vgg16")
    assert "no weights there" in refused(vgg, tmp_path)
    (tmp_path / "vgg.pth").write_bytes(b"no tensors")
    assert "vgg.pth cannot be read" in refused(vgg, tmp_path)
    assert "config.json cannot be read" in refused(vit, tmp_path)
    write_vgg(tmp_path / "twice")
    save_file({"features.0.bias": torch.zeros(4)}, tmp_path / "twice" / "more.safetensors")
    assert "holds features.0.bias once more" in refused(vgg, tmp_path / "twice")


@pytest.mark.parametrize(("write", "prefix", "patch"), [(write_dinov2, 5, 14), (write_plain_dinov2, 1, 14), (write_dinov3, 5, 4)])
def test_a_vit_gives_the_features_of_its_patches_alone(tmp_path: Path, write, prefix: int, patch: int):
    network = vit(write(tmp_path))
    assert (network.prefix, network.patch, network.width) == (prefix, patch, 16)
    assert network.features(torch.rand(2, 3, 2 * patch, 3 * patch)).shape == (2, 6, 16)
    assert not network.model.training
    assert not any(weight.requires_grad for weight in network.model.parameters())


@pytest.mark.parametrize("write", [write_dinov2, write_dinov3])
@pytest.mark.parametrize(
    ("edit", "because"),
    [
        (lambda w, key: w.pop(key), "1 missing keys of {kind} ({key})"),
        (lambda w, key: w.update(stranger=torch.zeros(1)), "1 unexpected keys of {kind} (stranger)"),
        (lambda w, key: w.update({f"{key}_old": w.pop(key)}), "1 missing keys of {kind} ({key})"),
    ],
    ids=["missing", "unexpected", "renamed"],
)
def test_a_vit_that_is_not_whole_is_refused_by_its_keys(tmp_path: Path, write, edit, because: str):
    kind, key = {
        write_dinov2: ("Dinov2WithRegistersModel", "embeddings.register_tokens"),
        write_dinov3: ("DINOv3ViTModel", "embeddings.register_tokens"),
    }[write]
    change(write(tmp_path) / "model.safetensors", lambda weights: edit(weights, key))
    assert because.format(kind=kind, key=key) in refused(vit, tmp_path)


def test_a_weight_of_another_shape_is_refused(tmp_path: Path):
    change(write_dinov2(tmp_path) / "model.safetensors", lambda w: w.update({"embeddings.register_tokens": torch.zeros(1, 2, 16)}))
    assert "1 mismatched keys of Dinov2WithRegistersModel (embeddings.register_tokens torch.Size([1, 2, 16])" in refused(vit, tmp_path)


def test_a_network_that_has_no_patches_is_refused(tmp_path: Path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 8}
    BertModel(BertConfig(**sizes)).save_pretrained(tmp_path)
    assert "'bert'" in refused(vit, tmp_path)


@pytest.mark.long
def test_compiled_networks_give_what_eager_ones_do_forwards_and_backwards(tmp_path: Path):
    write_vgg(tmp_path / "vgg")
    write_dinov2(tmp_path / "dinov2")
    found = []
    for hardware in (CPU, CPU.model_copy(update={"compile": True})):
        with alone(hardware) as world:
            network = load_vgg(str(tmp_path / "vgg"), AT, hardware, world)
            seen = load_vit(str(tmp_path / "dinov2"), "/perceptual/dino/source", hardware, world)
        picture = torch.rand(1, 3, 28, 28, generator=torch.Generator().manual_seed(0)).requires_grad_()
        distance = lpips(network, picture, picture.detach() * 0.5).sum() + seen.features(picture).square().mean()
        distance.backward()
        found.append((distance.detach(), picture.grad))
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)
