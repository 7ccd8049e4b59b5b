"""What the wire carries about money."""

from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, Field

from service.projects.budget import Cap


class AttemptCost(BaseModel):
    """One line of the ledger."""

    attempt: int
    accelerators: int
    dollars_per_accelerator_hour: float
    held_from: datetime
    held_until: datetime | None = Field(description="null while it holds them.")
    accelerator_hours: float
    dollars: float


class Predicted(BaseModel):
    """What the whole run is expected to take."""

    hours: float | None
    dollars: float
    basis: str = Field(description="`estimate`: its plan; else the field of the recipe that bounds it.")


class CapLeft(BaseModel):
    """Something that can be used up. At its limit a run writes a checkpoint and is paused."""

    name: str = Field(description="A field of the recipe (`/limits/dollars`) or of the project (`dollars_per_day`).")
    unit: Literal["dollars", "hours"]
    period: str | None = Field(description="Day or month (UTC) that it is for; null: the whole run.")
    limit: float
    used: float
    left: float

    @classmethod
    def of(cls, cap: Cap) -> Self:
        return cls(name=cap.name, unit=cap.unit, period=cap.period or None, limit=cap.limit, used=cap.used, left=cap.left)


class RunCost(BaseModel):
    """What a run has cost, and what it will."""

    run: str
    project: str
    accelerators: int
    dollars_per_accelerator_hour: float
    accelerator_hours: float = Field(description="So far, the attempt under way included.")
    dollars: float = Field(description="So far.")
    dollars_per_hour: float = Field(description="That burn now: 0 while it holds nothing.")
    attempts: list[AttemptCost]
    predicted: Predicted | None = Field(description="null: nothing is known, and nothing is reserved for it.")
    reserved_dollars: float = Field(description="Of its project's month, for what is still to come.")
    caps: list[CapLeft] = Field(description="Of its recipe, then of its project.")


class ProjectCaps(BaseModel):
    """null: no limit."""

    accelerators: int | None
    dollars_per_day: float | None
    dollars_per_month: float | None


class RunUsage(BaseModel):
    run: str
    name: str
    state: str
    accelerator_hours: float
    dollars: float


class DayUsage(BaseModel):
    day: str
    dollars: float


class ProjectUsage(BaseModel):
    """What a project spends. Days and months are UTC's."""

    project: str
    at: datetime
    dollars_today: float
    dollars_this_month: float
    dollars_per_hour: float = Field(description="That burn now.")
    accelerators_held: int
    reserved_dollars: float = Field(description="For what its runs that are not over are still expected to cost.")
    runs_without_prediction: int = Field(description="Runs that are not over and reserve nothing: nothing is known of their cost.")
    caps: ProjectCaps
    left_today: float | None = Field(description="null: no limit.")
    left_this_month: float | None = Field(description="After what is spent and reserved; null: no limit.")
    days: list[DayUsage] = Field(description="Of this month, without those on which nothing was spent.")
    runs: list[RunUsage] = Field(description="This month, the dearest first.")
    more_runs: int = Field(description="Runs that cost something this month and are not listed.")
