"""What the wire carries about pictures of runs."""

from datetime import datetime

from pydantic import BaseModel, Field


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


class Pair(BaseModel):
    """The same prompt from the same noise."""

    set: str
    prompt: str
    seed: int
    samples: list[Sample | None] = Field(description="One a run, in the order of `runs`; null where a run has not drawn it.")


class Comparison(BaseModel):
    runs: list[str]
    steps: list[int | None] = Field(description="The step of each run that is shown: the nearest to the one asked for.")
    pairs: list[Pair]
