"""A plan on a terminal: what it takes by stage, where FLOP and memory go, what stands in its way. Prints; decides nothing."""

import json
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from dayrun.estimate import Estimate, StageEstimate
from dayrun.memory import Bytes
from dayrun.plan import Change, Finding, Plan, Verdict
from dayrun.quantities import Interval

MARKS = {"ok": ("✓", "green"), "unsure": ("?", "yellow"), "no": ("✗", "red"), "note": ("·", "dim")}
PREFIXES = [(1e24, "Y"), (1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")]


def show(console: Console, plan: Plan, explain: bool = False) -> None:
    """The whole plan; `explain` adds every line of its arithmetic."""
    found = plan.estimate
    refused = [verdict for verdict in plan.verdicts if verdict.about == "trainer"]
    others = [verdict for verdict in plan.verdicts if verdict.about != "trainer"]
    parts: list[RenderableType] = [
        headline(found),
        stages_table(found),
        money_table(found),
        work_table(found),
        memory_table(found),
        verdict_lines(others),
    ]
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
        ("in brackets: nine outcomes in ten", "dim"),
    )


def stages_table(found: Estimate) -> Table:
    """What a stage trains on and how fast, a column a stage as in every table below: a terminal of 80 columns has room for two."""
    stages = found.stages
    table = plain("stage", *(s.name for s in stages))
    table.add_row("image + text tokens", *(f"{s.image_tokens:,} + {s.text_tokens:,}" for s in stages))
    table.add_row("images a step", *(f"{s.batch_size:,}" for s in stages))
    table.add_row("steps", *(f"{s.steps:,}" for s in stages))
    table.add_row("steps/s", *(around(s.steps_per_second) for s in stages))
    table.add_row("images/s", *(around(s.images_per_second) for s in stages))
    table.add_row("hours", *(around(s.hours) for s in stages))
    table.add_row("dollars", *(around(s.dollars, "$") for s in stages))
    table.add_row("memory a process", *(gigabytes(s.memory.peak_bytes) for s in stages))
    return table


def money_table(found: Estimate) -> Table:
    """Hours and dollars of everything, and in all."""
    table = plain("time and money", "times", "hours", "dollars")
    for s in found.stages:
        table.add_row(Text(f"stage {s.name}"), "", around(s.hours), around(s.dollars, "$"))
    for o in found.overheads:
        table.add_row(Text(o.name), f"{o.times:,}", around(o.hours), around(o.dollars, "$"))
    table.add_section()
    table.add_row("in all", "", around(found.hours), around(found.dollars, "$"), style="bold")
    return table


def work_table(found: Estimate) -> Table:
    """FLOP of an image in a step by part, and the part's share of the step."""
    table = plain("FLOP of an image in a step", *(s.name for s in found.stages))
    for name in dict.fromkeys(work.name for stage in found.stages for work in stage.work):
        table.add_row(name, *(work_of(stage, name) for stage in found.stages))
    table.add_section()
    table.add_row("in all", *(Text(f"{scaled(s.flops_per_image)}  100.0 %") for s in found.stages), style="bold")
    return table


def work_of(stage: StageEstimate, name: str) -> Text:
    """`280 G  20.8 %`; what is done once a step whatever the batch is marked."""
    work = next((work for work in stage.work if work.name == name), None)
    if work is None:
        return Text("–")
    share = f"{100 * work.flops_per_process_step / stage.flops_per_process_step:5.1f} %"
    if work.flops_per_image is None:
        return Text.assemble(f"{scaled(work.flops_per_process_step)} a step  ", (share, "dim"))
    return Text.assemble(f"{scaled(work.flops_per_image)}  ", (share, "dim"))


def memory_table(found: Estimate) -> Table:
    """Memory of a process by part, a column a stage."""
    table = plain("memory of a process", *(s.name for s in found.stages))
    held = dict.fromkeys(part.name for stage in found.stages for part in stage.memory.held)
    passing = dict.fromkeys(part.name for stage in found.stages for part in stage.memory.passing)
    for name in held:
        table.add_row(name, *(bytes_of(s.memory.held, name) for s in found.stages))
    for name in passing:
        table.add_row(Text(f"{name} *", "dim"), *(bytes_of(s.memory.passing, name) for s in found.stages))
    table.add_section()
    table.add_row("peak (* the largest)", *(gigabytes(s.memory.peak_bytes) for s in found.stages), style="bold")
    capacity = found.stages[0].memory.capacity_bytes
    if capacity is not None:
        table.add_row(f"{found.accelerator} has", *(f"{capacity / 1e9:.0f} GB ({capacity / 2**30:.0f} GiB)" for _ in found.stages))
    return table


def bytes_of(parts: list[Bytes], name: str) -> Text:
    return next((gigabytes(part.bytes) for part in parts if part.name == name), Text("–"))


def verdict_lines(verdicts: Sequence[Verdict | Finding]) -> Table:
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


def around(interval: Interval, unit: str = "") -> Text:
    """The expected figure, and its interval after it."""
    if interval.low == interval.high:
        return Text(f"{unit}{figure(interval.expected)}")
    return Text.assemble(f"{unit}{figure(interval.expected)} ", (f"[{figure(interval.low)}–{figure(interval.high)}]", "dim"))


def gigabytes(interval: Interval) -> Text:
    low, expected, high = (figure(value / 1e9) for value in (interval.low, interval.expected, interval.high))
    return Text(f"{expected} GB") if low == high else Text.assemble(f"{expected} GB ", (f"[{low}–{high}]", "dim"))


def scaled(value: float) -> str:
    """With a decimal prefix: 1.23 T."""
    for size, prefix in PREFIXES:
        if value >= size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g} "
