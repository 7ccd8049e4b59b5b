"""What the facts of a run come to: its attempts and what each cost, whether its promises were kept, what went wrong. Pure."""

import statistics
from datetime import timedelta
from typing import Any, NamedTuple

from dayrun.answers import AttemptCost, CapLeft, Event
from dayrun.client import Point
from dayrun.event_types import EVENT_TYPES
from dayrun.report.gather import Facts

FAULTS = (
    "step_skipped",
    "loss_spike",
    "rolled_back",
    "straggler",
    "hang",
    "micro_batch_reduced",
    "checkpoint_failed",
    "checkpoint_rejected",
    "samples_failed",
    "samples_postponed",
    "evaluation_failed",
    "bad_samples",
    "export_failed",
    "draw_failed",
    "stop_forced",
)
"""Events of what went wrong while the training went on; what ended an attempt stands with the attempts."""
ENDINGS = {"retry": "failed; tried again", "fail": "failed for good", "succeed": "reached the end", "stopped": "stopped"}


class Attempt(NamedTuple):
    """One launch: where it began and ended, why, and what of it is not in the result."""

    number: int
    began_at: int
    """Step of the checkpoint that it went on from; 0 is the start."""
    reached: int
    cost: AttemptCost | None
    ending: str
    cause: str | None
    evidence: list[str]
    lost_steps: int
    """In no checkpoint that was gone on from: done again by the next attempt, or, of a run that ended badly, for nothing."""

    @property
    def lost_dollars(self) -> float:
        """What the lost steps cost, by their share of the attempt's; all of an attempt that was a fault and kept no step."""
        if self.cost is None or (not self.lost_steps and self.cause is None):
            return 0.0
        done = self.reached - self.began_at
        return self.cost.dollars * (self.lost_steps / done if done > 0 else 1.0)


def attempts(facts: Facts) -> list[Attempt]:
    """Every attempt of the log, oldest first."""
    costs = {one.attempt: one for one in facts.cost.attempts}
    by_number: dict[int, list[Event]] = {}
    for event in facts.events:
        if event.attempt:
            by_number.setdefault(event.attempt, []).append(event)
    numbers = sorted(by_number.keys() | costs.keys())
    began = {number: began_at(by_number.get(number, [])) for number in numbers}
    found: list[Attempt] = []
    for number in numbers:
        own = by_number.get(number, [])
        reached = max((event.step or 0 for event in own), default=0)
        end = next((event for event in reversed(own) if event.type == "state_changed" and event.data.get("move") in ENDINGS), None)
        kept = began[number + 1] if number + 1 in began else kept_in_the_end(facts)
        lost = max(0, reached - kept) if kept is not None else 0
        data: dict[str, Any] = end.data if end else {}
        ending = ENDINGS[data["move"]] if end else "under way"
        found.append(Attempt(number, began[number], reached, costs.get(number), ending, data.get("cause"), data.get("evidence", []), lost))
    return found


def kept_in_the_end(facts: Facts) -> int | None:
    """The step that the last attempt leaves behind; None where nothing of it is lost: it reached the end, or is under way."""
    if facts.run.state not in ("failed", "cancelled", "paused"):
        return None
    return facts.checkpoints[-1].step if facts.checkpoints else 0


def began_at(events: list[Event]) -> int:
    return next((event.data.get("checkpoint") or 0 for event in events if event.type == "resumed"), 0)


class Promise(NamedTuple):
    """A limit of the recipe, and what was used of it."""

    cap: CapLeft

    @property
    def kept(self) -> bool:
        return self.cap.used <= self.cap.limit


def promises(facts: Facts) -> list[Promise]:
    return [Promise(cap) for cap in facts.cost.caps if cap.name.startswith("/limits/")]


def promises_said(facts: Facts) -> str:
    """Of the limits: kept, broken, or none was promised."""
    found = promises(facts)
    if not found:
        return "its recipe promises no limit"
    broken = [one.cap.name for one in found if not one.kept]
    if broken:
        return f"it passed {' and '.join(broken)}"
    so_far = "" if facts.run.over else " so far"
    names = " and ".join(one.cap.name for one in found)
    return f"{names} {'were' if len(found) > 1 else 'was'} kept{so_far}"


class Fault(NamedTuple):
    """Events of one type."""

    type: str
    meaning: str
    events: list[Event]

    @property
    def steps(self) -> str:
        steps = [event.step for event in self.events if event.step is not None]
        if not steps:
            return "–"
        return f"{min(steps):,}" if min(steps) == max(steps) else f"{min(steps):,} to {max(steps):,}"

    @property
    def last(self) -> str:
        """What the newest one said, in its own names."""
        said = self.events[-1].data.items()
        return ", ".join(f"{key} {text(value)}" for key, value in said if value not in (None, "", []))


def faults(facts: Facts) -> list[Fault]:
    found = [Fault(name, EVENT_TYPES[name].meaning, facts.of_type(name)) for name in FAULTS]
    return [fault for fault in found if fault.events]


def held_time(facts: Facts) -> timedelta:
    """How long machines were held, over all attempts."""
    return sum(((one.held_until or facts.at) - one.held_from for one in facts.cost.attempts), timedelta())


def start_and_end(facts: Facts, name: str) -> tuple[float, float] | None:
    """Where a noisy curve began and where it stands: medians of its first and last twentieth."""
    values = [value for _, value, _ in facts.series.get(name, [])]
    if not values:
        return None
    some = max(1, len(values) // 20)
    return statistics.median(values[:some]), statistics.median(values[-some:])


def typical(points: list[Point]) -> float | None:
    return statistics.median(value for _, value, _ in points) if points else None


def score_names(facts: Facts) -> list[str]:
    """Evaluation's figures, without their parts by time."""
    families = ("validation_loss_", "fid_", "cmmd_", "dino_mmd_", "prompt_alignment_")
    return [name for name in sorted(facts.series) if name.startswith(families) and "_time_" not in name and facts.series[name]]


def text(value: Any) -> str:
    """A value of an event in a line: short, whatever it is."""
    if isinstance(value, float):
        return f"{value:.4g}"
    written = str(value)
    return written if len(written) <= 160 else written[:159] + "…"
