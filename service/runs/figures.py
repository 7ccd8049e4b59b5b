"""The newest figures of a run, kept in its row for whoever wants only those: /metrics asks for all runs at once, every few seconds.

Pure: the row's document before, what a look at the run folder found, the document after. Its size is bounded, however long the run.
"""

from collections.abc import Iterable
from copy import deepcopy
from typing import Required, TypedDict

from dayrun.run_folder import Event, Metric
from service.metrics.catalogue import MOST_RANKS, MOST_SCORES
from service.metrics.names import BESIDE, KEPT, RANK_SECONDS, TROUBLES


class Saved(TypedDict):
    """A checkpoint."""

    step: int
    time: float
    seconds: float
    stalled_seconds: float
    bytes: int


class Figures(TypedDict, total=False):
    attempt: Required[int]
    began: float
    """When the attempt's first line was written, seconds since 1970; absent before."""
    time: float
    """When its newest line was."""
    values: Required[dict[str, float]]
    """Newest of the attempt, by the trainer's name."""
    ranks: Required[dict[str, float]]
    """A rank's own seconds of a step."""
    straggling: Required[list[int]]
    scores: Required[dict[str, float]]
    """Newest of the run, as the next three."""
    beside: Required[dict[str, float]]
    """Seconds by what they went into, in all."""
    troubles: Required[dict[str, int]]
    checkpoint: Saved


def renewed(before: Figures | None, attempt: int, events: Iterable[Event], metrics: Iterable[Metric]) -> Figures:
    """The figures after what is new in the run folder. Events come first: an attempt tells of itself before it measures anything.

    attempt: the run's newest. What an older one tells after a newer one has begun is left out.
    """
    found = deepcopy(before) if before else of_attempt(attempt)  # the session must see that the row has another document now
    for event in events:
        if event["attempt"] > found["attempt"]:
            found = kept_over_attempts(found, event["attempt"])
        if event["attempt"] == found["attempt"]:
            take_event(found, event)
    for line in metrics:
        take_line(found, line)
    return found


def of_attempt(attempt: int) -> Figures:
    return {"attempt": attempt, "values": {}, "ranks": {}, "straggling": [], "scores": {}, "beside": {}, "troubles": {}}


def kept_over_attempts(before: Figures, attempt: int) -> Figures:
    found = of_attempt(attempt)
    found["scores"], found["beside"], found["troubles"] = before["scores"], before["beside"], before["troubles"]
    if "checkpoint" in before:
        found["checkpoint"] = before["checkpoint"]
    return found


def take_event(found: Figures, event: Event) -> None:
    data, kind = event["data"], event["type"]
    if kind in TROUBLES:
        found["troubles"][kind] = found["troubles"].get(kind, 0) + 1
    match kind:
        case "straggler":
            found["straggling"] = sorted({*found["straggling"], data["rank"]})
        case "straggler_over":
            found["straggling"] = [rank for rank in found["straggling"] if rank != data["rank"]]
        case "evaluated":
            known = {**found["scores"], **data["metrics"]}
            found["scores"] = dict(list(known.items())[:MOST_SCORES])
        case "checkpoint_saved":
            found["checkpoint"] = {
                "step": event["step"],
                "time": event["time"],
                "seconds": data.get("seconds", 0.0),
                "stalled_seconds": data.get("stalled_seconds", 0.0),
                "bytes": data.get("bytes", 0),
            }
        case _:
            pass


def take_line(found: Figures, line: Metric) -> None:
    name, value = line["name"], line["value"]
    found.setdefault("began", line["time"])
    found["time"] = max(found.get("time", 0.0), line["time"])
    if name in KEPT:
        found["values"][name] = value
    elif (part := name.removesuffix("_seconds")) in BESIDE:
        found["beside"][part] = found["beside"].get(part, 0.0) + value
    elif name.startswith(RANK_SECONDS) and (rank := name.removeprefix(RANK_SECONDS)).isdigit() and int(rank) < MOST_RANKS:
        found["ranks"][rank] = value
