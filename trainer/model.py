"""The denoiser: a transformer whose image tokens attend to themselves and to text, in one file.

Parameter names, shapes and arithmetic are those of diffusers' `PRXTransformer2DModel`, so that export is a copy; the tests hold the two
together. There is no parallelism, precision or compilation here: `parallel.py` applies those from outside.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dayrun.recipe import Model as ModelFields
from dayrun.recipe import Routing

TIME_WIDTH = 256
TIME_FACTOR = 1000.0
PERIOD = 10_000
EPSILON = 1e-6


@dataclass(frozen=True)
class Route:
    """Which image tokens go through the blocks `start` … `end`, both inclusive; the others skip them. Drawn outside the model
    (`routing.py`), so that a forward that is done again, to recompute activations, sees the same tokens."""

    kept: Tensor  # (b, k) int64, 1 ≤ k ≤ tokens: places in the patch grid, row by row; ascending and different within a row
    start: int
    end: int
    detach: bool = False
    """No gradient through the tokens that skip."""

    def kept_in(self, block: int) -> Tensor | None:
        """The places whose tokens block `block` sees, (b, k); None: all of them."""
        return self.kept if self.start <= block <= self.end else None


def gather_tokens(tokens: Tensor, kept: Tensor) -> Tensor:
    """The tokens at `kept`: (b, n, width), (b, k) → (b, k, width)."""
    return tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[-1]))


def put_back(tokens: Tensor, kept: Tensor, into: Tensor) -> Tensor:
    """`into` (b, n, width) with its tokens at `kept` (b, k) replaced by `tokens` (b, k, width)."""
    return into.scatter(1, kept[..., None].expand_as(tokens), tokens)


def sinusoid(values: Tensor, width: int, factor: float = 1.0) -> Tensor:
    """Sinusoidal embedding of factor·values, cosines first: (n,) of any float dtype → (n, width) float32.

    The factor comes last, as in diffusers: at angles of 1,000 another order of products is off by 1e-4. Source: Vaswani et al. 2017, §3.5.
    """
    half = width // 2
    frequencies = torch.exp(-math.log(PERIOD) * torch.arange(half, dtype=torch.float32, device=values.device) / half)
    angles = factor * (values.float()[:, None] * frequencies)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


@lru_cache(maxsize=64)  # one entry an aspect bucket; building it costs more than a small model's attention
def rotary_table(rows: int, columns: int, axes: tuple[int, int], theta: int, device: torch.device) -> Tensor:
    """Rotary factors of a grid of patches: (2, rows·columns, head width) float32, cosines and signed sines for interleaved pairs.

    Computed in float64: at θ = 10,000 float32 angles lose the last digits that parity with the published weights needs.
    Source: Su et al. 2021, eq. 34, one axis after the other.
    """
    places = torch.stack(
        torch.meshgrid(
            torch.arange(rows, device=device, dtype=torch.float64),
            torch.arange(columns, device=device, dtype=torch.float64),
            indexing="ij",
        ),
        dim=-1,
    ).reshape(-1, 2)
    angles = torch.cat(
        [
            places[:, i, None] / theta ** (torch.arange(0, width, 2, dtype=torch.float64, device=device) / width)
            for i, width in enumerate(axes)
        ],
        dim=-1,
    )
    cosines = angles.cos().repeat_interleave(2, dim=-1)
    sines = torch.stack([-angles.sin(), angles.sin()], dim=-1).flatten(-2)
    return torch.stack([cosines, sines]).float()


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turns interleaved pairs of the last dimension: x (b, heads, tokens, head width), table from `rotary_table` or its rows of each
    image, (2, b, 1, tokens, head width); float32 inside."""
    swapped = x.float().unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return (x.float() * table[0] + swapped * table[1]).type_as(x)


def patchify(images: Tensor, patch: int) -> Tensor:
    """(batch, channels, height, width) → (batch, tokens, channels·patch²); inside a token the order is channel, row, column."""
    b, c, h, w = images.shape
    x = images.reshape(b, c, h // patch, patch, w // patch, patch)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(b, (h // patch) * (w // patch), c * patch * patch)


def unpatchify(tokens: Tensor, patch: int, height: int, width: int) -> Tensor:
    """The inverse of `patchify`."""
    b, _, d = tokens.shape
    c = d // (patch * patch)
    x = tokens.reshape(b, height // patch, width // patch, c, patch, patch)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(b, c, height, width)


class Embedder(nn.Module):
    """Linear → SiLU → Linear."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.in_layer = nn.Linear(inputs, width)
        self.out_layer = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_layer(F.silu(self.in_layer(x)))


class ResolutionEmbedder(nn.Module):
    """Height and width in cells, 128 sinusoids each, to the width of the time embedding (`vec` conditioning)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = Embedder(TIME_WIDTH, width)

    def forward(self, height: Tensor, width: Tensor, dtype: torch.dtype) -> Tensor:
        return self.mlp(torch.cat([sinusoid(height, TIME_WIDTH // 2), sinusoid(width, TIME_WIDTH // 2)], dim=-1).to(dtype))


class ResolutionTokens(nn.Module):
    """Height and width in cells, 128 sinusoids each, to one more text token each (`token` conditioning)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.h_embedder = Embedder(TIME_WIDTH // 2, width)
        self.w_embedder = Embedder(TIME_WIDTH // 2, width)

    def forward(self, height: Tensor, width: Tensor, dtype: torch.dtype) -> Tensor:
        """(b,), (b,) → (b, 2, width)."""
        tall, wide = sinusoid(height, TIME_WIDTH // 2).to(dtype), sinusoid(width, TIME_WIDTH // 2).to(dtype)
        return torch.stack([self.h_embedder(tall), self.w_embedder(wide)], dim=1)


class Modulation(nn.Module):
    """Six vectors from the time embedding: shift, scale, gate for attention and for the MLP (Peebles & Xie 2022, adaLN-zero)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lin = nn.Linear(width, 6 * width)

    def forward(self, activated: Tensor) -> tuple[Tensor, ...]:
        return self.lin(activated)[:, None, :].chunk(6, dim=-1)


class HeadNorm(nn.Module):
    """RMSNorm over a head's width, in float32 whatever the compute dtype."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), EPSILON).type_as(x)


class Attention(nn.Module):
    """Queries from the image; keys and values from [text, image]. Text is projected anew in every block and never updated."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.img_qkv_proj = nn.Linear(width, 3 * width, bias=False)
        self.norm_q = HeadNorm(width // heads)
        self.norm_k = HeadNorm(width // heads)
        self.txt_kv_proj = nn.Linear(width, 2 * width, bias=False)
        self.norm_added_k = HeadNorm(width // heads)
        self.to_out = nn.ModuleList([nn.Linear(width, width, bias=False)])  # a list, since diffusers keeps a dropout beside it

    def forward(self, image: Tensor, text: Tensor, rotary: Tensor, mask: Tensor | None) -> Tensor:
        """image (b, n, width), text (b, m, width), mask (b, 1, 1, m + n) bool or None → (b, n, width)."""
        q, k, v = self.img_qkv_proj(image).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        text_k, text_v = self.txt_kv_proj(text).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = rotate(self.norm_q(q), rotary), rotate(self.norm_k(k), rotary)
        k = torch.cat([self.norm_added_k(text_k).type_as(k), k], dim=2)
        v = torch.cat([text_v, v], dim=2)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.to_out[0](mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        inner = int(width * mlp_ratio)
        self.attention = Attention(width, heads)
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)
        self.modulation = Modulation(width)

    def forward(self, image: Tensor, text: Tensor, activated: Tensor, rotary: Tensor, mask: Tensor | None) -> Tensor:
        """image (b, n, width), text (b, m, width), activated = SiLU of the time embedding (b, width) → (b, n, width)."""
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(activated)
        x = (1 + scale_a) * F.layer_norm(image, image.shape[-1:], eps=EPSILON) + shift_a
        image = image + gate_a * self.attention(x, text, rotary, mask)
        x = (1 + scale_m) * F.layer_norm(image, image.shape[-1:], eps=EPSILON) + shift_m
        return image + gate_m * self.down_proj(F.gelu(self.gate_proj(x), approximate="tanh") * self.up_proj(x))


class Sprint(nn.Module):
    """SPRINT's way back: what a block left out is filled with a learned token, and all is fused with what was there before
    (Park et al. 2025, §3.2). The fusion is part of the model wherever tokens skip or not, at sampling too."""

    def __init__(self, width: int, start: int, end: int) -> None:
        super().__init__()
        self.start, self.end = start, end
        self.mask = nn.Parameter(torch.zeros(width))
        self.fuse = nn.Linear(2 * width, width)

    def initialise(self) -> None:
        """The mean of before and after: while blocks still pass tokens through, the fusion does too, and both sides get a gradient."""
        nn.init.zeros_(self.mask)
        nn.init.zeros_(self.fuse.bias)
        with torch.no_grad():
            self.fuse.weight.copy_(torch.eye(self.fuse.out_features).repeat(1, 2) / 2)

    def forward(self, before: Tensor, after: Tensor, kept: Tensor | None) -> Tensor:
        """before (b, n, width), after (b, n or k, width), kept (b, k) or None where nothing skipped → (b, n, width)."""
        if kept is not None:
            after = put_back(after, kept, self.mask.to(after.dtype).expand_as(before))
        return self.fuse(torch.cat([before, after], dim=-1))


class FinalLayer(nn.Module):
    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(time)[:, None, :].chunk(2, dim=-1)
        return self.linear((1 + scale) * F.layer_norm(x, x.shape[-1:], eps=EPSILON) + shift)


class Denoiser(nn.Module):
    """Noisy pictures, their noise levels and their captions' states in; the recipe's prediction (x̂0 or velocity) out."""

    def __init__(self, fields: ModelFields, sprint: Routing | None = None) -> None:
        """`sprint`: the recipe's SPRINT routing, if any of its stages has one; its weights are part of the model from the first on."""
        super().__init__()
        self.fields = fields
        width, patch = fields.hidden_size, fields.in_channels * fields.patch_size**2
        if fields.bottleneck_size is None:
            self.img_in: nn.Module = nn.Linear(patch, width)
        else:
            self.img_in = nn.Sequential(nn.Linear(patch, fields.bottleneck_size), nn.Linear(fields.bottleneck_size, width))
        self.time_in = Embedder(TIME_WIDTH, width)
        self.txt_in = nn.Linear(fields.text_width, width)
        self.resolution_embedder: nn.Module | None = None
        if fields.resolution_conditioning != "none":
            self.resolution_embedder = (ResolutionEmbedder if fields.resolution_conditioning == "vec" else ResolutionTokens)(width)
        self.blocks = nn.ModuleList([Block(width, fields.heads, fields.mlp_ratio) for _ in range(fields.depth)])
        self.final_layer = FinalLayer(width, patch)
        self.sprint = Sprint(width, sprint.start, sprint.end) if sprint else None
        self.initialise()

    def initialise(self) -> None:
        """Xavier for the projections; zero for modulation and for the last layer, so that an untrained model outputs zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        zeroed = [block.modulation.lin for block in self.blocks if isinstance(block, Block)]
        for linear in [*zeroed, self.final_layer.linear, self.final_layer.adaLN_modulation[1]]:
            nn.init.zeros_(linear.weight)  # pyright: ignore[reportArgumentType]
            nn.init.zeros_(linear.bias)  # pyright: ignore[reportArgumentType]
        if self.sprint is not None:
            self.sprint.initialise()

    def forward(
        self,
        noisy: Tensor,
        time: Tensor,
        text: Tensor,
        text_mask: Tensor | None = None,
        route: Route | None = None,
        tap: int | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """noisy (b, channels, h, w), time (b,) in [0, 1], text (b, m, text_width), text_mask (b, m) bool → like `noisy`.

        With `tap` also the output of that block: (b, tokens it saw, width), of `route.kept_in(tap)` where tokens skip it.
        """
        _, _, height, width = noisy.shape
        image = self.img_in(patchify(noisy, self.fields.patch_size))
        moment, words, text_mask = self.conditions(time, text, text_mask, height, width, image.dtype)
        activated = F.silu(moment)
        rotary = self.rotary(height, width, noisy.device)
        outside = inside = rotary, keys_mask(text_mask, image.shape[1])
        if route is not None:
            # rotary rows travel with their tokens: (2, b, 1, k, head width)
            inside = rotary[:, route.kept].unsqueeze(2), keys_mask(text_mask, route.kept.shape[1])
        span, before, features = self.span(route), image, None
        for index, block in enumerate(self.blocks):
            if index == span.start:
                before = image
                image = image if route is None else gather_tokens(image, route.kept)
            image = block(image, words, activated, *(inside if index in span else outside))
            if index == tap:
                features = image
            if index == span.stop - 1:
                image = self.restored(before, image, route)
        output = unpatchify(self.final_layer(image, moment), self.fields.patch_size, height, width)
        return output if features is None else (output, features)

    def conditions(
        self, time: Tensor, text: Tensor, text_mask: Tensor | None, height: int, width: int, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The moment (b, hidden), text tokens (b, m, hidden) and which of them are real, with the size of the picture in one of the two."""
        moment, words = self.time_in(sinusoid(time, TIME_WIDTH, TIME_FACTOR).to(dtype)), self.txt_in(text)
        if self.resolution_embedder is not None:
            one = torch.ones(len(text), device=text.device)
            told = self.resolution_embedder(one * height, one * width, dtype)
            if self.fields.resolution_conditioning == "vec":
                moment = moment + told
            else:
                words = torch.cat([told, words], dim=1)
                text_mask = None if text_mask is None else F.pad(text_mask.bool(), (told.shape[1], 0), value=True)
        return moment, words, text_mask

    def rotary(self, height: int, width: int, device: torch.device) -> Tensor:
        patch, (rows, columns) = self.fields.patch_size, self.fields.rotary_axes
        return rotary_table(height // patch, width // patch, (rows, columns), self.fields.rotary_theta, device)

    def span(self, route: Route | None) -> range:
        """The blocks that tokens may skip; SPRINT's fusion follows them whether tokens do or not."""
        own = None if self.sprint is None else range(self.sprint.start, self.sprint.end + 1)
        routed = None if route is None else range(route.start, route.end + 1)
        if own and routed and own != routed:
            raise ValueError(f"tokens skip blocks {routed}, and SPRINT's fusion is around {own}")
        return own or routed or range(-1, -1)

    def restored(self, before: Tensor, after: Tensor, route: Route | None) -> Tensor:
        """All tokens after the last block that some skip: put back in their places unchanged (TREAD), or by SPRINT's fusion."""
        if route is not None and route.detach:  # the same values, with a gradient through the kept ones alone
            before = put_back(gather_tokens(before, route.kept), route.kept, before.detach())
        if self.sprint is not None:
            return self.sprint(before, after, route.kept if route is not None else None)
        return after if route is None else put_back(after, route.kept, before)


def keys_mask(text_mask: Tensor | None, image_tokens: int) -> Tensor | None:
    """Which keys are real, of [text, image]: (b, m) bool → (b, 1, 1, m + image_tokens)."""
    return None if text_mask is None else F.pad(text_mask.bool(), (0, image_tokens), value=True)[:, None, None, :]
