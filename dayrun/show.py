"""Runs on a terminal: tables, one run in full, and the live progress bar. Prints; decides nothing."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from dayrun.answers import Event, Run, Waiting
from dayrun.client import Client

COLOURS = {"running": "cyan", "succeeded": "green", "failed": "red", "cancelled": "dim", "paused": "yellow"}
QUIET = ("state_changed", "samples_drawn", "checkpoint_saved")
"""Events that `watch` shows in its line, or that would scroll it away."""


def duration(seconds: float | None) -> str:
    """12 s, 3 min 04 s, 5 h 12 min."""
    if seconds is None:
        return "–"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def state_text(run: Run) -> Text:
    why = run.waiting.code if run.waiting else run.cause
    return Text(run.state + (f" ({why})" if why else ""), COLOURS.get(run.state, ""))


def waiting_line(waiting: Waiting) -> str:
    place = f" (place {waiting.place})" if waiting.place else ""
    start = f"; expected to begin {waiting.expected_start.astimezone():%Y-%m-%d %H:%M}" if waiting.expected_start else ""
    return f"{waiting.because}{place}{start}"


def number(value: float | None, form: str = ".4g") -> str:
    return "–" if value is None else format(value, form)


def run_table(runs: list[Run]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", no_wrap=True, min_width=30)
    table.add_column("name", overflow="ellipsis", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for name in ("step", "loss", "images/s", "left", "cost", "age"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        p = run.progress
        table.add_row(
            run.id,
            run.name,
            state_text(run),
            f"{p.step}/{p.total_steps}",
            number(p.loss),
            number(p.images_per_second, ".1f"),
            duration(p.eta_seconds),
            f"${run.cost.dollars:.2f}",
            duration((datetime.now(UTC) - run.created_at).total_seconds()),
        )
    return table


def run_in_full(run: Run, events: list[Event]) -> Table:
    p = run.progress
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    table.add_row("run", run.id)
    table.add_row("name", run.name)
    table.add_row("state", state_text(run))
    for line in run.evidence:
        table.add_row("", Text(line, "dim"))
    if run.waiting:
        table.add_row("waits", waiting_line(run.waiting))
    if run.priority:
        table.add_row("priority", str(run.priority))
    table.add_row("attempt", f"{run.attempt} of {run.attempts_allowed}")
    table.add_row("progress", f"{p.step} of {p.total_steps} steps ({p.fraction:.0%})" + (f", stage {p.stage}" if p.stage else ""))
    table.add_row("loss", number(p.loss))
    table.add_row("images/s", number(p.images_per_second, ".1f"))
    table.add_row("left", duration(p.eta_seconds))
    table.add_row("cost", f"${run.cost.dollars:.2f} ({run.cost.accelerator_hours:.3f} accelerator-hours)")
    table.add_row("created", str(run.created_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")))
    if run.labels:
        table.add_row("labels", ", ".join(f"{k}={v}" for k, v in run.labels.items()))
    table.add_row("can", ", ".join(run.moves or []) or "nothing more: its state is final")
    for event in events[-8:]:
        table.add_row("" if event is not events[-8:][0] else "events", event_line(event))
    return table


def side_by_side(side: dict[str, Any]) -> str:
    """One figure of a run that is over, and whether its plan had it."""
    return f"{side['name']} {side['actual']:.3g} {side['unit']}" + ("" if side["inside"] else " (not as predicted)")


def event_line(event: Event) -> Text:
    if event.type == "estimate_compared":
        said = "  ".join(side_by_side(side) for side in event.data["comparison"])
    else:
        said = "  ".join(f"{k}={v}" for k, v in event.data.items() if v not in (None, [], ""))
    at = event.time.astimezone().strftime("%H:%M:%S")
    return Text.assemble(
        (at, "dim"), f"  {event.type}", (f"  step {event.step}" if event.step is not None else "", "dim"), (f"  {said}", "dim")
    )


def watch(client: Client, run_id: str, console: Console) -> Run:
    """A live bar until the run is over or paused; returns the run as it ended. Without a terminal: one line each ten seconds."""
    columns = (
        TextColumn("{task.fields[state]}", style="bold"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TextColumn("{task.fields[said]}"),
    )
    run, last_event, last_line = None, 0, 0.0
    with Progress(*columns, console=console, expand=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0, state="", said="")
        for run in client.follow(run_id):
            p = run.progress
            said = f"step {p.step}/{p.total_steps}  loss {number(p.loss)}  {number(p.images_per_second, '.0f')} images/s"
            said += f"  {duration(p.eta_seconds)} left" if p.eta_seconds is not None else ""
            if run.waiting:
                said = waiting_line(run.waiting)
            bar.update(task, completed=p.fraction, state=run.state, said=said)
            for event in client.events(run_id, last_event):
                last_event = event.sequence
                if event.type not in QUIET:
                    console.print(event_line(event))
            if not console.is_terminal and (time.monotonic() - last_line > 10 or run.over):
                last_line = time.monotonic()
                console.print(f"{run.state}  {said}", highlight=False)
    assert run is not None
    return run


def problem_lines(detail: str, errors: list[dict[str, object]]) -> Iterator[str]:
    """What the service refused: its sentence, or every error on a line of its own."""
    if not errors:
        yield detail
    for error in errors:
        value = "" if error.get("value") is None else f"{error['value']!r}: "
        nearest = error.get("nearest")
        close = f"; nearest: {', '.join(map(str, nearest))}" if isinstance(nearest, list) and nearest else ""  # pyright: ignore
        yield f"{error.get('pointer')}: {value}{error.get('because')}{close}"
