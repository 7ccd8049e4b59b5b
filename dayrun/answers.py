"""What the service answers, as `client.py` returns it: runs and what they leave behind, money, people, work on checkpoints."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from dayrun.run_folder import Cause

State = Literal["queued", "launching", "running", "pausing", "paused", "cancelling", "cancelled", "succeeded", "failed"]
Move = Literal["pause", "resume", "cancel"]
MemberRole = Literal["viewer", "writer", "admin"]
KeyRole = Literal[MemberRole, "operator"]
OVER: tuple[State, ...] = ("cancelled", "succeeded", "failed")


class Parent(BaseModel):
    """Where a forked run began."""

    run: str
    step: int
    weights: Literal["all", "model", "ema"]


class Difference(BaseModel):
    """One place where two recipes differ; a field that one of them lacks is None there."""

    model_config = ConfigDict(populate_by_name=True)

    pointer: str
    before: Any = Field(alias="from")
    after: Any = Field(alias="to")


class Progress(BaseModel):
    step: int
    total_steps: int
    fraction: float
    stage: str | None = None
    loss: float | None = None
    images_per_second: float | None = None
    eta_seconds: float | None = None


class Cost(BaseModel):
    accelerator_hours: float
    dollars: float


class Waiting(BaseModel):
    """Why a queued run has not begun: a code, a sentence, its place (1 is next), and when it may begin if that is known."""

    code: str
    because: str
    place: int | None = None
    expected_start: datetime | None = None


class Run(BaseModel):
    """A run as the service tells of it; `recipe`, `moves` and `evidence` are there when one run was asked for, `diff` when it was
    just forked."""

    id: str
    project: str = "default"
    name: str
    labels: dict[str, str]
    state: State
    cause: Cause | None = None
    evidence: list[str] = []
    attempt: int
    attempts_allowed: int | None = None
    next_attempt_at: datetime | None = None
    priority: int = 0
    waiting: Waiting | None = None
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    updated_at: datetime | None = None
    progress: Progress
    cost: Cost
    version: int
    parent: Parent | None = None
    recipe: dict[str, Any] | None = None
    moves: list[Move] | None = None
    diff: list[Difference] | None = None

    @property
    def over(self) -> bool:
        """Whether the run has reached a state that it leaves only when somebody resumes it."""
        return self.state in OVER


class Event(BaseModel):
    """A link of a run's chain: `dayrun.event_chain` says what its digest is made of."""

    run_id: str
    sequence: int
    time: datetime
    type: str
    attempt: int
    step: int | None = None
    actor: str | None = None
    request_id: str | None = None
    data: dict[str, Any]
    digest: str


class Chain(BaseModel):
    """Where a run's chain of events begins and ends."""

    length: int
    digest: str | None = None
    forgotten: int = 0
    forgotten_digest: str | None = None


class Sample(BaseModel):
    step: int
    set: str
    prompt: str
    seed: int
    guidance: float
    steps: int
    ema: bool
    checkpoint: str | None = None
    width: int
    height: int
    time: datetime
    url: str


class Checkpoint(BaseModel):
    step: int
    attempt: int
    time: datetime
    bytes: int
    world_size: int
    digest: str


class Key(BaseModel):
    """An API key as the service tells of it; `key` itself is there only in the answer that made it."""

    id: str
    name: str
    role: KeyRole
    project: str | None = None
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None
    key: str | None = Field(default=None, repr=False)


class Project(BaseModel):
    id: str
    name: str
    archived: bool
    accelerators: int | None = None
    dollars_per_day: float | None = None
    dollars_per_month: float | None = None
    created_at: datetime
    created_by: str
    version: int


class Member(BaseModel):
    subject: str
    role: MemberRole
    added_at: datetime
    added_by: str


class Planned(BaseModel):
    """What a run would be, take and cost. `estimate` and `verdicts` are those of `dayrun.plan`, as JSON."""

    tag: str
    recipe: dict[str, Any]
    estimate: dict[str, Any]
    verdicts: list[dict[str, Any]]
    manifest: dict[str, Any] | None
    can_start: bool


class Preflight(BaseModel):
    """What a cluster showed when it was tried. `findings` are those of `dayrun.plan`, as JSON."""

    findings: list[dict[str, Any]]
    can_start: bool


class RunEstimate(BaseModel):
    """Predicted, renewed and compared figures of a run, as `dayrun.estimate` and `dayrun.calibration` have them, as JSON."""

    predicted: dict[str, Any] | None = None
    renewed: dict[str, Any] | None = None
    comparison: list[dict[str, Any]]
    as_of: datetime


class AttemptCost(BaseModel):
    attempt: int
    accelerators: int
    dollars_per_accelerator_hour: float
    held_from: datetime
    held_until: datetime | None = None
    accelerator_hours: float
    dollars: float


class Predicted(BaseModel):
    hours: float | None = None
    dollars: float
    basis: str


class CapLeft(BaseModel):
    name: str
    unit: Literal["dollars", "hours"]
    period: str | None = None
    limit: float
    used: float
    left: float


class RunCost(BaseModel):
    """What a run has cost by attempt, what it is predicted to cost, and what its limits leave."""

    run: str
    project: str
    accelerators: int
    dollars_per_accelerator_hour: float
    accelerator_hours: float
    dollars: float
    dollars_per_hour: float
    attempts: list[AttemptCost]
    predicted: Predicted | None = None
    reserved_dollars: float
    caps: list[CapLeft]


class ProjectCaps(BaseModel):
    accelerators: int | None = None
    dollars_per_day: float | None = None
    dollars_per_month: float | None = None


class RunUsage(BaseModel):
    run: str
    name: str
    state: State
    accelerator_hours: float
    dollars: float


class DayUsage(BaseModel):
    day: str
    dollars: float


class ProjectUsage(BaseModel):
    """What a project spends, holds, reserves and may. Days and months are UTC's."""

    project: str
    at: datetime
    dollars_today: float
    dollars_this_month: float
    dollars_per_hour: float
    accelerators_held: int
    reserved_dollars: float
    runs_without_prediction: int
    caps: ProjectCaps
    left_today: float | None = None
    left_this_month: float | None = None
    days: list[DayUsage]
    runs: list[RunUsage]
    more_runs: int


class JobError(BaseModel):
    cause: str
    because: str
    evidence: list[str]


class Job(BaseModel):
    """Work on a checkpoint, beside the training."""

    id: str
    run: str
    step: int
    state: Literal["queued", "drawing", "exporting", "done", "failed", "cancelled"]
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error: JobError | None = None
    version: int

    @property
    def over(self) -> bool:
        return self.state in ("done", "failed", "cancelled")


class DrawnPicture(BaseModel):
    prompt: str
    seed: int
    guidance: float
    steps: int
    ema: bool
    width: int
    height: int
    url: str


class Draw(Job):
    """Given prompts, drawn from a checkpoint."""

    checkpoint: str | None = None
    pictures: list[DrawnPicture]


class ExportedFile(BaseModel):
    path: str
    bytes: int
    sha256: str
    url: str


class Export(Job):
    """A diffusers folder made from a checkpoint."""

    checkpoint: str | None = None
    ema: bool | None = None
    bytes: int
    files: list[ExportedFile]


class Cancelled(BaseModel):
    """What became of one run that was to be cancelled."""

    id: str
    state: str
    cancelled: bool
    because: str | None = None


class StoredRecipe(BaseModel):
    """A version of a recipe that a project keeps."""

    name: str
    project: str
    version: int
    recipe: dict[str, Any]
