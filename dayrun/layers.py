"""The denoiser as arithmetic: its parameters and the FLOP of its forward pass, layer by layer, from the recipe's model fields alone.

It mirrors `trainer/model.py` without importing it; a test counts the real model's parameters on torch's meta device and holds the two
together. Only matrix products are counted: norms, rotations and activations are less than a hundredth and bound by memory, not by products.
"""

import math
from typing import NamedTuple

from dayrun.quantities import Term, added, attention, linear, total
from dayrun.recipe import Model, Optimizer, Recipe, Routing

TIME_WIDTH = 256
RESOLUTION_TOKENS = 2
"""Text tokens that resolution conditioning `token` prepends."""


class Part(NamedTuple):
    """Layers that are alike, and how many times they come."""

    name: str
    terms: list[Term]
    times: int = 1
    in_blocks: bool = False

    @property
    def flops(self) -> float:
        return self.times * total(self.terms)

    @property
    def term(self) -> Term:
        inner = f"{total(self.terms):.4g}"
        return Term(self.name, f"{self.times} · {inner}" if self.times > 1 else inner, self.flops)


def inner_width(model: Model) -> int:
    return int(model.hidden_size * model.mlp_ratio)


def patch_width(model: Model) -> int:
    return model.in_channels * model.patch_size**2


def image_tokens(recipe: Recipe, pixels: int) -> int:
    """Patches of a square image; an aspect bucket has about as many."""
    return (pixels // (recipe.model.patch_size * (recipe.latents.downscale if recipe.latents else 1))) ** 2


def text_tokens(recipe: Recipe) -> int:
    return recipe.text.tokens + (RESOLUTION_TOKENS if recipe.model.resolution_conditioning == "token" else 0)


def kept_tokens(tokens: int, routing: Routing) -> int:
    """Image tokens that go through the routed blocks: at least one stays and at least one goes."""
    return tokens - max(1, math.floor(tokens * routing.rate)) if tokens > 1 else tokens


# ---- parameters ----------------------------------------------------------------------------------------------------------------------


def weights_and_biases(name: str, *layers: tuple[int, int]) -> Term:
    """Parameters of linear layers with biases."""
    return Term(name, " + ".join(f"({i:,} + 1) · {o:,}" for i, o in layers), sum((i + 1) * o for i, o in layers))


def block_matrices(model: Model) -> list[tuple[str, int, int]]:
    """(name, rows, columns) of every 2-D weight of a block, as torch stores it: what Muon orthogonalises."""
    h, inner = model.hidden_size, inner_width(model)
    return [
        ("img_qkv_proj", 3 * h, h),
        ("txt_kv_proj", 2 * h, h),
        ("to_out", h, h),
        ("gate_proj", inner, h),
        ("up_proj", inner, h),
        ("down_proj", h, inner),
        ("modulation", 6 * h, h),
    ]


def parameters(model: Model) -> list[Term]:
    """Parameters of the denoiser, exactly, by part."""
    h, patch, bottleneck = model.hidden_size, patch_width(model), model.bottleneck_size
    matrices = sum(rows * columns for _, rows, columns in block_matrices(model))
    vectors = 6 * h + 3 * (h // model.heads)  # modulation's bias; norm_q, norm_k, norm_added_k
    inputs = [(patch, h)] if bottleneck is None else [(patch, bottleneck), (bottleneck, h)]
    found = [
        weights_and_biases("patches in", *inputs),
        weights_and_biases("text in", (model.text_width, h)),
        weights_and_biases("time in", (TIME_WIDTH, h), (h, h)),
        Term("blocks", f"{model.depth} · ({matrices:,} in matrices + {vectors:,} in vectors)", model.depth * (matrices + vectors)),
        weights_and_biases("patches out", (h, patch), (h, 2 * h)),
    ]
    if model.resolution_conditioning == "vec":
        found.append(weights_and_biases("resolution in", (TIME_WIDTH, h), (h, h)))
    if model.resolution_conditioning == "token":
        found.append(weights_and_biases("resolution in", *[(TIME_WIDTH // 2, h), (h, h)] * RESOLUTION_TOKENS))
    return found


def routing_parameters(model: Model, routing: Routing | None) -> list[Term]:
    """What SPRINT learns beside the denoiser: the [MASK] token and the fusion of what was before and after. TREAD learns nothing."""
    if routing is None or routing.kind == "tread":
        return []
    h = model.hidden_size
    return [Term("SPRINT's fusion", f"(2 · {h:,} + 1) · {h:,} + {h:,}", (2 * h + 1) * h + h)]


def sprint_of(recipe: Recipe) -> Routing | None:
    """The first SPRINT routing of the recipe or of one of its stages: whether, and around which blocks, the model has a fusion."""
    stages = (recipe.at_stage(i).routing for i in range(len(recipe.stages)))
    return next((routing for routing in (recipe.routing, *stages) if routing is not None and routing.kind == "sprint"), None)


def muon_parameters(model: Model, optimizer: Optimizer) -> float:
    """Parameters that Muon steps; Adam steps the rest."""
    return model.depth * sum(rows * columns for _, rows, columns in block_matrices(model)) if optimizer.kind == "muon" else 0


# ---- FLOP of a forward pass ----------------------------------------------------------------------------------------------------------


def block(model: Model, image: int, text: int) -> list[Term]:
    """One block on `image` tokens: queries from the image, keys and values from [text, image]."""
    h, inner = model.hidden_size, inner_width(model)
    return [
        linear("queries, keys, values", image, h, 3 * h),
        linear("text keys, values", text, h, 2 * h),
        attention("attention", image, text + image, h),
        linear("attention out", image, h, h),
        linear("MLP in (gate, up)", image, h, 2 * inner),
        linear("MLP out", image, inner, h),
        linear("modulation", 1, h, 6 * h),
    ]


def forward(model: Model, image: int, text: int, routing: Routing | None = None) -> list[Part]:
    """FLOP of the denoiser on one image of `image` tokens and as many text tokens as `text_tokens` says.

    With routing only the kept tokens go through the routed blocks.
    """
    h, patch, bottleneck = model.hidden_size, patch_width(model), model.bottleneck_size
    inputs = [linear("patch → hidden", image, patch, h)]
    if bottleneck is not None:
        inputs = [linear("patch → bottleneck", image, patch, bottleneck), linear("bottleneck → hidden", image, bottleneck, h)]
    moment = [linear("sinusoid → hidden", 1, TIME_WIDTH, h), linear("hidden → hidden", 1, h, h)]
    embeddings = 2 if model.resolution_conditioning == "vec" else 1
    words = text - (RESOLUTION_TOKENS if model.resolution_conditioning == "token" else 0)
    side = [linear("sinusoid → hidden", 1, TIME_WIDTH // 2, h), linear("hidden → hidden", 1, h, h)]
    parts = [
        Part("patches in", inputs),
        Part("text in", [linear("text → hidden", words, model.text_width, h)]),
        Part("time in", moment, embeddings),
    ]
    if model.resolution_conditioning == "token":
        parts.append(Part("resolution in", side, RESOLUTION_TOKENS))
    if routing is None:
        parts.append(Part(f"blocks on {image:,} tokens", block(model, image, text), model.depth, in_blocks=True))
    else:
        kept, routed = kept_tokens(image, routing), routing.end - routing.start + 1
        if model.depth > routed:
            parts.append(Part(f"blocks on {image:,} tokens", block(model, image, text), model.depth - routed, in_blocks=True))
        parts.append(Part(f"routed blocks on {kept:,} of {image:,} tokens", block(model, kept, text), routed, in_blocks=True))
        if routing.kind == "sprint":
            parts.append(Part("SPRINT's fusion", [linear("before ‖ after → hidden", image, 2 * h, h)]))
    parts.append(Part("patches out", [linear("modulation", 1, h, 2 * h), linear("hidden → patch", image, h, patch)]))
    return parts


def guided_forward(recipe: Recipe, pixels: int, guidance: float) -> Term:
    """FLOP of one sampling step of one image: once without guidance; else twice, or once and once routed with self-guidance."""
    image, text = image_tokens(recipe, pixels), text_tokens(recipe)
    full = sum(part.flops for part in forward(recipe.model, image, text))
    if guidance == 1:
        return Term("a sampling step", f"{full:.4g}", full)
    if recipe.routing is not None and recipe.samples.self_guidance:
        routed = sum(part.flops for part in forward(recipe.model, image, text, recipe.routing))
        return Term("a sampling step", f"{full:.4g} (full) + {routed:.4g} (routed)", full + routed)
    return Term("a sampling step", f"2 · {full:.4g} (with and without the prompt)", 2 * full)


KERNELS_OF_BLOCK = {True: 30, False: 100}
"""Kernels of one block, forward and backward, compiled or not. Assumed."""
KERNELS_OF_ITERATION = 5


def kernels(recipe: Recipe, micro_batches: int) -> Term:
    """Kernels that a process launches one after the other in a step, whatever their size."""
    model, optimizer = recipe.model, recipe.optimizer
    of_block = KERNELS_OF_BLOCK[recipe.hardware.compile]
    shapes = len({(rows, columns) for _, rows, columns in block_matrices(model)}) if optimizer.kind == "muon" else 0
    count = micro_batches * model.depth * of_block + shapes * optimizer.muon_steps * KERNELS_OF_ITERATION
    formula = f"{micro_batches} micro-batches · {model.depth} blocks · {of_block}"
    if shapes:
        formula += f" + {shapes} shapes · {optimizer.muon_steps} iterations · {KERNELS_OF_ITERATION}"
    return Term("kernels", formula, count)


def newton_schulz_flop(rows: int, columns: int, steps: int) -> float:
    """Of one matrix. Each iteration on an r × c one, r ≤ c: Gram 2·r²·c, its square 2·r³, the update 2·r²·c."""
    r, c = sorted((rows, columns))
    return steps * (4.0 * r * r * c + 2.0 * r**3)


def newton_schulz(model: Model, optimizer: Optimizer, processes: int) -> list[Term]:
    """FLOP a step of the process that orthogonalises most: matrices of one shape are shared out, rounded up, zero padding included."""
    if optimizer.kind != "muon":
        return []
    count: dict[tuple[int, int], int] = {}
    for _, rows, columns in block_matrices(model):
        count[rows, columns] = count.get((rows, columns), 0) + model.depth
    terms: list[Term] = []
    for (rows, columns), many in count.items():
        r, c = sorted((rows, columns))
        share = math.ceil(many / processes)
        formula = f"{share} (of {many}) · {optimizer.muon_steps} · (4 · {r:,}² · {c:,} + 2 · {r:,}³)"
        terms.append(
            Term(f"Newton–Schulz {rows:,} × {columns:,}", formula, share * newton_schulz_flop(rows, columns, optimizer.muon_steps))
        )
    return [added("Newton–Schulz", terms)]
