"""Representation alignment: features of one block against a frozen teacher's. REPA (Yu et al. 2024) and iREPA (Singh et al. 2025).

The losses are functions of tensors. The projectors learn beside the denoiser, as its submodule `projector`: stepped by Adam, saved in
checkpoints, never exported.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from dayrun.recipe import Recipe
from trainer.model import gather_tokens, rotary_table, rotate

PROJECTOR = "projector."
"""Beginning of the names of the projector's weights in the model."""
HEADS = 4
THETA = 10_000


def alignment(projected: Tensor, teacher: Tensor, kept: Tensor | None = None) -> Tensor:
    """Minus the mean cosine between projected features and the teacher's, a float32 scalar. Source: Yu et al. 2024, eq. 8.

    projected: (n, tokens, width); teacher: (n, grid, width). `kept` (n, tokens): places in the grid of the tokens that passed the block,
    where routing sent others around it; only they take part.
    """
    if kept is not None:
        teacher = gather_tokens(teacher, kept)
    return -F.cosine_similarity(projected.float(), teacher.float(), dim=-1).mean()


def spatially_normalised(features: Tensor) -> Tensor:
    """A teacher's (n, grid, width) features with what all places share taken off, over the deviation between places; float32.

    f ← f − γ·mean over the grid, then f ← f / (deviation over the grid + 1e-6). As PRX has it, γ is each token's mean over its channels
    (Singh et al. 2025 have a constant).
    """
    features = features.float()
    centred = features - features.mean(dim=2, keepdim=True) * features.mean(dim=1, keepdim=True)
    return centred / (centred.std(dim=1, keepdim=True) + 1e-6)


class MlpProjector(nn.Module):
    """REPA's: three linear layers with SiLU between them, as wide as the teacher."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, features: Tensor, kept: Tensor | None, grid: tuple[int, int]) -> Tensor:
        """(n, tokens, inputs) → (n, tokens, width); the other arguments are for projectors that know places."""
        return self.layers(features)


class ConvProjector(nn.Module):
    """iREPA's: a 3 × 3 convolution over the grid of tokens. It needs all of them."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(inputs, width, 3, padding=1)

    def forward(self, features: Tensor, kept: Tensor | None, grid: tuple[int, int]) -> Tensor:
        """(n, rows·columns, inputs), grid (rows, columns) → (n, rows·columns, width). Raises ValueError when tokens were routed around."""
        if kept is not None:
            raise ValueError("a convolution needs every token of the grid; under routing the attention projector takes its place")
        return self.layer(features.transpose(1, 2).unflatten(2, grid)).flatten(2).transpose(1, 2)


class AttentionProjector(nn.Module):
    """iREPA's under routing: one self-attention of 4 heads over the tokens that passed, turned by their places, then a linear layer."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        head = inputs // HEADS
        first = head // 4 * 2  # even, and half of the head where that is possible
        self.axes = (first, head - first)
        self.qkv = nn.Linear(inputs, 3 * inputs, bias=False)
        self.out = nn.Linear(inputs, inputs, bias=False)
        self.last = nn.Linear(inputs, width)

    def forward(self, features: Tensor, kept: Tensor | None, grid: tuple[int, int]) -> Tensor:
        """(n, tokens, inputs), kept (n, tokens) places in the grid or None for all of it → (n, tokens, width)."""
        table = rotary_table(*grid, self.axes, THETA, features.device)
        if kept is not None:
            table = table[:, kept][:, :, None]  # (2, n, 1, tokens, head)
        q, k, v = self.qkv(features).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(rotate(q, table), rotate(k, table), v)
        return self.last(self.out(mixed.transpose(1, 2).flatten(2)))


def is_routed(recipe: Recipe) -> bool:
    """Whether tokens go around the aligned block, in a recipe as one stage sees it."""
    part, routing = recipe.representation, recipe.routing
    return part is not None and routing is not None and routing.start <= part.block <= routing.end


def projector(stages: list[Recipe], width: int) -> nn.Module:
    """The one projector of a run to a teacher `width` wide; `stages` are the recipes of all stages that align.

    One that knows attention in any stage is attention in all: it must keep what it has learnt.
    """
    inputs, part = stages[0].model.hidden_size, stages[0].representation
    assert part is not None
    if part.kind == "repa":
        return MlpProjector(inputs, width)
    return AttentionProjector(inputs, width) if any(map(is_routed, stages)) else ConvProjector(inputs, width)


def hold(module: nn.Module | None, held: bool) -> None:
    """While held, a module's weights have no gradients, so that no optimizer moves them by momentum or decay; its state stays as it is."""
    for weight in module.parameters() if module else ():
        own = weight.__dict__.pop("held_gradient", None)
        if held:
            weight.held_gradient = own if own is not None else weight.grad  # pyright: ignore[reportAttributeAccessIssue]
            weight.grad = None
        elif own is not None:
            weight.grad = own.zero_()


def token_grid(picture: Tensor, patch: int) -> tuple[int, int]:
    """Rows and columns of tokens of (n, c, h, w)."""
    return picture.shape[-2] // patch, picture.shape[-1] // patch
