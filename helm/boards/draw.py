"""A dashboard as a picture: its panels with what a Prometheus answered, near enough to Grafana's look to judge a layout by.

Only what our dashboards use is drawn.
"""

import math
import re
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image

from helm.boards import tables
from helm.boards.ask import Answer, Reader, Series, Window, panels_of
from helm.boards.canvas import EDGE, GRID, MUTED, PANEL, TEXT, Box, Canvas, see_through, wide
from helm.boards.numbers import COLOURS, PALETTE, colour_at, mapped, shown, ticks

WIDTH = 1600
COLUMN, ROW, GAP, HEAD = WIDTH / 24, 38, 8, 64
VIRIDIS = [(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)]


def draw(reader: Reader) -> Image.Image:
    """The whole dashboard as `reader` sees it."""
    board = reader.board
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    canvas = Canvas(WIDTH, HEAD + bottom * ROW + GAP)
    _head(canvas, reader)
    marks = [
        (time, mark["iconColor"])
        for mark, answer in zip(_marks(board), reader.annotations(), strict=True)
        for one in answer.series
        for time in _beginnings(one, reader.window)
    ]
    for panel in board["panels"]:
        place = panel["gridPos"]
        left, top = place["x"] * COLUMN, HEAD + place["y"] * ROW
        box = Box(left + GAP / 2, top, left + place["w"] * COLUMN - GAP / 2, top + place["h"] * ROW - GAP)
        if panel["type"] == "row":
            canvas.text(box.left + 4, box.top + box.height / 2, f"▾ {panel['title']}", 13, TEXT, bold=True)
    for panel in panels_of(board):
        place = panel["gridPos"]
        left, top = place["x"] * COLUMN, HEAD + place["y"] * ROW
        box = Box(left + GAP / 2, top, left + place["w"] * COLUMN - GAP / 2, top + place["h"] * ROW - GAP)
        canvas.box(box, PANEL, EDGE, 3)
        canvas.text(box.left + 9, box.top + 15, panel["title"], 11.5, TEXT, box.width - 16, bold=True)
        answers = [reader.answer(panel, target, max(50, round(box.width / 2))) for target in panel["targets"]]
        PAINTERS[panel["type"]](canvas, box.inner(9, 30, 9, 8), panel, answers, reader.window, marks)
    return canvas.finished()


def save(reader: Reader, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(reader).save(path, optimize=True)


def _marks(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [mark for mark in (board.get("annotations") or {}).get("list", []) if "expr" in mark]


def _beginnings(series: Series, window: Window) -> list[float]:
    """Grafana joins neighbouring points to one mark."""
    times = [time for time, value in series.points if value]
    return [time for place, time in enumerate(times) if place == 0 or time - times[place - 1] > 1.5 * window.step()]


def _head(canvas: Canvas, reader: Reader) -> None:
    canvas.text(12, 20, reader.board["title"], 16, TEXT, bold=True)
    begin, end = (datetime.fromtimestamp(time, UTC) for time in (reader.window.begin, reader.window.end))
    canvas.text(WIDTH - 12, 20, f"{begin:%Y-%m-%d %H:%M:%S} to {end:%H:%M:%S} UTC", 11, MUTED, anchor="rm")
    x = 12.0
    for variable in reader.board["templating"]["list"]:
        if variable.get("hide") == 2:
            continue
        x += canvas.text(x, 46, variable.get("label") or variable["name"], 11, MUTED) + 6
        room = canvas.text(x, 46, reader.texts[variable["name"]], 11, TEXT, 260)
        x += room + 22


def _number(canvas: Canvas, box: Box, panel: dict[str, Any], answers: list[Answer], window: Window, marks: object) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    series = next((one for answer in answers for one in answer.series if not math.isnan(one.last)), None)
    if series is None:
        canvas.text((box.left + box.right) / 2, (box.top + box.bottom) / 2, defaults.get("noValue", "No data"), 26, MUTED, anchor="mm")
        return
    text, colour = mapped(series.last, defaults.get("mappings")) or (
        shown(series.last, defaults["unit"], defaults.get("decimals")),
        colour_at(series.last, defaults.get("thresholds")),
    )
    if panel["options"]["textMode"] == "name":
        text, colour = series.name, COLOURS["text"]
    graph = panel["options"]["graphMode"] == "area" and len(series.points) > 2
    if graph:
        low, high = _range([series], defaults, always_zero=True)
        across = Box(box.left - 8, box.top + box.height * 0.55, box.right + 8, box.bottom + 7)
        points = _points(series, across, window, low, high)
        canvas.area([(points[0][0], across.bottom), *points, (points[-1][0], across.bottom)], colour, 0.16)
        canvas.line(points, colour, 1)
    middle = box.top + box.height * (0.3 if graph else 0.45)
    size = min(30.0, 30.0 * box.width / max(1.0, wide(text, 30, True)))
    canvas.text((box.left + box.right) / 2, middle, text, size, colour, box.width, "mm", bold=True)


def _lines(canvas: Canvas, box: Box, panel: dict[str, Any], answers: list[Answer], window: Window, marks: list[tuple[float, str]]) -> None:
    field = panel["fieldConfig"]
    defaults, custom = field["defaults"], field["defaults"]["custom"]
    series = [one for answer in answers for one in answer.series]
    colours = {one.name: _own(field, one.name, "color", {}).get("fixedColor") for one in series}
    colours = {name: COLOURS[own] if own else PALETTE[place % len(PALETTE)] for place, (name, own) in enumerate(colours.items())}
    plot = box.inner(52, 2, 4, 20 + _legend(canvas, box, colours))
    if not series:
        canvas.text((plot.left + plot.right) / 2, (plot.top + plot.bottom) / 2, "No data", 13, MUTED, anchor="mm")
        return
    stacked = (custom.get("stacking") or {}).get("mode") == "normal"
    log = (custom.get("scaleDistribution") or {}).get("type") == "log"
    stack = {one.name for one in series if not _own(field, one.name, "custom.stacking")}
    drawn = _stacked(series, [one for one in series if one.name in stack]) if stacked else series
    low, high = _range(drawn, defaults, always_zero=stacked, log=log)
    _axes(canvas, plot, window, low, high, defaults["unit"], log)
    for time, colour in marks:
        x = _across(time, plot, window)
        canvas.line([(x, plot.top), (x, plot.bottom)], see_through(COLOURS.get(colour, colour), 0.55), 1, 3)
    if (custom.get("thresholdsStyle") or {}).get("mode") == "dashed":
        for step in defaults["thresholds"]["steps"]:
            if step["value"] is not None and low <= step["value"] <= high:
                y = _up(step["value"], plot, low, high, log)
                canvas.line([(plot.left, y), (plot.right, y)], COLOURS[step["color"]], 1, 5)
    opacity = custom.get("fillOpacity", 0) / 100
    for place in reversed(range(len(drawn))) if stacked else range(len(drawn)):
        one = drawn[place]
        dashed = bool(_own(field, one.name, "custom.lineStyle"))
        filled = 0.0 if dashed else opacity
        stairs = custom.get("lineInterpolation") == "stepAfter"
        for piece in _pieces(one, window):
            points = _points(Series(one.labels, one.name, piece), plot, window, low, high, log)
            points = _stairs(points) if stairs else points
            if filled:
                floor = [(points[-1][0], plot.bottom), (points[0][0], plot.bottom)]
                if stacked and place and drawn[place - 1].name in stack:  # it stands on the one below
                    below = Series(one.labels, one.name, [at for at in drawn[place - 1].points if piece[0][0] <= at[0] <= piece[-1][0]])
                    under = _points(below, plot, window, low, high, log)
                    floor = list(reversed(_stairs(under) if stairs else under)) or floor
                canvas.area([*points, *floor], colours[one.name], filled)
            if len(points) == 1:
                canvas.dot(*points[0], 2, colours[one.name])
            else:
                canvas.line(points, colours[one.name], 1.3, 5 if dashed else 0)


def _legend(canvas: Canvas, box: Box, colours: dict[str, str]) -> float:
    """Draws the names at the bottom of `box`, in two lines at most; returns their height."""
    places: list[tuple[float, int, str]] = []
    x, row = box.left, 0
    for name in colours:
        room = wide(name, 10) + 30
        if x + room > box.right and x > box.left:
            x, row = box.left, row + 1
        places.append((x, row, name))
        x += room
    rows = min(2, row + 1)
    for x, row, name in places:
        if row < rows:
            y = box.bottom - 7 - (rows - 1 - row) * 16
            canvas.line([(x, y), (x + 12, y)], colours[name], 3)
            canvas.text(x + 17, y, name, 10, MUTED, box.right - x - 17)
    return rows * 16 if places else 0


def _axes(canvas: Canvas, plot: Box, window: Window, low: float, high: float, unit: str, log: bool) -> None:
    values = (
        [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)] if log else ticks(low, high, unit, 5)
    )
    for value in values:
        if low <= value <= high:
            y = _up(value, plot, low, high, log)
            canvas.line([(plot.left, y), (plot.right, y)], GRID, 1)
            canvas.text(plot.left - 6, y, shown(value, "none" if unit.startswith("suffix:") else unit), 10, MUTED, 48, "rm")
    span = window.end - window.begin
    step = next(
        step
        for step in (10, 30, 60, 120, 300, 600, 1800, 3600, 10800, 21600, 86400, 604800, math.inf)
        if span / step <= max(3, plot.width / 75)
    )
    time = math.ceil(window.begin / step) * step
    while time <= window.end:
        x = _across(time, plot, window)
        canvas.line([(x, plot.top), (x, plot.bottom)], GRID, 1)
        stamp = datetime.fromtimestamp(time, UTC)
        canvas.text(
            x,
            plot.bottom + 10,
            f"{stamp:%H:%M:%S}" if step < 60 else f"{stamp:%H:%M}" if step < 86400 else f"{stamp:%m-%d}",
            10,
            MUTED,
            anchor="mm",
        )
        time += step


def _bars(canvas: Canvas, box: Box, panel: dict[str, Any], answers: list[Answer], window: Window, marks: object) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    series = [one for answer in answers for one in answer.series if not math.isnan(one.last)]
    if not series:
        canvas.text((box.left + box.right) / 2, (box.top + box.bottom) / 2, "No data", 13, MUTED, anchor="mm")
        return
    most = defaults.get("max") or max(max(one.last for one in series), 1e-9)
    row = min(30.0, box.height / len(series))
    for place, one in enumerate(series):
        middle = box.top + row * (place + 0.5)
        colour = colour_at(one.last, defaults.get("thresholds"))
        bar = Box(box.left + box.width * 0.36, middle - row * 0.33, box.right - 78, middle + row * 0.33)
        canvas.text(bar.left - 8, middle, one.name, 10.5, TEXT, bar.left - box.left - 12, "rm")
        canvas.box(bar, "#22252b")
        canvas.box(Box(bar.left, bar.top, bar.left + bar.width * min(1.0, max(0.0, one.last / most)), bar.bottom), colour)
        canvas.text(bar.right + 8, middle, shown(one.last, defaults["unit"], defaults.get("decimals")), 10.5, colour, 72)


def _heat(canvas: Canvas, box: Box, panel: dict[str, Any], answers: list[Answer], window: Window, marks: object) -> None:
    """From cumulative buckets, as Prometheus has them, to what lies in each."""
    unit, plot = panel["fieldConfig"]["defaults"]["unit"], box.inner(52, 2, 4, 20)
    buckets = sorted(answers[0].series, key=lambda one: float(one.labels["le"]))
    if not buckets:
        canvas.text((plot.left + plot.right) / 2, (plot.top + plot.bottom) / 2, "No data", 13, MUTED, anchor="mm")
        return
    cells: dict[tuple[float, int], float] = {}
    below: dict[float, float] = {}
    for place, bucket in enumerate(buckets):
        for time, value in bucket.points:
            cells[time, place] = max(0.0, value - below.get(time, 0.0))
            below[time] = value
    most = max(cells.values()) or 1.0
    high, wide = plot.height / len(buckets), plot.width * window.step(round(box.width / 2)) / (window.end - window.begin)
    for (time, place), value in cells.items():
        if value > 0 and not math.isnan(value):
            x = _across(time, plot, window)
            top = plot.bottom - (place + 1) * high
            canvas.box(Box(max(plot.left, x - wide), top + 0.5, x, top + high - 0.5), _viridis(math.sqrt(value / most)))
    every = math.ceil(len(buckets) / 8)
    for place in range(0, len(buckets), every):
        canvas.text(plot.left - 6, plot.bottom - (place + 1) * high, shown(float(buckets[place].labels["le"]), unit), 10, MUTED, 48, "rm")
    _axes(canvas, plot, window, 2.0, 3.0, "none", log=True)  # times alone


def _table(canvas: Canvas, box: Box, panel: dict[str, Any], answers: list[Answer], window: Window, marks: object) -> None:
    headers, rows = tables.rows_of(panel, answers)
    if not rows:
        canvas.text((box.left + box.right) / 2, (box.top + box.bottom) / 2, "No data", 13, MUTED, anchor="mm")
        return
    wide = box.width / len(headers)
    for column, header in enumerate(headers):
        canvas.text(box.left + column * wide, box.top + 9, header, 10.5, COLOURS["blue"], wide - 8, bold=True)
    for place, row in enumerate(rows[: int((box.height - 18) // 24)]):
        y = box.top + 32 + place * 24
        canvas.line([(box.left, y - 13), (box.right, y - 13)], GRID, 1)
        for column, (text, colour) in enumerate(row):
            canvas.text(box.left + column * wide, y, text, 10.5, colour or TEXT, wide - 8)


PAINTERS = {"stat": _number, "timeseries": _lines, "bargauge": _bars, "heatmap": _heat, "table": _table}


def _own(field: dict[str, Any], name: str, what: str, otherwise: Any = None) -> Any:
    """What an override of the field `name` says of `what`."""
    for override in field.get("overrides") or []:
        kind, options = override["matcher"]["id"], override["matcher"]["options"]
        if options == name if kind == "byName" else re.search(options.strip("/"), name):
            for one in override["properties"]:
                if one["id"] == what:
                    return one["value"]
    return otherwise


def _stacked(series: list[Series], added: list[Series]) -> list[Series]:
    """`series`, of which those in `added` stand on each other."""
    total: dict[float, float] = {}
    made = []
    for one in series:
        if one not in added:
            made.append(one)
            continue
        for time, value in one.points:
            total[time] = total.get(time, 0.0) + (0.0 if math.isnan(value) else value)
        made.append(Series(one.labels, one.name, [(time, total[time]) for time, _ in one.points]))
    return made


def _range(series: list[Series], defaults: dict[str, Any], always_zero: bool = False, log: bool = False) -> tuple[float, float]:
    values = [value for one in series for _, value in one.points if math.isfinite(value) and (value > 0 or not log)] or [0.1, 1.0]
    low, high = min(values), max(values)
    low = min(low, 0.0) if always_zero else low
    low, high = defaults.get("min", low), defaults.get("max", high)
    if log:
        return max(low, 1e-12) * 0.8, high * 1.25
    room = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
    at_bottom = low == 0 or "min" in defaults
    return low if at_bottom else low - room, high if "max" in defaults else high + room


def _across(time: float, plot: Box, window: Window) -> float:
    return plot.left + (time - window.begin) / (window.end - window.begin) * plot.width


def _up(value: float, plot: Box, low: float, high: float, log: bool = False) -> float:
    if log:
        value, low, high = math.log10(max(value, low)), math.log10(low), math.log10(high)
    share = min(1.0, max(0.0, (value - low) / (high - low)))
    return plot.bottom - share * plot.height


def _points(series: Series, plot: Box, window: Window, low: float, high: float, log: bool = False) -> list[tuple[float, float]]:
    return [(_across(time, plot, window), _up(value, plot, low, high, log)) for time, value in series.points if math.isfinite(value)]


def _pieces(series: Series, window: Window) -> list[list[tuple[float, float]]]:
    """Runs of points without a gap."""
    steps = [b - a for (a, _), (b, _) in zip(series.points, series.points[1:], strict=False)]
    usual = min(steps, default=window.scrape_seconds)
    pieces: list[list[tuple[float, float]]] = []
    last = -math.inf
    for time, value in series.points:
        if not math.isfinite(value):
            continue
        if time - last > 1.5 * usual:
            pieces.append([])
        pieces[-1].append((time, value))
        last = time
    return pieces


def _stairs(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    made = points[:1]
    for (_, before), (x, y) in pairwise(points):
        made += [(x, before), (x, y)]
    return made


def _viridis(share: float) -> tuple[int, ...]:
    place = min(0.999, max(0.0, share)) * (len(VIRIDIS) - 1)
    low, part = VIRIDIS[int(place)], place % 1
    return tuple(round(a + (b - a) * part) for a, b in zip(low, VIRIDIS[int(place) + 1], strict=True))
