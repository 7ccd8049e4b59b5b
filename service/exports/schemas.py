"""What the wire carries about exports."""

from typing import Any, Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, Field

from dayrun.run_folder import ExportManifest
from service.jobs.schemas import Job, common
from service.jobs.tables import JobRow, JobState

ExportState = Literal["queued", "exporting", "done", "failed", "cancelled"]


class NewExport(BaseModel):
    """A checkpoint to be exported."""

    model_config = {"extra": "forbid"}

    step: int | None = Field(strict=True, default=None, ge=0, description="Of the checkpoint; null: the newest.")


class ExportedFile(BaseModel):
    path: str
    bytes: int
    sha256: str
    url: str


class Export(Job):
    """A diffusers folder made from a checkpoint."""

    state: ExportState
    checkpoint: str | None = Field(description="Digest of the checkpoint, once the export is done.")
    ema: bool | None = Field(description="Whether it holds the averaged weights.")
    bytes: int = Field(description="Of all files.")
    files: list[ExportedFile] = Field(description="All there are, once the export is done.")

    @classmethod
    def of(cls, job: JobRow, manifest: ExportManifest | None) -> Self:
        state: Any = "exporting" if job.state == JobState.WORKING else str(job.state)
        at = f"/runs/{job.run_id}/exports/{job.id}/files"
        files = [
            ExportedFile(path=path, bytes=about["bytes"], sha256=about["sha256"], url=f"{at}/{quote(path)}")
            for path, about in sorted(manifest["files"].items() if manifest else [])
        ]
        told = (manifest["checkpoint"], manifest["ema"]) if manifest else (None, None)
        total = sum(file.bytes for file in files)
        return cls(**common(job), state=state, checkpoint=told[0], ema=told[1], bytes=total, files=files)


class ExportPage(BaseModel):
    items: list[Export]
    next: str | None
