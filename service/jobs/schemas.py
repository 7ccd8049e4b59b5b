"""What the wire carries about every job."""

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, Field

from service.http.etags import version_tag
from service.jobs.tables import JobRow


class JobError(BaseModel):
    """Why a job came to nothing."""

    cause: str
    because: str
    evidence: list[str] = []

    @classmethod
    def of(cls, because: dict[str, Any] | None) -> Self | None:
        return cls(**because) if because else None


class Job(BaseModel):
    """Work on a checkpoint of a run, beside its training."""

    id: str
    run: str
    step: int = Field(description="Of the checkpoint.")
    created_by: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    error: JobError | None
    version: int

    @property
    def etag(self) -> str:
        return version_tag(self.version)


def common(job: JobRow) -> dict[str, Any]:
    """The fields of `Job`."""
    same = ("id", "step", "created_by", "created_at", "started_at", "ended_at", "version")
    return {**{name: getattr(job, name) for name in same}, "run": job.run_id, "error": JobError.of(job.because)}
