"""What a run may cost and a project may spend: admission, warnings, caps. Pure: no rows, no clock; times are given.

A run that is not over reserves what it is predicted to cost beyond what it has cost already, so that a project's runs cannot together
promise more than its month has left.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from dayrun.recipe import Recipe
from service.usage.ledger import day_of, month_of

WARN_AT = 0.8
"""The part of a cap that is told of before the cap is reached."""
A_CENT = 0.01
ROUNDING = 1e-9
Unit = Literal["dollars", "hours"]


@dataclass(frozen=True)
class Caps:
    """A project's; None: no limit."""

    accelerators: int | None = None  # held at once
    dollars_per_day: float | None = None
    dollars_per_month: float | None = None


@dataclass(frozen=True)
class Spent:
    """By a project, in dollars."""

    today: float = 0.0
    this_month: float = 0.0


@dataclass(frozen=True)
class Cap:
    """Something that can be used up, and how much of it is."""

    name: str
    unit: Unit
    limit: float
    used: float
    cause: str  # of the pause that reaching it brings
    said: str  # what the cap is of, for sentences: "project 'x' on 2026-11-24"
    period: str = ""  # the day or month it is for; empty: the whole life of a run
    until: datetime | None = None  # when there is room again by itself

    @property
    def left(self) -> float:
        return max(0.0, self.limit - self.used)

    @property
    def reached(self) -> bool:
        return self.used >= self.limit - ROUNDING

    @property
    def because(self) -> str:
        if self.unit == "hours":
            return f"{self.name}: {self.used:.2f} of {self.limit:.2f} hours are used{self.said}"
        return f"{self.name}: ${self.used:,.2f} of ${self.limit:,.2f} are used{self.said}"


def caps_of_run(recipe: Recipe, accelerator_seconds: float) -> list[Cap]:
    """The limits that the recipe itself promises to keep."""
    hours, limits, found = accelerator_seconds / 3600, recipe.limits, list[Cap]()
    if limits.dollars is not None:
        dollars = hours * recipe.hardware.dollars_per_accelerator_hour
        found.append(Cap("/limits/dollars", "dollars", limits.dollars, dollars, "budget", ""))
    if limits.hours is not None:
        found.append(Cap("/limits/hours", "hours", limits.hours, hours / recipe.hardware.world_size, "deadline", ""))
    return found


def caps_of_project(project_id: str, caps: Caps, spent: Spent, at: datetime) -> list[Cap]:
    found, day, month = list[Cap](), day_of(at), month_of(at)
    if caps.dollars_per_day is not None:
        said = f" by project {project_id!r} on {day.name} (UTC)"
        found.append(Cap("dollars_per_day", "dollars", caps.dollars_per_day, spent.today, "budget", said, day.name, day.end))
    if caps.dollars_per_month is not None:
        said = f" by project {project_id!r} in {month.name} (UTC)"
        found.append(Cap("dollars_per_month", "dollars", caps.dollars_per_month, spent.this_month, "budget", said, month.name, month.end))
    return found


def first_reached(caps: list[Cap]) -> Cap | None:
    """The cap to name when several are reached: the one that is closed for longest, a run's own limits before all."""
    reached = [cap for cap in caps if cap.reached]
    return max(reached, key=lambda cap: (cap.until is None, cap.until.timestamp() if cap.until else 0.0), default=None)


def due_warnings(caps: list[Cap], warned: Mapping[str, str]) -> list[Cap]:
    """Caps that are nearly used up and were not warned of yet; `warned`: name of a cap → the period it was last warned of."""
    return [cap for cap in caps if cap.used >= WARN_AT * cap.limit and warned.get(cap.name) != cap.period]


# ---- what a run will cost ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prediction:
    """What a whole run will take; None: nothing is known. `basis` says where the dollars come from."""

    hours: float | None = None
    dollars: float | None = None
    basis: str | None = None


def predict(recipe: Recipe, estimate: Mapping[str, Any] | None) -> Prediction:
    """The least of what the plan expects and what the recipe's limits allow: a run is paused when it reaches those.

    estimate: `hours` and `dollars`, each with `low`, `expected` and `high`.
    """
    hardware, limits = recipe.hardware, recipe.limits
    dollars_per_hour = hardware.world_size * hardware.dollars_per_accelerator_hour
    if estimate is not None:
        known = [("estimate", estimate["dollars"]["expected"])]
        hours = [estimate["hours"]["expected"]]
    else:
        known, hours = list[tuple[str, float]](), list[float]()
    if limits.dollars is not None:
        known.append(("/limits/dollars", limits.dollars))
        hours += [limits.dollars / dollars_per_hour] if dollars_per_hour else []
    if limits.hours is not None:
        known.append(("/limits/hours", limits.hours * dollars_per_hour))
        hours.append(limits.hours)
    if not dollars_per_hour:
        known.append(("/hardware/dollars_per_accelerator_hour", 0.0))
    basis, dollars = min(known, key=lambda one: one[1], default=(None, None))
    return Prediction(min(hours, default=None), dollars, basis)


def still_to_spend(predicted_dollars: float | None, spent: float) -> float:
    """What a run that is not over reserves."""
    return max(0.0, (predicted_dollars or 0.0) - spent)


# ---- admission ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Refusal:
    """Why a run is not taken: the place in the request, what was there, and the nearest that works."""

    at: str
    value: Any
    because: str
    nearest: list[Any]


def too_wide(recipe: Recipe, limit: int, whose: str) -> Refusal | None:
    """For a run that wants more accelerators at once than it can ever get."""
    hardware = recipe.hardware
    if hardware.world_size <= limit:
        return None
    nodes, each = hardware.nodes, hardware.processes_per_node
    because = f"{nodes} × {each} = {hardware.world_size} accelerators; {whose}"
    if each <= limit and nodes > 1:
        return Refusal("/recipe/hardware/nodes", nodes, because, [limit // each])
    return Refusal("/recipe/hardware/processes_per_node", each, because, [limit // nodes] if limit >= nodes else [])


def no_money(project_id: str, cap: float, spent: float, reserved: float, wanted: float | None, at: datetime) -> Refusal | None:
    """For a run that would cost more than the project's month has left. `wanted`: None where nothing is known of its cost."""
    left = cap - spent - reserved
    if left > 0 if wanted is None else wanted <= left + ROUNDING:
        return None
    needs = "what it will cost is not known" if wanted is None else f"it needs ${wanted:,.2f}"
    because = (
        f"{needs}; of the ${cap:,.2f} that project {project_id!r} has for {month_of(at).name} (UTC) ${spent:,.2f} are spent and "
        f"${reserved:,.2f} reserved: ${max(0.0, left):,.2f} are left"
    )
    cents = math.floor(left / A_CENT + ROUNDING) * A_CENT
    nearest = [round(cents, 2)] if wanted is not None and cents >= A_CENT else []
    return Refusal("/recipe/limits/dollars", wanted, because, nearest)


def refusals_of_new(
    recipe: Recipe, project_id: str, caps: Caps, in_all: int | None, this_month: float, reserved: float, wanted: float | None, at: datetime
) -> list[Refusal]:
    """Everything that keeps a new run out; nothing: it may be queued. `in_all`: accelerators that there are."""
    found: list[Refusal | None] = []
    if in_all is not None:
        found.append(too_wide(recipe, in_all, f"there are {in_all} in all"))
    if caps.accelerators is not None and (in_all is None or caps.accelerators < in_all):
        found.append(too_wide(recipe, caps.accelerators, f"project {project_id!r} may hold {caps.accelerators} at once"))
    if caps.dollars_per_month is not None:
        found.append(no_money(project_id, caps.dollars_per_month, this_month, reserved, wanted, at))
    return [one for one in found if one is not None]


def refusals_of_resumed(
    project_id: str, caps: Caps, spent: Spent, reserved_by_others: float, still_wanted: float | None, own: list[Cap], at: datetime
) -> list[Refusal]:
    """Everything that keeps a paused or failed run from going on: its own limits, the project's day, the project's month."""
    reached = [cap for cap in (*own, *caps_of_project(project_id, caps, spent, at)) if cap.reached]
    found: list[Refusal | None] = []
    for cap in reached:
        again = f"; there is room again from {cap.until:%Y-%m-%d %H:%M} UTC" if cap.until else "; a fork with another limit can go on"
        found.append(Refusal(cap.name, round(cap.used, 2), f"{cap.because}{again}", []))
    if caps.dollars_per_month is not None and not any(cap.name == "dollars_per_month" for cap in reached):
        short = no_money(project_id, caps.dollars_per_month, spent.this_month, reserved_by_others, still_wanted, at)
        found.append(short and Refusal("dollars_per_month", short.value, short.because, []))
    return [one for one in found if one is not None]
