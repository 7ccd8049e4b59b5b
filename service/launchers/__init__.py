"""What a launcher is: a few verbs, and what can be observed. The reconciler knows nothing else of where a run trains."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from dayrun.plan import Change, Finding, Verdict
from dayrun.recipe import Recipe
from dayrun.recipe_errors import RecipeError
from dayrun.run_folder import Cause


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
    cause: Cause | None = None  # what the machines say, where they know it
    is_broken: bool = False  # it has not ended, and can only be ended: a member is lost, or will never come
    waits_for: tuple[str, str] | None = None  # a code and a sentence, while it runs and does not train yet
    bad_nodes: list[str] = field(default_factory=list[str])  # where the next attempt should not go


@dataclass(frozen=True)
class Order:
    """One attempt to launch: all that a launcher may know of a run."""

    run_id: str
    attempt: int
    folder: str  # URL of the run's folder
    recipe: Recipe
    stop_seconds: float
    project: str = "default"
    avoid_nodes: tuple[str, ...] = ()
    deadline_seconds: float | None = None  # after which the machines end it by themselves
    environment: Mapping[str, str] = field(default_factory=dict[str, str])  # variables of its processes, beside the launcher's own


class Programs(Protocol):
    """Where programs of the trainer run that are no attempts: pictures on request, exports. As repeatable as a launcher's verbs."""

    place: str
    """Whose programs they are: a worker looks after those of its own place."""

    def start(self, job_id: str, arguments: list[str]) -> None:
        """Run `python ARGUMENTS` unless it was started, or stopped, before."""
        ...

    def observe(self, job_id: str) -> Observation: ...

    def stop(self, job_id: str, force: bool) -> None:
        """Ask it to end, or end it; one that has not begun never will."""
        ...


class Unsuitable(Exception):
    """Nothing here could ever train the recipe. `at`: JSON pointer into it; `nearest`: values that work."""

    def __init__(self, at: str, value: Any, because: str, nearest: list[Any]) -> None:
        self.at, self.value, self.because, self.nearest = at, value, because, nearest
        super().__init__(f"{at}: {because}")

    @property
    def error(self) -> RecipeError:
        return RecipeError(self.at, self.value, self.because, self.nearest)

    @property
    def changes(self) -> list[Change]:
        return [Change(at=self.at, value=value) for value in self.nearest]


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
        """What `launch` starts, for people to read. Raises Unsuitable."""
        ...

    def must_suit(self, recipe: Recipe) -> None:
        """Raises Unsuitable for what can never be launched here, however much is free. Asks nobody."""
        ...

    def verdicts(self, order: Order) -> list[Verdict]:
        """What here stands against it, as far as it can be told in two seconds and without starting anything. May block as long."""
        ...

    def preflight(self, order: Order, with_nodes: bool) -> list[Finding]:
        """What is found where it would be launched by starting something small, and with `with_nodes` a group of its own shape for seconds.

        Takes up to three minutes, and leaves nothing. The order's folder, which must be nobody's, is written to.
        """
        ...

    def old(self, at: datetime) -> list[tuple[str, int]]:
        """(run, attempt) of which something is kept, and has been for longer at `at` than anybody looks back."""
        ...

    def forget(self, run_id: str, attempt: int) -> None:
        """Remove what is kept of an attempt that is over."""
        ...

    def unfinished(self) -> list[tuple[str, int]]:
        """(run, attempt) of everything that is there and not over, as far as is known without asking for each."""
        ...
