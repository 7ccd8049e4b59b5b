"""What the service answers about work on a run's checkpoints: where a fork began, draws, exports. As `client.py` returns it."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


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
