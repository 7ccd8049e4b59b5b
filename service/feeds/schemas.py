"""What the wire carries of the event log."""

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, Field

from service.events import Told
from service.runs.tables import EventRow, RunRow


class Event(BaseModel):
    """A link of a run's chain; docs/events.md says how its digest is made."""

    run_id: str
    sequence: int = Field(description="1, 2, … within the run.")
    time: datetime
    type: str
    attempt: int
    step: int | None
    actor: str | None = Field(description="Who did it; null: the trainer.")
    request_id: str | None = Field(description="The request that caused it.")
    data: dict[str, Any]
    digest: str

    @classmethod
    def of(cls, row: EventRow) -> Self:
        return cls(**{name: getattr(row, name) for name in Event.model_fields})


class RunEvent(Event):
    """The same among those of all runs."""

    position: str = Field(description="Its place in the log of all runs: a cursor.")
    project: str
    run_name: str

    @classmethod
    def told(cls, told: Told) -> Self:
        of_run = Event.of(told.event).model_dump()
        return cls(**of_run, position=str(told.position), project=told.project_id, run_name=told.run_name)


class Chain(BaseModel):
    """Where the run's chain begins and ends; compare it with one that you noted before."""

    length: int = Field(description="Events recorded so far.")
    digest: str | None = Field(description="Of the last of them.")
    forgotten: int = Field(description="The oldest events that are kept no longer.")
    forgotten_digest: str | None = Field(description="Of the last of those: the first event that is left hangs on it.")

    @classmethod
    def of(cls, run: RunRow) -> Self:
        return cls(length=run.chain_length, digest=run.chain_digest, forgotten=run.pruned_length, forgotten_digest=run.pruned_digest)


class EventPage(BaseModel):
    items: list[Event]
    next: str | None
    chain: Chain


class RunEventPage(BaseModel):
    items: list[RunEvent]
    next: str | None
