"""What a launcher is: four verbs, and what can be observed. The reconciler knows nothing else of where a run trains."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol


class Launched(StrEnum):
    ABSENT = "absent"  # no such attempt was ever started here
    RUNNING = "running"
    ENDED = "ended"
    UNREACHABLE = "unreachable"  # cannot be told; never a reason to fail a run


@dataclass(frozen=True)
class Observation:
    """What a launcher sees of one attempt."""

    launched: Launched
    exit_code: int | None = None  # of the launched program, once ENDED; None when nobody was left to tell
    ended_at: datetime | None = None
    evidence: list[str] = field(default_factory=list[str])  # lines that say how it ended


@dataclass(frozen=True)
class Order:
    """One attempt to launch: all that a launcher may know of a run."""

    run_id: str
    attempt: int
    folder: str  # URL of the run's folder
    processes: int
    threads_per_process: int | None
    stop_seconds: float


class Launcher(Protocol):
    """Every verb may be called any number of times with the same attempt, by several callers, and after a crash of any of them."""

    def launch(self, order: Order) -> None:
        """Start the attempt unless it was started before; one attempt is one group of processes, whatever happens."""
        ...

    def observe(self, run_id: str, attempt: int) -> Observation: ...

    def stop(self, run_id: str, attempt: int, force: bool) -> None:
        """Ask the attempt to write a checkpoint and end; with `force`, end it now. An attempt that never began never will."""
        ...

    def logs(self, run_id: str, attempt: int) -> str | None:
        """What the launched program itself printed, beside the ranks' own logs in the run folder."""
        ...

    def manifest(self, order: Order) -> dict[str, Any]:
        """What `launch` starts, for people to read."""
        ...
