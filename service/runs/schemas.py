"""What the wire carries about runs."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field
from pydantic_core import to_json

from dayrun.run_folder import Cause, Weights
from service.access import DEFAULT_PROJECT
from service.database import now
from service.runs.cost import used_accelerator_seconds
from service.runs.placement import Code
from service.runs.states import Move, State, personal_moves
from service.runs.tables import RunRow

Label = Annotated[str, Field(min_length=1, max_length=63)]
Priority = Annotated[int, Field(strict=True, ge=-100, le=100, description="Higher ones leave the queue first. Above 0 takes an admin.")]


class NewRun(BaseModel):
    """A run to be made. `recipe` and `overrides` are checked by dayrun itself, so that every error has its pointer and nearest value."""

    model_config = {"extra": "forbid"}

    recipe: Any = Field(description="Name of a built-in or stored recipe (`mine`, `mine@3`), or a recipe as in docs/recipe.schema.json.")
    overrides: dict[str, Any] | None = Field(default=None, description="JSON Merge Patch (RFC 7396) onto the recipe.")
    labels: dict[Label, Label] = Field(default={}, max_length=20)
    project: str = Field(default=DEFAULT_PROJECT, min_length=1, max_length=40, description="Whose run it is.")
    priority: Priority = 0


class Progress(BaseModel):
    step: int = Field(description="Optimizer steps done.")
    total_steps: int
    fraction: float
    stage: str | None = None
    loss: float | None = None
    images_per_second: float | None = None
    eta_seconds: float | None = Field(default=None, description="Seconds of training left at the present speed; null when not training.")


class Cost(BaseModel):
    accelerator_hours: float = Field(description="Hours × accelerators (on a CPU: processes) held so far.")
    dollars: float


class Waiting(BaseModel):
    """Why a queued run has not begun."""

    code: Code
    because: str
    place: int | None = Field(default=None, description="In the queue, 1 is next; null for one that stands in no line, or far behind.")
    expected_start: datetime | None = Field(default=None, description="If all goes as expected; null: unknown.")


class Parent(BaseModel):
    """Where a forked run began."""

    run: str
    step: int
    weights: Weights = Field(description="`all`: it went on there; `model`, `ema`: these weights were its first, at step 0.")


class RunSummary(BaseModel):
    """A recipe being trained, as a list tells of it: what is null is left out there."""

    id: str
    project: str
    name: str
    labels: dict[str, str]
    state: State
    cause: Cause | None = Field(default=None, description="Why it failed, was paused by a limit, or why the last attempt ended.")
    attempt: int = Field(description="Number of the newest launch, 0 before the first.")
    priority: int
    waiting: Waiting | None = Field(default=None, description="What a queued run waits for; null in every other state.")
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    progress: Progress
    cost: Cost
    parent: Parent | None = None
    version: int


def summary(run: Any, at: datetime) -> dict[str, Any]:
    """The fields of a `RunSummary` at the instant `at`. `run`: a row, or the columns of `listing.SUMMARY`.

    Plain values, not models: a page holds hundreds, and nothing that comes out of our own database needs to be checked again.
    """
    hours = used_accelerator_seconds(run, at) / 3600
    training = run.state == State.RUNNING and run.step_seconds is not None
    return {
        "id": run.id,
        "project": run.project_id,
        "name": run.name,
        "labels": run.labels,
        "state": run.state,
        "cause": run.cause,
        "attempt": run.attempt,
        "priority": run.priority,
        "waiting": run.waiting,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "progress": {
            "step": run.step,
            "total_steps": run.total_steps,
            "fraction": round(run.step / run.total_steps, 6),
            "stage": run.stage,
            "loss": run.loss,
            "images_per_second": run.images_per_second,
            "eta_seconds": round((run.total_steps - run.step) * (run.step_seconds or 0.0), 3) if training else None,
        },
        "cost": {"accelerator_hours": round(hours, 9), "dollars": round(hours * run.dollars_per_accelerator_hour, 9)},
        "parent": {"run": run.parent_run_id, "step": run.parent_step, "weights": run.parent_weights} if run.parent_run_id else None,
        "version": run.version,
    }


def present(values: dict[str, Any]) -> dict[str, Any]:
    """`values` without what is null."""
    return {name: present(value) if name in NESTED else value for name, value in values.items() if value is not None}


NESTED = ("progress", "waiting")


def lean_page(rows: Sequence[Any], following: str | None) -> bytes:
    """A `RunPage` as JSON, without what is null in the runs: half a page is nulls otherwise."""
    at = now()
    return to_json({"items": [present(summary(row, at)) for row in rows], "next": following}, inf_nan_mode="null")


class Run(RunSummary):
    """The same, with everything that was asked for."""

    updated_at: datetime
    evidence: list[str]
    attempts_allowed: int
    next_attempt_at: datetime | None
    recipe: dict[str, Any] = Field(description="The effective recipe: overrides merged in, defaults written out.")
    moves: list[Move] = Field(description="What may be asked of the run now.")

    @classmethod
    def of(cls, run: RunRow) -> Self:
        return cls.model_validate(whole(run, now()))

    @staticmethod
    def json_of(run: RunRow) -> bytes:
        """The same as it goes over the wire, without a model in between."""
        return to_json(whole(run, now()), inf_nan_mode="null")


def whole(run: RunRow, at: datetime) -> dict[str, Any]:
    """The fields of a `Run` at the instant `at`, as plain values."""
    more = {name: getattr(run, name) for name in ("updated_at", "evidence", "attempts_allowed", "next_attempt_at", "recipe")}
    return {**summary(run, at), **more, "moves": personal_moves(State(run.state))}


class RunPage(BaseModel):
    items: list[RunSummary]
    next: str | None = Field(description="Cursor of the next page; the Link header holds its address.")


class BulkCancel(BaseModel):
    """Which runs to cancel: those that fit everything that is given. At least one thing must be."""

    model_config = {"extra": "forbid"}

    state: list[State] = Field(default=[], max_length=20)
    labels: dict[Label, Label] = Field(default={}, max_length=10)
    project: str | None = Field(default=None, min_length=1, max_length=40)


class Cancelled(BaseModel):
    """What became of one run."""

    id: str
    state: State = Field(description="Its state now.")
    cancelled: bool = Field(description="Whether this request has changed it.")
    because: str | None = Field(default=None, description="Why not.")


class BulkCancelled(BaseModel):
    items: list[Cancelled]
    more: bool = Field(description="There are more than were taken at once: ask again.")


class Metrics(BaseModel):
    series: dict[str, list[tuple[int, float, datetime]]] = Field(description="Name → [step, value, time], by step.")


class Checkpoint(BaseModel):
    step: int
    attempt: int
    time: datetime
    bytes: int
    world_size: int
    digest: str


class Checkpoints(BaseModel):
    items: list[Checkpoint]
