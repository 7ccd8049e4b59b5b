"""A table panel's rows, as Grafana's transformations "merge" and "organize" make them of its queries' answers."""

import math
from typing import Any

from helm.boards.ask import Answer
from helm.boards.numbers import colour_at, mapped, shown

Cell = tuple[str, str | None]
"""Text, and its colour where it has one."""


def rows_of(panel: dict[str, Any], answers: list[Answer]) -> tuple[list[str], list[list[Cell]]]:
    """Headers from left to right, and the rows: those whose labels are the same in several answers are one."""
    organized = next(one["options"] for one in panel["transformations"] if one["id"] == "organize")
    names, order = organized["renameByName"], organized["indexByName"]
    fields = sorted(order, key=lambda name: order[name])
    merged: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
    for answer in answers:
        column = "Value" if len(answers) == 1 else f"Value #{answer.ref}"
        for one in answer.series:
            merged.setdefault(tuple(sorted(one.labels.items())), {})[column] = one.last
    rows: list[tuple[float, list[Cell]]] = []
    sorted_by = next((one["displayName"] for one in panel["options"].get("sortBy") or []), None)
    for labels, values in merged.items():
        unknown = set(dict(labels)) - set(fields)
        if unknown:
            raise ValueError(f"panel {panel['title']!r}: its queries keep labels that the table does not name: {sorted(unknown)}")
        cells = [
            (dict(labels)[field], None) if field in dict(labels) else _cell(panel, names[field], values.get(field)) for field in fields
        ]
        key = next((values.get(field, -math.inf) for field in fields if names[field] == sorted_by), 0.0)
        rows.append((key, cells))
    return [names[field] for field in fields], [cells for _, cells in sorted(rows, key=lambda row: -row[0])]


def _cell(panel: dict[str, Any], header: str, value: float | None) -> Cell:
    if value is None or math.isnan(value):
        return "", None
    own = {
        one["id"]: one["value"]
        for override in panel["fieldConfig"]["overrides"]
        if override["matcher"]["options"] == header
        for one in override["properties"]
    }
    if found := mapped(value, own.get("mappings")):
        return found
    return shown(value, own.get("unit", "none")), colour_at(value, own["thresholds"]) if "thresholds" in own else None
