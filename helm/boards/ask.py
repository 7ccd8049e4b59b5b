"""Asks a Prometheus what a dashboard would ask it: variables resolved, macros filled in, every query of every panel executed.

It does what Grafana's Prometheus datasource does with our dashboards and no more: an unknown macro, variable or panel is an error, so that
whoever uses one has it tested. It knows dashboards as JSON and needs no Grafana and no SDK.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

ALL = "$__all"
VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w+)(?::(?P<form>\w+))?\}|(?P<bare>[A-Za-z_]\w*))")
LABEL_VALUES = re.compile(r"^label_values\((?:(?P<series>.+),\s*)?(?P<label>\w+)\)$")
QUERY_RESULT = re.compile(r"^query_result\((?P<promql>.+)\)$")
MAX_POINTS = 1000
"""Points of a curve: about the pixels of a panel."""


class Refused(Exception):
    """Prometheus does not take a query, or the dashboard says what this program cannot do as Grafana would."""


@dataclass(frozen=True)
class Window:
    """What the reader looks at: from, to (Unix seconds), and how often Prometheus scrapes."""

    begin: float
    end: float
    scrape_seconds: float

    def step(self, points: int = MAX_POINTS) -> float:
        """Seconds between two points, as Grafana rounds them: never less than a scrape."""
        return max(self.scrape_seconds, math.ceil((self.end - self.begin) / points))

    def macros(self, points: int = MAX_POINTS) -> dict[str, str]:
        step = self.step(points)
        whole = math.ceil(self.end - self.begin)
        rate = max(step + self.scrape_seconds, 4 * self.scrape_seconds)
        return {
            "__interval": f"{math.ceil(step)}s",
            "__rate_interval": f"{math.ceil(rate)}s",
            "__range": f"{whole}s",
            "__range_s": f"{whole}",
        }


@dataclass(frozen=True)
class Series:
    """One curve: labels, a name as the legend has it, and points (time, value)."""

    labels: dict[str, str]
    name: str
    points: list[tuple[float, float]]

    @property
    def last(self) -> float:
        return next((value for _, value in reversed(self.points) if not math.isnan(value)), math.nan)


@dataclass(frozen=True)
class Answer:
    """Of one query: its panel, its letter there, the PromQL that was executed, and what came."""

    panel: str
    ref: str
    promql: str
    series: list[Series]

    @property
    def empty(self) -> bool:
        """Whether a reader would see nothing: no series, or none with a number in it."""
        return all(math.isnan(value) for one in self.series for _, value in one.points)


class Prometheus:
    """The few calls of its HTTP interface that Grafana makes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=60)

    def query(self, promql: str, time: float) -> list[dict[str, Any]]:
        return self._get("query", query=promql, time=time)["result"]

    def query_range(self, promql: str, begin: float, end: float, step: float) -> list[dict[str, Any]]:
        return self._get("query_range", query=promql, start=begin, end=end, step=step)["result"]

    def series(self, selector: str, begin: float, end: float) -> list[dict[str, str]]:
        return self._get("series", **{"match[]": selector, "start": begin, "end": end})

    def label_values(self, label: str, begin: float, end: float) -> list[str]:
        return self._get(f"label/{label}/values", start=begin, end=end)

    def parses(self, promql: str) -> None:
        """Raises Refused for what is no PromQL."""
        self._get("query", query=promql, time=0)

    def _get(self, path: str, **parameters: Any) -> Any:
        answer = (
            self._http.post(f"/api/v1/{path}", data=parameters)
            if path.startswith("query")
            else self._http.get(f"/api/v1/{path}", params=parameters)
        )
        told = answer.json()
        if told["status"] != "success":
            raise Refused(f"{told['error']}\n  in: {parameters.get('query', parameters)}")
        return told["data"]


def panels_of(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Those that draw something, the ones in folded rows too."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels") or []
        else:
            yield panel


class Reader:
    """Somebody before `board`, who has chosen `chosen` in its lists (a variable's name → its value) and looks at `window`."""

    def __init__(self, board: dict[str, Any], prometheus: Prometheus, window: Window, chosen: dict[str, str] | None = None) -> None:
        self.board, self.prometheus, self.window = board, prometheus, window
        self.values: dict[str, str] = {}
        """By variable, in PromQL's spelling."""
        self.texts: dict[str, str] = {}
        """By variable, as a person reads it."""
        for variable in board["templating"]["list"]:
            self._resolve(variable, (chosen or {}).get(variable["name"]))

    def answers(self) -> Iterator[Answer]:
        """Every query of every panel, in the dashboard's order."""
        for panel in panels_of(self.board):
            for target in panel["targets"]:
                yield self.answer(panel, target)

    def answer(self, panel: dict[str, Any], target: dict[str, Any], points: int = MAX_POINTS) -> Answer:
        promql = self.filled(target["expr"], points)
        if target.get("instant"):
            found = self.prometheus.query(promql, self.window.end)
        else:
            found = self.prometheus.query_range(promql, self.window.begin, self.window.end, self.window.step(points))
        return Answer(panel["title"], target["refId"], promql, [_series(one, target.get("legendFormat", "")) for one in found])

    def annotations(self) -> Iterator[Answer]:
        """Of each kind of mark: where it is set."""
        for mark in (self.board.get("annotations") or {}).get("list", []):
            if "expr" in mark:
                yield self.answer({"title": mark["name"]}, {"expr": mark["expr"], "refId": "annotation"})

    def filled(self, text: str, points: int = MAX_POINTS) -> str:
        """`text` with macros and variables in their places. Raises Refused for one that is not known."""
        known = self.values | self.window.macros(points)

        def value(match: re.Match[str]) -> str:
            name = match["braced"] or match["bare"]
            if name not in known:
                raise Refused(f"${name} is neither a variable of the dashboard nor a macro that this program knows\n  in: {text}")
            return known[name]

        return VARIABLE.sub(value, text)

    def _resolve(self, variable: dict[str, Any], choice: str | None) -> None:
        name, kind = variable["name"], variable["type"]
        if kind == "datasource":
            self.values[name] = self.texts[name] = "Prometheus"
        elif kind in ("textbox", "constant"):
            self.values[name] = self.texts[name] = choice or variable["query"]
        elif kind == "query":
            offered = self.offered(variable)
            if choice is None and variable.get("includeAll"):
                self.values[name], self.texts[name] = variable["allValue"], "All"
            elif choice is None and not offered:
                raise Refused(f"the list of ${name} is empty: {self.filled(variable['query'])}")
            else:
                value = next(iter(offered)) if choice is None else choice
                if value not in offered:
                    raise Refused(f"{value!r} is not in the list of ${name}: {sorted(offered)}")
                self.values[name], self.texts[name] = _escaped(value, as_regex=variable.get("includeAll", False)), offered[value]
        else:
            raise Refused(f"${name} is of a kind that this program does not know: {kind}")

    def offered(self, variable: dict[str, Any]) -> dict[str, str]:
        """Values of a variable's list, each with its text."""
        asked, window = self.filled(variable["query"]), self.window
        if labels := LABEL_VALUES.match(asked):
            if labels["series"] is None:
                found = self.prometheus.label_values(labels["label"], window.begin, window.end)
            else:
                series = self.prometheus.series(labels["series"], window.begin, window.end)
                found = sorted({one[labels["label"]] for one in series if labels["label"] in one})
            lines = found
        elif result := QUERY_RESULT.match(asked):
            lines = [_line(one) for one in self.prometheus.query(result["promql"], window.end)]
        else:
            raise Refused(f"neither label_values nor query_result: {asked}")
        pattern = variable.get("regex", "")
        if not pattern:
            return {line: line for line in lines}
        # as in JavaScript, whose named groups are written without the P
        matches = [re.search(pattern.strip("/").replace("(?<", "(?P<"), line) for line in lines]
        groups = [match.groupdict() for match in matches if match]
        return {group["value"]: group.get("text") or group["value"] for group in groups}


def _escaped(value: str, as_regex: bool) -> str:
    """`value` within quotes of PromQL. Of a list that has "All" Grafana makes a regular expression."""
    backslash = "\\\\"
    return re.sub(r"[\\^$*+?.()|\[\]{}]", lambda match: backslash + match[0], value) if as_regex else value.replace("\\", backslash)


def _line(found: dict[str, Any]) -> str:
    """A result as Grafana shows it to a variable's regex."""
    labels = dict(found["metric"])
    name = labels.pop("__name__", "")
    return f"{name}{{{','.join(f'{key}={json.dumps(value, ensure_ascii=False)}' for key, value in labels.items())}}} {found['value'][1]}"


def _series(found: dict[str, Any], legend: str) -> Series:
    labels = {key: value for key, value in found["metric"].items() if key != "__name__"}
    points = found["values"] if "values" in found else [found["value"]]
    name = re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda match: labels.get(match[1], ""), legend) if legend and legend != "__auto" else _auto(found)
    return Series(labels, name, [(float(time), float(value)) for time, value in points])


def _auto(found: dict[str, Any]) -> str:
    labels = {key: value for key, value in found["metric"].items() if key != "__name__"}
    return "Value" if not labels else ", ".join(labels.values())
