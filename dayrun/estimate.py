"""What a recipe will take on its hardware: FLOP, memory, seconds, hours, dollars, each with an interval and the arithmetic behind it.

Pure functions of the recipe: no torch, no clock, no file, no network. The counting is in `layers.py`, `frozen.py` and `memory.py`, the
speed of machines in `hardware.py`; here they become stages and sums. What the figures mean for a run is in `plan.py`, and how measured runs
change them in `calibration.py`. docs/estimate.md explains it all with `prx-24h` as the example.
"""

import itertools
import math

from pydantic import Field

from dayrun.frozen import evaluation_networks, networks, projector
from dayrun.hardware import ACCELERATORS, Utilisation, matrix_rate, threads_of
from dayrun.layers import forward, guided_forward, image_tokens, kernels, muon_parameters, newton_schulz, parameters, text_tokens
from dayrun.memory import Memory, memory, trained_parameters
from dayrun.quantities import Figures, Interval, Line, Term, added, largest, line, total
from dayrun.recipe import Recipe, Stage


class Work(Figures):
    """One part of the FLOP of a training step."""

    name: str
    flops_per_image: float | None = Field(description="null: once a step, however many images it has.")
    flops_per_process_step: float = Field(description="Of the busiest process.")


class StageEstimate(Figures):
    """One stage, training steps alone: pictures, evaluations and checkpoints are told under `overheads`."""

    name: str
    pixels: int
    image_tokens: int
    text_tokens: int
    steps: int
    batch_size: int = Field(description="Images a step over all processes.")
    images_per_process: int
    work: list[Work]
    flops_per_image: float
    flops_per_process_step: float
    step_seconds: Interval
    steps_per_second: Interval
    images_per_second: Interval = Field(description="Over all processes.")
    hours: Interval
    dollars: Interval
    memory: Memory


class Overhead(Figures):
    """Something other than a training step that takes time of the whole run."""

    name: str
    times: int
    hours: Interval
    dollars: Interval


class Estimate(Figures):
    recipe: str = Field(description="Name of the recipe.")
    parameters: int = Field(description="Of the denoiser, exactly.")
    trained_parameters: int = Field(description="With what the objective trains beside it.")
    accelerator: str
    processes: int
    matrix_rate: float = Field(description="FLOP/s of one process on large products.")
    utilisation: Utilisation
    stages: list[StageEstimate]
    overheads: list[Overhead]
    training_flops: float = Field(description="Of all steps and processes.")
    hours: Interval
    dollars: Interval
    dollars_per_hour: float = Field(description="Of all processes together.")
    checkpoint_bytes: float
    peak_bytes_per_process: Interval
    assumed: list[str] = Field(description="What was guessed because the recipe names something unknown here.")
    arithmetic: list[Line]


def estimate(recipe: Recipe, *, utilisation: Utilisation | None = None, cores: int | None = None) -> Estimate:
    """The estimate of `recipe`, with the utilisation of its accelerator's prior unless one is given (`calibration.calibrated`).

    cores: of a node; only asked where a recipe trains on CPUs and leaves the threads of a process open.
    """
    hardware = recipe.hardware
    share = utilisation or ACCELERATORS[hardware.accelerator].utilisation
    rate, rate_formula = matrix_rate(hardware, threads_of(hardware, cores))
    arithmetic = whole_run_lines(recipe, rate, rate_formula, share)
    stages: list[StageEstimate] = []
    assumed: list[str] = []
    for i, stage in enumerate(recipe.stages):
        seen = recipe.at_stage(i)
        one, lines = of_stage(seen, stage, rate, share)
        stages.append(one)
        arithmetic += lines
        assumed += [n.assumed for n in networks(seen, stage.pixels) if n.assumed and n.assumed not in assumed]
    overheads, lines = overheads_of(recipe, rate, share)
    arithmetic += lines
    hours = sum((part.hours for part in [*stages, *overheads]), Interval.exactly(0))
    price = hardware.world_size * hardware.dollars_per_accelerator_hour
    flops = sum(stage.steps * stage.flops_per_process_step for stage in stages) * hardware.world_size
    arithmetic += sums(stages, overheads, hours, flops, hardware.world_size, hardware.dollars_per_accelerator_hour)
    return Estimate(
        recipe=recipe.name,
        parameters=round(total(parameters(recipe.model))),
        trained_parameters=round(trained_parameters(recipe)),
        accelerator=hardware.accelerator,
        processes=hardware.world_size,
        matrix_rate=rate,
        utilisation=share,
        stages=stages,
        overheads=overheads,
        training_flops=flops,
        hours=hours,
        dollars=hours * price,
        dollars_per_hour=price,
        checkpoint_bytes=checkpoint(recipe).value,
        peak_bytes_per_process=largest([stage.memory.peak_bytes for stage in stages]),
        assumed=assumed,
        arithmetic=arithmetic,
    )


# ---- a stage -------------------------------------------------------------------------------------------------------------------------


def per_image(recipe: Recipe, pixels: int) -> list[Term]:
    """FLOP of one image in a training step, by part; `recipe` as the stage sees it."""
    parts = forward(recipe.model, image_tokens(recipe, pixels), text_tokens(recipe), recipe.routing)
    once = sum(part.flops for part in parts)
    again = sum(part.flops for part in parts if part.in_blocks) if recipe.hardware.activation_checkpointing else 0
    found = [Term("denoiser forward", " + ".join(f"{part.flops:.4g} ({part.name})" for part in parts), once)]
    if again:
        found.append(Term("denoiser forward again", f"{again:.4g} (blocks, recomputed)", again))
    found.append(Term("denoiser backward", f"2 · {once:.4g} (to weights and to inputs)", 2 * once))
    aligned = projector(recipe, pixels)
    if aligned is not None:
        found.append(Term("REPA projector", f"3 · ({aligned[0].formula})", 3 * aligned[0].value))
    return found + [network.work for network in networks(recipe, pixels)]


def of_stage(recipe: Recipe, stage: Stage, rate: float, utilisation: Utilisation) -> tuple[StageEstimate, list[Line]]:
    """`recipe` as the stage sees it."""
    hardware = recipe.hardware
    images = max(1, stage.batch_size // hardware.world_size)
    terms = per_image(recipe, stage.pixels)
    once = newton_schulz(recipe.model, recipe.optimizer, hardware.world_size)
    each = total(terms)
    flops = images * each + total(once)
    launching = ACCELERATORS[hardware.accelerator].kernel_seconds * launches(recipe, stage, images).value
    seconds = largest([utilisation.under(flops / rate), launching])  # a small model waits for its kernels, not for its products
    speed = seconds.under(1)
    hours = seconds * (stage.steps / 3600)
    price = hardware.world_size * hardware.dollars_per_accelerator_hour
    work = [Work(name=t.name, flops_per_image=t.value, flops_per_process_step=images * t.value) for t in terms]
    work += [Work(name=t.name, flops_per_image=None, flops_per_process_step=t.value) for t in once]
    found = StageEstimate(
        name=stage.name,
        pixels=stage.pixels,
        image_tokens=image_tokens(recipe, stage.pixels),
        text_tokens=text_tokens(recipe),
        steps=stage.steps,
        batch_size=stage.batch_size,
        images_per_process=images,
        work=work,
        flops_per_image=each,
        flops_per_process_step=flops,
        step_seconds=seconds,
        steps_per_second=speed,
        images_per_second=speed * stage.batch_size,
        hours=hours,
        dollars=hours * price,
        memory=memory(recipe, stage),
    )
    return found, stage_lines(recipe, stage, found, terms, once, rate, utilisation)


def launches(recipe: Recipe, stage: Stage, images: int) -> Term:
    """Kernels of a step of a process that holds `images` in micro-batches."""
    return kernels(recipe, images // min(stage.micro_batch_size or images, images))


def stage_lines(
    recipe: Recipe, stage: Stage, found: StageEstimate, terms: list[Term], once: list[Term], rate: float, utilisation: Utilisation
) -> list[Line]:
    """The arithmetic of a stage: layers, an image, a step, the time, the memory."""
    prefix, image = f"{found.name}: ", found.image_tokens
    lines = [line(prefix + "image tokens", f"({found.pixels} / {round(found.pixels / image**0.5)})²", image, "tokens")]
    for part in forward(recipe.model, image, found.text_tokens, recipe.routing):
        if part.times > 1 or len(part.terms) > 1:
            lines += [term.line("FLOP", f"{prefix}{part.name}: ") for term in part.terms]
        lines.append(part.term.line("FLOP", prefix) if part.times > 1 else added(part.name, part.terms).line("FLOP", prefix))
    lines += [term.line("FLOP an image", prefix) for term in [*terms, added("an image", terms)]]
    lines += [term.line("FLOP a step of the busiest process", prefix) for term in once]
    flops, seconds = found.flops_per_process_step, found.step_seconds.expected
    whole = f"{found.images_per_process} images · {found.flops_per_image:.4g}" + (f" + {total(once):.4g}" if once else "")
    timed = f"{flops:.4g} / ({rate:.4g} FLOP/s · {utilisation.expected:.3g} [{utilisation.low:.3g}–{utilisation.high:.3g}])"
    lines.append(line(prefix + "a step of a process", whole, flops, "FLOP"))
    started, each = launches(recipe, stage, found.images_per_process), ACCELERATORS[recipe.hardware.accelerator].kernel_seconds.expected
    if each:
        lines.append(started.line("a step of a process", prefix))
        timed = f"max({timed}, {started.value:,.0f} kernels · {each:.2g} s)"
    lines.append(line(prefix + "a step", timed, seconds, "s"))
    lines.append(line(prefix + "all steps", f"{found.steps:,} steps · {seconds:.4g} s / 3600", found.hours.expected, "h"))
    room = found.memory
    lines += [line(prefix + part.name, part.formula, part.bytes.expected, "B held") for part in room.held]
    lines += [line(prefix + part.name, part.formula, part.bytes.expected, "B at a time") for part in room.passing]
    held, passing = ([f"{part.bytes.expected / 1e9:.3g}" for part in parts] for parts in (room.held, room.passing))
    peak = f"{' + '.join(held)} + max({', '.join(passing)}) GB"
    return [*lines, line(prefix + "peak memory", peak, room.peak_bytes.expected, "B")]


# ---- beside the steps ----------------------------------------------------------------------------------------------------------------


def times_due(recipe: Recipe, every: int | None, at_start: bool = False, at_end: bool = False) -> list[int]:
    """How often something comes in each stage that is due every `every` steps, before the first step and after the last. Counted, not
    listed: a recipe may have any number of steps."""
    ends = list(itertools.accumulate(stage.steps for stage in recipe.stages))
    counts = [end // every - (end - stage.steps) // every if every else 0 for stage, end in zip(recipe.stages, ends, strict=True)]
    counts[0] += at_start
    counts[-1] += at_end and (every is None or ends[-1] % every != 0)
    return counts


def checkpoint(recipe: Recipe) -> Term:
    """Bytes of one checkpoint: weights, optimizer state, averages."""
    size = 2 if recipe.hardware.precision.weights == "bfloat16" else 4
    count, muon = trained_parameters(recipe), muon_parameters(recipe.model, recipe.optimizer)
    average = 4 if recipe.ema else 0
    formula = f"{size + average} B · {count:,.0f} + {size} B · {muon:,.0f} (Muon) + {2 * size} B · {count - muon:,.0f} (Adam)"
    return Term("a checkpoint", formula, (size + average) * count + size * muon + 2 * size * (count - muon))


def overheads_of(recipe: Recipe, rate: float, utilisation: Utilisation) -> tuple[list[Overhead], list[Line]]:
    hardware = recipe.hardware
    accelerator = ACCELERATORS[hardware.accelerator]
    price = hardware.world_size * hardware.dollars_per_accelerator_hour
    lines: list[Line] = []
    found: list[Overhead] = []

    def add(name: str, times: int, seconds: Interval, formula: str) -> None:
        if times:
            hours = seconds * (1 / 3600)
            found.append(Overhead(name=name, times=times, hours=hours, dollars=hours * price))
            lines.append(line(f"beside the steps: {name}", formula, hours.expected, "h"))

    add("start", 1, accelerator.start_seconds, f"{accelerator.start_seconds.expected:g} s, assumed")

    def draw(name: str, counts: list[int], images: int, sampling: int, guidance: float, features: float) -> None:
        share, flops, said = math.ceil(images / hardware.world_size), 0.0, list[str]()
        for i, count in enumerate(counts):
            if count:
                step = guided_forward(recipe.at_stage(i), recipe.stages[i].pixels, guidance)
                flops += count * share * (sampling * step.value + features)
                beside = f" + {features:.4g}" if features else ""
                said.append(f"{count} · {share} (of {images:,} images) · ({sampling} · ({step.formula}){beside})")
        timed = f"({' + '.join(said)}) / ({rate:.4g} FLOP/s · {utilisation.expected:.3g}) / 3600"
        add(name, sum(counts), utilisation.under(flops / rate), timed)

    for one in recipe.samples.sets:
        due = times_due(recipe, one.every, one.at_start, one.at_end)
        draw(f"samples {one.name!r}", due, len(one.prompts), recipe.samples.steps, recipe.samples.guidance, 0)
    if (evaluation := recipe.evaluation) is not None:
        features = evaluation_networks().value if {"cmmd", "dino_mmd", "prompt_alignment"} & set(evaluation.metrics) else 0
        draw("evaluation", times_due(recipe, evaluation.every), evaluation.images, evaluation.steps, evaluation.guidance, features)
    saved = checkpoint(recipe)
    times = sum(times_due(recipe, recipe.checkpoints.every, at_end=True))
    bytes_a_node = saved.value / hardware.nodes
    lines.append(saved.line("B"))
    formula = f"{times} · {saved.value:.4g} B / {hardware.nodes} nodes / {accelerator.checkpoint_bytes_per_second.expected:.3g} B/s / 3600"
    add("checkpoints", times, accelerator.checkpoint_bytes_per_second.under(bytes_a_node) * times, formula)
    return found, lines


# ---- sums ----------------------------------------------------------------------------------------------------------------------------


def whole_run_lines(recipe: Recipe, rate: float, rate_formula: str, utilisation: Utilisation) -> list[Line]:
    accelerator = ACCELERATORS[recipe.hardware.accelerator]
    terms = parameters(recipe.model)
    lines = [term.line("parameters", "denoiser: ") for term in terms]
    lines.append(added("denoiser", terms).line("parameters"))
    lines.append(line("matrix rate of a process", f"{rate_formula} ({accelerator.rate_source})", rate, "FLOP/s"))
    said = f"{utilisation.low:.3g}–{utilisation.high:.3g}; " + (
        accelerator.utilisation_source if utilisation.source == "prior" else utilisation.because
    )
    lines.append(line("utilisation", said, utilisation.expected, "of the matrix rate"))
    if recipe.ema is not None:
        count = trained_parameters(recipe)
        formula = f"12 B (read both, write one) · {count:,.0f} / every {recipe.ema.every} steps; bound by memory, inside the utilisation"
        lines.append(line("averaged weights", formula, 12 * count / recipe.ema.every, "B a step"))
    return lines


def sums(
    stages: list[StageEstimate], overheads: list[Overhead], hours: Interval, flops: float, processes: int, dollars: float
) -> list[Line]:
    trained = " + ".join(f"{s.steps:,} · {processes} · {s.flops_per_process_step:.4g}" for s in stages)
    timed = " + ".join(f"{part.hours.expected:.3g} (stage {part.name})" for part in stages)
    timed += "".join(f" + {part.hours.expected:.3g} ({part.name})" for part in overheads)
    ends = f"{hours.low:.4g} to {hours.high:.4g}"
    paid = f"{hours.expected:.4g} h · {processes} accelerators · ${dollars:g}"
    return [
        line("whole schedule", trained, flops, "FLOP"),
        line("hours", f"{timed} (interval {ends})", hours.expected, "h"),
        line("dollars", paid, hours.expected * processes * dollars, "$"),
    ]
