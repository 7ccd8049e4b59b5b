"""What the wire carries about draws."""

from typing import Any, Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, Field

from dayrun.run_folder import SampleImage
from service.jobs.schemas import Job, common
from service.jobs.tables import JobRow, JobState

DrawState = Literal["queued", "drawing", "done", "failed", "cancelled"]


class DrawnPicture(BaseModel):
    prompt: str
    seed: int
    guidance: float
    steps: int = Field(description="Euler steps from noise to picture.")
    ema: bool
    width: int
    height: int
    url: str


class Draw(Job):
    """Given prompts, drawn from a checkpoint."""

    state: DrawState
    request: dict[str, Any] = Field(description="What was asked for.")
    checkpoint: str | None = Field(description="Digest of the checkpoint, once something was drawn from it.")
    pictures: list[DrawnPicture] = Field(description="What has been drawn so far.")

    @property
    def etag(self) -> str:
        """Changes with every picture too."""
        return f'"{self.version}.{len(self.pictures)}"'

    @classmethod
    def of(cls, job: JobRow, checkpoint: str | None, images: list[SampleImage]) -> Self:
        state: Any = "drawing" if job.state == JobState.WORKING else str(job.state)
        at = f"/runs/{job.run_id}/draws/{job.id}"
        pictures = [DrawnPicture(**{**image, "url": f"{at}/{quote(image['file'])}"}) for image in images]  # pyright: ignore[reportArgumentType]
        return cls(**common(job), state=state, request=job.request, checkpoint=checkpoint, pictures=pictures)


class DrawPage(BaseModel):
    items: list[Draw]
    next: str | None
