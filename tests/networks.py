"""Tiny random networks of the real classes, saved as their published checkpoints are: for the real loaders."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
)

from trainer.objective.perceptual import LEVELS

WIDTHS = (4, 6, 8, 8, 6)
"""Of a VGG16 thin enough for a test."""


def vgg_weights(seed: int = 0, widths: tuple[int, ...] = WIDTHS) -> dict[str, Tensor]:
    """VGG16 in torchvision's names and LPIPS' heads, random."""
    generator = torch.Generator().manual_seed(seed)
    weights, before = {}, 3
    for level, numbers in enumerate(LEVELS):
        for number in numbers:
            width = widths[level]
            spread = (2 / (9 * before)) ** 0.5
            weights[f"features.{number}.weight"] = torch.randn(width, before, 3, 3, generator=generator) * spread
            weights[f"features.{number}.bias"] = torch.randn(width, generator=generator) * 0.1
            before = width
        weights[f"lin{level}.model.1.weight"] = torch.rand(1, before, 1, 1, generator=generator)
    return weights


def write_vgg(folder: Path, widths: tuple[int, ...] = WIDTHS) -> Path:
    """In two files, as they are published: the network by torchvision, the heads by lpips."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = vgg_weights(widths=widths)
    save_file({key: weight for key, weight in weights.items() if key.startswith("features")}, folder / "vgg16.safetensors")
    torch.save({key: weight for key, weight in weights.items() if key.startswith("lin")}, folder / "heads.pth")
    return folder


VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def write_dinov2(folder: Path) -> Path:
    """Patches of 14 pixels and 4 registers, as P-DINO's."""
    torch.manual_seed(1)
    config = Dinov2WithRegistersConfig(**VIT, patch_size=14, image_size=28, mlp_ratio=2, initializer_range=0.2)
    Dinov2WithRegistersModel(config).save_pretrained(folder)
    return folder


def write_large_dinov2(folder: Path) -> Path:
    """As DINO-MMD's."""
    torch.manual_seed(4)
    config = Dinov2WithRegistersConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14, num_register_tokens=4
    )
    Dinov2WithRegistersModel(config).save_pretrained(folder)
    return folder


def write_clip(folder: Path) -> Path:
    """A model of two towers and a tokenizer that knows letters and digits."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": 300, "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    vision = {**sizes, "image_size": 16, "patch_size": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + list("0123456789")
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1} | {token: 2 + i for i, token in enumerate(tokens)}
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    return folder


def write_plain_dinov2(folder: Path) -> Path:
    """Without registers."""
    torch.manual_seed(3)
    Dinov2Model(Dinov2Config(**VIT, patch_size=14, image_size=28, mlp_ratio=2)).save_pretrained(folder)
    return folder


def write_dinov3(folder: Path, patch: int = 4) -> Path:
    torch.manual_seed(2)
    config = DINOv3ViTConfig(**VIT, patch_size=patch, image_size=16, intermediate_size=32, num_register_tokens=4, initializer_range=0.2)
    DINOv3ViTModel(config).save_pretrained(folder)
    return folder


def change(file: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    """Edit the weights of a safetensors file in place."""
    weights = load_file(file)
    edit(weights)
    save_file({key: weight.contiguous() for key, weight in weights.items()}, file, metadata={"format": "pt"})
