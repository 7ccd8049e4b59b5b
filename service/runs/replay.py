"""The state of a run from its events alone: proof that the log tells everything that matters, and the way back when a row is in doubt."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Protocol

from service.runs.states import OVER, Move, State


class Happened(Protocol):
    """An event as a row or as the wire carries it."""

    time: Any
    type: Any
    attempt: Any
    step: Any
    data: Any


COVERED = (
    *("state", "cause", "evidence", "attempt", "faults", "priority", "project_id", "labels", "name"),
    *("created_at", "started_at", "ended_at", "next_attempt_at", "stop_asked_at", "stage", "step", "outcome"),
)
"""Columns of the run's row that follow from its events. `step` as of the last event: between events, metrics move it."""


def replay(events: Iterable[Happened]) -> dict[str, Any]:
    """COVERED, after all of `events` of one run from the first on."""
    run: dict[str, Any] = dict.fromkeys(COVERED)
    run |= {"evidence": [], "attempt": 0, "faults": 0, "priority": 0, "step": 0}
    for event in events:
        data = event.data
        match event.type:
            case "run_created":
                run |= {"state": State.QUEUED, "created_at": event.time, "name": data["name"]}
                run |= {"project_id": data["project"], "labels": data["labels"], "priority": data.get("priority", 0)}
            case "state_changed":
                moved(run, event)
            case "attempt_adopted":
                run |= {"attempt": event.attempt, "outcome": None}
            case "stop_sent":
                run["stop_asked_at"] = event.time
            case "run_changed":
                run |= {name: change["to"] for name, change in data.items()}
            case "stage_started":
                run["stage"] = data["stage"]
            case "resumed" | "ended":
                run["step"] = event.step
            case _:
                pass
        told_already = run["outcome"] is not None and run["outcome"].get("cause") != "unknown"
        if event.type == "ended" and event.attempt == run["attempt"] and not told_already:
            run["outcome"] = data
    return run | {"state": str(run["state"])}


def moved(run: dict[str, Any], event: Happened) -> None:
    data, move = event.data, Move(event.data["move"])
    run |= {"state": data["to"], "attempt": event.attempt, "step": event.step}
    if "cause" in data or move in (Move.RESUME, Move.SUCCEED, Move.CANCEL, Move.START, Move.PAUSE):
        run |= {"cause": data.get("cause"), "evidence": data.get("evidence", [])}
    if move == Move.LAUNCH:
        run |= {"stop_asked_at": None, "next_attempt_at": None, "outcome": None, "started_at": run["started_at"] or event.time}
    if move == Move.RETRY:
        run["faults"] += 1
        run["next_attempt_at"] = datetime.fromisoformat(data["next_attempt_at"]) if "next_attempt_at" in data else None
    if move == Move.RESUME:
        run |= {"faults": 0, "ended_at": None, "next_attempt_at": None}
    if data["to"] in OVER:
        run["ended_at"] = event.time
