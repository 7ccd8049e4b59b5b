"""A plan on a terminal: what it takes, stage by stage; where the FLOP and the memory go; what stands in its way. Prints; decides nothing."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dayrun.estimate import Estimate, StageEstimate
from dayrun.plan import Change, Plan, Verdict
from dayrun.quantities import Interval

MARKS = {"ok": ("✓", "green"), "unsure": ("?", "yellow"), "no": ("✗", "red"), "note": ("·", "dim")}
PREFIXES = [(1e24, "Y"), (1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")]


def show(console: Console, plan: Plan, explain: bool = False) -> None:
    """The whole plan; `explain` adds every line of its arithmetic."""
    found = plan.estimate
    console.print(headline(found))
    console.print()
    console.print(stages_table(found))
    console.print()
    console.print(work_table(found))
    console.print()
    console.print(memory_table(found))
    console.print()
    for verdict in sorted(plan.verdicts, key=lambda v: list(MARKS).index(v.level)):
        console.print(verdict_line(verdict))
    if explain:
        console.print()
        console.print(arithmetic_table(found))


def headline(found: Estimate) -> Text:
    use = found.utilisation
    return Text.assemble(
        (found.recipe, "bold"),
        f": {scaled(found.parameters)} parameters, {scaled(found.training_flops)}FLOP of training on {found.processes} × {found.accelerator}\n",
        (f"{scaled(found.matrix_rate)}FLOP/s each at {use.expected:.0%} [{use.low:.0%}–{use.high:.0%}], {use.because}; ", "dim"),
        ("in brackets: nine outcomes in ten", "dim"),
    )


def stages_table(found: Estimate) -> Table:
    table = plain("stage", "tokens", "batch", "steps", "steps/s", "images/s", "hours", "dollars", "memory a process")
    for s in found.stages:
        tokens, batch, steps = f"{s.image_tokens:,} + {s.text_tokens:,}", f"{s.batch_size:,}", f"{s.steps:,}"
        speed = (around(s.steps_per_second), around(s.images_per_second))
        table.add_row(s.name, tokens, batch, steps, *speed, around(s.hours), around(s.dollars, "$"), gigabytes(s.memory.peak_bytes))
    for o in found.overheads:
        table.add_row(Text(f"{o.name}, {o.times} ×", "dim"), *[""] * 5, around(o.hours), around(o.dollars, "$"), "")
    total = (around(found.hours), around(found.dollars, "$"), gigabytes(found.peak_bytes_per_process))
    table.add_section()
    table.add_row("in all", "", "", f"{sum(s.steps for s in found.stages):,}", "", "", *total, style="bold")
    return table


def work_table(found: Estimate) -> Table:
    """FLOP of a step by part, a column a stage."""
    table = plain("FLOP of a step", *(f"{s.name}, an image" for s in found.stages), *(f"{s.name}, share" for s in found.stages))
    for name in dict.fromkeys(work.name for stage in found.stages for work in stage.work):
        each, shares = [*zip(*(cells(stage, name) for stage in found.stages), strict=True)]
        table.add_row(name, *each, *shares)
    table.add_section()
    table.add_row("in all", *(scaled(s.flops_per_image) for s in found.stages), *("100 %" for _ in found.stages), style="bold")
    return table


def cells(stage: StageEstimate, name: str) -> tuple[str, str]:
    for work in stage.work:
        if work.name == name:
            share = f"{work.flops_per_process_step / stage.flops_per_process_step:.1%}".replace("%", " %")
            return (scaled(work.flops_per_image) if work.flops_per_image is not None else f"{scaled(work.flops_per_process_step)} a step"), share
    return "–", "–"


def memory_table(found: Estimate) -> Table:
    """Memory of a process by part, a column a stage."""
    table = plain("memory of a process", *(s.name for s in found.stages))
    held = dict.fromkeys(part.name for stage in found.stages for part in stage.memory.held)
    passing = dict.fromkeys(part.name for stage in found.stages for part in stage.memory.passing)
    for name in held:
        table.add_row(name, *(next((gigabytes(p.bytes) for p in s.memory.held if p.name == name), "–") for s in found.stages))
    for name in passing:
        row = (next((gigabytes(p.bytes) for p in s.memory.passing if p.name == name), "–") for s in found.stages)
        table.add_row(Text(f"{name} (the largest at a time)", "dim"), *row)
    table.add_section()
    table.add_row("peak", *(gigabytes(s.memory.peak_bytes) for s in found.stages), style="bold")
    capacity = found.stages[0].memory.capacity_bytes
    if capacity is not None:
        table.add_row(f"{found.accelerator} has", *(f"{capacity / 1e9:.1f} GB" for _ in found.stages))
    return table


def verdict_line(verdict: Verdict) -> Text:
    mark, colour = MARKS[verdict.level]
    near = f"; nearest: {', '.join(change(one) for one in verdict.nearest)}" if verdict.nearest else ""
    return Text.assemble((mark, colour), f" {verdict.at}{': ' if verdict.at else ''}{verdict.because}{near}")


def change(one: Change) -> str:
    import json

    return f"{one.at} = {json.dumps(one.value, ensure_ascii=False)}"


def arithmetic_table(found: Estimate) -> Table:
    table = plain("arithmetic", "value", "unit", "formula")
    for column in table.columns[2:]:
        column.justify, column.no_wrap, column.overflow = "left", False, "fold"
    for line in found.arithmetic:
        table.add_row(line.name, f"{line.value:,.0f}" if line.unit in ("parameters", "tokens") else f"{line.value:.4g}", line.unit, line.formula)
    return table


def plain(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def figure(value: float) -> str:
    """Three digits, as people write them."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def around(interval: Interval, unit: str = "") -> str:
    if interval.low == interval.high:
        return f"{unit}{figure(interval.expected)}"
    return f"{unit}{figure(interval.expected)} [{figure(interval.low)}–{figure(interval.high)}]"


def gigabytes(interval: Interval) -> str:
    low, expected, high = (figure(value / 1e9) for value in (interval.low, interval.expected, interval.high))
    return f"{expected} GB" if low == high else f"{expected} GB [{low}–{high}]"


def scaled(value: float) -> str:
    """With a decimal prefix: 1.23 T."""
    for size, prefix in PREFIXES:
        if value >= size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g} "
