"""What the wire carries about runs."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field

from dayrun.run_folder import Cause
from service.access import DEFAULT_PROJECT
from service.database import now
from service.runs.cost import used_accelerator_seconds
from service.runs.placement import Code
from service.runs.states import Move, State, personal_moves
from service.runs.tables import EventRow, RunRow

Label = Annotated[str, Field(min_length=1, max_length=63)]
Priority = Annotated[int, Field(ge=-100, le=100, description="Higher ones leave the queue first. Above 0 takes an admin.")]


class NewRun(BaseModel):
    """A run to be made. `recipe` and `overrides` are checked by dayrun itself, so that every error has its pointer and nearest value."""

    model_config = {"extra": "forbid"}

    recipe: Any = Field(description="Name of a built-in recipe, or a recipe as in docs/recipe.schema.json.")
    overrides: dict[str, Any] | None = Field(default=None, description="JSON Merge Patch (RFC 7396) onto the recipe.")
    labels: dict[Label, Label] = Field(default={}, max_length=20)
    project: str = Field(default=DEFAULT_PROJECT, min_length=1, max_length=40, description="Whose run it is.")
    priority: Priority = 0


class Progress(BaseModel):
    step: int = Field(description="Optimizer steps done.")
    total_steps: int
    fraction: float
    stage: str | None
    loss: float | None
    images_per_second: float | None
    eta_seconds: float | None = Field(description="Seconds of training left at the present speed; null when not training.")


class Cost(BaseModel):
    accelerator_hours: float = Field(description="Hours × accelerators (on a CPU: processes) held so far.")
    dollars: float


class Waiting(BaseModel):
    """Why a queued run has not begun."""

    code: Code
    because: str
    place: int | None = Field(default=None, description="In the queue, 1 is next; null for one that stands in no line, or far behind.")
    expected_start: datetime | None = Field(default=None, description="If all goes as expected; null: unknown.")


class RunSummary(BaseModel):
    """A recipe being trained."""

    id: str
    project: str
    name: str
    labels: dict[str, str]
    state: State
    cause: Cause | None = Field(description="Why it failed, was paused by a limit, or why the last attempt ended.")
    evidence: list[str]
    attempt: int = Field(description="Number of the newest launch, 0 before the first.")
    attempts_allowed: int
    next_attempt_at: datetime | None
    priority: int
    waiting: Waiting | None = Field(description="What a queued run waits for; null in every other state.")
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    updated_at: datetime
    progress: Progress
    cost: Cost
    version: int

    @classmethod
    def of(cls, run: RunRow) -> Self:
        hours = used_accelerator_seconds(run, now()) / 3600
        training = run.state == State.RUNNING and run.step_seconds is not None
        return cls(
            **{
                name: getattr(run, name)
                for name in ("id", "name", "labels", "state", "cause", "evidence", "attempt", "attempts_allowed", "next_attempt_at")
            },
            **{name: getattr(run, name) for name in ("created_at", "started_at", "ended_at", "updated_at", "version")},
            project=run.project_id,
            priority=run.priority,
            waiting=Waiting.model_validate(run.waiting) if run.waiting else None,
            progress=Progress(
                step=run.step,
                total_steps=run.total_steps,
                fraction=run.step / run.total_steps,
                stage=run.stage,
                loss=run.loss,
                images_per_second=run.images_per_second,
                eta_seconds=(run.total_steps - run.step) * (run.step_seconds or 0.0) if training else None,
            ),
            cost=Cost(accelerator_hours=hours, dollars=hours * run.dollars_per_accelerator_hour),
        )


class Run(RunSummary):
    """The same, with everything that was asked for."""

    recipe: dict[str, Any] = Field(description="The effective recipe: overrides merged in, defaults written out.")
    moves: list[Move] = Field(description="What may be asked of the run now.")

    @classmethod
    def of(cls, run: RunRow) -> Self:
        return cls(**RunSummary.of(run).model_dump(), recipe=run.recipe, moves=personal_moves(State(run.state)))


class RunPage(BaseModel):
    items: list[RunSummary]
    next: str | None = Field(description="Cursor of the next page; the Link header holds its address.")


class Event(BaseModel):
    id: int
    time: datetime
    type: str
    attempt: int
    step: int | None
    data: dict[str, Any]

    @classmethod
    def of(cls, row: EventRow) -> Self:
        return cls(**{name: getattr(row, name) for name in cls.model_fields})


class EventPage(BaseModel):
    items: list[Event]
    next: str | None


class Metrics(BaseModel):
    series: dict[str, list[tuple[int, float, datetime]]] = Field(description="Name → [step, value, time], by step.")


class Sample(BaseModel):
    step: int
    set: str
    prompt: str
    seed: int
    guidance: float
    steps: int = Field(description="Euler steps from noise to picture.")
    ema: bool
    checkpoint: str | None = Field(description="Digest of the checkpoint of the same step, when there is one.")
    width: int
    height: int
    time: datetime
    url: str


class SamplePage(BaseModel):
    items: list[Sample]
    next: str | None


class Checkpoint(BaseModel):
    step: int
    attempt: int
    time: datetime
    bytes: int
    world_size: int
    digest: str


class Checkpoints(BaseModel):
    items: list[Checkpoint]


class RecipeSummary(BaseModel):
    name: str
    description: str
    extends: str | None


class Recipes(BaseModel):
    items: list[RecipeSummary]
