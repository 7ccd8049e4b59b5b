"""A plan on a terminal: what it takes by stage, where FLOP and memory go, what stands in its way. Prints; decides nothing."""

import json

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from dayrun.estimate import Estimate, StageEstimate
from dayrun.memory import Bytes
from dayrun.plan import Change, Plan, Verdict
from dayrun.quantities import Interval

MARKS = {"ok": ("✓", "green"), "unsure": ("?", "yellow"), "no": ("✗", "red"), "note": ("·", "dim")}
PREFIXES = [(1e24, "Y"), (1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")]


def show(console: Console, plan: Plan, explain: bool = False) -> None:
    """The whole plan; `explain` adds every line of its arithmetic."""
    found = plan.estimate
    refused = [verdict for verdict in plan.verdicts if verdict.about == "trainer"]
    others = [verdict for verdict in plan.verdicts if verdict.about != "trainer"]
    parts: list[RenderableType] = [headline(found), stages_table(found), work_table(found), memory_table(found), verdict_lines(others)]
    if refused:
        parts.append(Group(Text("This trainer cannot yet:", "bold"), verdict_lines(refused)))
    if explain:
        parts.append(arithmetic_table(found))
    for i, part in enumerate(parts):
        console.print(Group("", part) if i else part)


def headline(found: Estimate) -> Text:
    use = found.utilisation
    work = f"{scaled(found.training_flops)}FLOP of training"
    return Text.assemble(
        (found.recipe, "bold"),
        f": {scaled(found.parameters)} parameters, {work} on {found.processes} × {found.accelerator}\n",
        (f"{scaled(found.matrix_rate)}FLOP/s each at {use.expected:.0%} ({use.low:.0%} to {use.high:.0%}), {use.because}; ", "dim"),
        ("a range holds nine outcomes in ten", "dim"),
    )


def stages_table(found: Estimate) -> Table:
    """Stages, then what comes beside their steps; an interval stands under its figure."""
    table = plain("stage", "tokens", "batch", "steps", "steps/s", "images/s", "hours", "dollars", "memory a process")
    for s in found.stages:
        tokens = two_lines(f"{s.image_tokens:,}", f"+ {s.text_tokens:,} text")
        speed = (around(s.steps_per_second), around(s.images_per_second))
        money = (around(s.hours), around(s.dollars, "$"))
        table.add_row(Text(s.name), tokens, f"{s.batch_size:,}", f"{s.steps:,}", *speed, *money, gigabytes(s.memory.peak_bytes))
    for o in found.overheads:
        table.add_row(Text(f"{o.name}, {o.times} ×" if o.times > 1 else o.name), *[""] * 5, around(o.hours), around(o.dollars, "$"), "")
    table.add_section()
    money = (around(found.hours), around(found.dollars, "$"))
    steps = f"{sum(s.steps for s in found.stages):,}"
    table.add_row(Text("in all", "bold"), "", "", steps, "", "", *money, gigabytes(found.peak_bytes_per_process))
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
            once = f"{scaled(work.flops_per_process_step)} a step"
            return (once if work.flops_per_image is None else scaled(work.flops_per_image)), share
    return "–", "–"


def memory_table(found: Estimate) -> Table:
    """Memory of a process by part, a column a stage."""
    table = plain("memory of a process", *(s.name for s in found.stages))
    held = dict.fromkeys(part.name for stage in found.stages for part in stage.memory.held)
    passing = dict.fromkeys(part.name for stage in found.stages for part in stage.memory.passing)
    for name in held:
        table.add_row(name, *(bytes_of(s.memory.held, name) for s in found.stages))
    for name in passing:
        table.add_row(Text(f"{name} (the largest at a time)", "dim"), *(bytes_of(s.memory.passing, name) for s in found.stages))
    table.add_section()
    table.add_row("peak", *(gigabytes(s.memory.peak_bytes, one_line=True) for s in found.stages), style="bold")
    capacity = found.stages[0].memory.capacity_bytes
    if capacity is not None:
        table.add_row(f"{found.accelerator} has", *(f"{capacity / 1e9:.0f} GB ({capacity / 2**30:.0f} GiB)" for _ in found.stages))
    return table


def bytes_of(parts: list[Bytes], name: str) -> Text:
    return next((gigabytes(part.bytes, one_line=True) for part in parts if part.name == name), Text("–"))


def verdict_lines(verdicts: list[Verdict]) -> Table:
    table = Table.grid(padding=(0, 1))
    for verdict in sorted(verdicts, key=lambda v: list(MARKS).index(v.level)):
        near = f"; nearest: {', '.join(change(one, verdict.at) for one in verdict.nearest)}" if verdict.nearest else ""
        table.add_row(Text(*MARKS[verdict.level]), Text(f"{verdict.at}{': ' if verdict.at else ''}{verdict.because}{near}"))
    return table


def change(one: Change, here: str) -> str:
    """The value alone where it goes to the place that the line is about."""
    value = json.dumps(one.value, ensure_ascii=False)
    return value if one.at == here else f"{one.at} = {value}"


def arithmetic_table(found: Estimate) -> Table:
    """Every line of the arithmetic, under the stage it belongs to."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("arithmetic", max_width=44, overflow="fold")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("unit", max_width=20, overflow="fold")
    table.add_column("formula", overflow="fold")
    before = ""
    for line in found.arithmetic:
        group = next((f"{s.name}: " for s in found.stages if line.name.startswith(f"{s.name}: ")), "")
        if group != before:
            table.add_row(Text(group.removesuffix(": "), "bold"))
            before = group
        value = f"{line.value:,.0f}" if line.unit in ("parameters", "tokens") else f"{line.value:.4g}"
        table.add_row(Text(line.name.removeprefix(group)), value, line.unit, Text(line.formula))
    return table


def plain(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(Text(name), justify="right", no_wrap=True)  # names come from the recipe: no markup in them
    return table


def figure(value: float) -> str:
    """Three digits, as people write them."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.1 else f"{value:.2g}"


def two_lines(first: str, second: str) -> Text:
    return Text.assemble(first, "\n", (second, "dim"))


def around(interval: Interval, unit: str = "") -> Text:
    if interval.low == interval.high:
        return Text(f"{unit}{figure(interval.expected)}")
    return two_lines(f"{unit}{figure(interval.expected)}", f"{figure(interval.low)}–{figure(interval.high)}")


def gigabytes(interval: Interval, one_line: bool = False) -> Text:
    low, expected, high = (figure(value / 1e9) for value in (interval.low, interval.expected, interval.high))
    if low == high:
        return Text(f"{expected} GB")
    return Text.assemble(f"{expected} GB ", (f"{low}–{high}", "dim")) if one_line else two_lines(f"{expected} GB", f"{low}–{high}")


def scaled(value: float) -> str:
    """With a decimal prefix: 1.23 T."""
    for size, prefix in PREFIXES:
        if value >= size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g} "
