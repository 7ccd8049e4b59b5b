"""Money on a terminal: what a run has cost, what a project spends. Prints; decides nothing."""

from rich.console import Group
from rich.table import Table

from dayrun.answers import CapLeft, ProjectUsage, RunCost
from dayrun.show import duration


def amount(value: float, unit: str = "dollars") -> str:
    return f"${value:,.2f}" if unit == "dollars" else f"{value:,.2f} {unit}"


def grid() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    return table


def columns(*names: str, left: int = 1) -> Table:
    """A table with the first `left` columns for words, the others for figures."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(names):
        table.add_column(name, justify="left" if number < left else "right", no_wrap=True)
    return table


def cap_line(cap: CapLeft) -> str:
    period = f" ({cap.period})" if cap.period else ""
    return f"{cap.name}{period}: {amount(cap.used, cap.unit)} of {amount(cap.limit, cap.unit)}, {amount(cap.left, cap.unit)} left"


def cost_in_full(cost: RunCost) -> Group:
    table = grid()
    table.add_row("run", cost.run)
    table.add_row("so far", f"{amount(cost.dollars)} ({cost.accelerator_hours:,.3f} accelerator-hours)")
    table.add_row("now", f"{amount(cost.dollars_per_hour)} an hour" if cost.dollars_per_hour else "holds nothing")
    if cost.predicted:
        hours = f" in {duration(cost.predicted.hours * 3600)}" if cost.predicted.hours is not None else ""
        table.add_row("predicted", f"{amount(cost.predicted.dollars)}{hours}, by {cost.predicted.basis}")
        table.add_row("reserved", amount(cost.reserved_dollars))
    else:
        table.add_row("predicted", "nothing is known, and nothing is reserved")
    for number, cap in enumerate(cost.caps):
        table.add_row("" if number else "limits", cap_line(cap))
    attempts = columns("attempt", "from", "until", "accelerators", "$ each hour", "accelerator-hours", "cost", left=3)
    for one in cost.attempts:
        until = one.held_until.astimezone().strftime("%m-%d %H:%M:%S") if one.held_until else "now"
        since = one.held_from.astimezone().strftime("%m-%d %H:%M:%S")
        rate, hours = f"{one.dollars_per_accelerator_hour:.2f}", f"{one.accelerator_hours:,.3f}"
        attempts.add_row(str(one.attempt), since, until, str(one.accelerators), rate, hours, amount(one.dollars))
    return Group(table, "", attempts) if cost.attempts else Group(table)


def usage_in_full(usage: ProjectUsage) -> Group:
    caps, table = usage.caps, grid()
    table.add_row("project", usage.project)
    table.add_row("today", against(usage.dollars_today, caps.dollars_per_day, usage.left_today))
    table.add_row("this month", against(usage.dollars_this_month, caps.dollars_per_month, usage.left_this_month))
    unknown = f", {usage.runs_without_prediction} without a prediction reserve nothing" if usage.runs_without_prediction else ""
    table.add_row("reserved", f"{amount(usage.reserved_dollars)} for runs that are not over{unknown}")
    of = f" of {caps.accelerators}" if caps.accelerators is not None else ""
    table.add_row("holds", f"{usage.accelerators_held}{of} accelerators, {amount(usage.dollars_per_hour)} an hour")
    runs = columns("run", "name", "state", "accelerator-hours", "this month", left=3)
    for one in usage.runs:
        runs.add_row(one.run, one.name, one.state, f"{one.accelerator_hours:,.3f}", amount(one.dollars))
    more = [f"and {usage.more_runs} more runs"] if usage.more_runs else []
    return Group(table, *(["", runs] if usage.runs else []), *more)


def against(spent: float, cap: float | None, left: float | None) -> str:
    return amount(spent) if cap is None or left is None else f"{amount(spent)} of {amount(cap)}, {amount(left)} left"
