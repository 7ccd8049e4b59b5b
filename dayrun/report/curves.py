"""Curves as inline SVG: axes with round numbers, a faint line of what was measured and a strong one of its running mean, marks at steps.

Pure; knows no run. Colours are those of the page's style sheet (classes), so that a print and a dark screen can have their own.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from dayrun.report.markup import Markup, el

WIDTH, HEIGHT = 520, 220
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 14, 30
COLOURS = 4
"""Classes c0, c1, … of the style sheet; with more lines they come again."""
Dot = tuple[float, float]
"""Step, value."""


class Mark(NamedTuple):
    """A step at which something happened: a stage began, an attempt went on."""

    step: float
    text: str
    kind: str
    """`stage` or `attempt`: how the line is drawn."""


class Line(NamedTuple):
    name: str
    dots: Sequence[Dot]


class Axis(NamedTuple):
    """From values to pixels along one axis; `log` for values over more than one and a half decades."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def chart(title: str, unit: str, lines: Sequence[Line], marks: Sequence[Mark] = (), smooth: bool = True) -> Markup:
    """A figure with a caption: `lines` over steps. Values that are not finite are left out; a figure without any dot says so."""
    cleaned = [Line(line.name, [dot for dot in line.dots if math.isfinite(dot[1])]) for line in lines]
    cleaned = [line for line in cleaned if line.dots]
    caption = el("figcaption", el("b", title), f" · {unit}" if unit else "", legend(cleaned))
    if not cleaned:
        return el("figure", caption, el("p", "Nothing was measured.", class_="quiet"), class_="chart")
    smoothed = [Line(line.name, running_mean(line.dots) if smooth and len(line.dots) > 20 else line.dots) for line in cleaned]
    x, y = x_axis(cleaned), y_axis(cleaned, smoothed)
    drawn = [*frame(x, y), *(mark(one, x) for one in marks if x.low <= one.step <= x.high)]
    for number, (line, mean) in enumerate(zip(cleaned, smoothed, strict=True)):
        if mean.dots is not line.dots:
            drawn.append(stroke(line.dots, x, y, f"line faint c{number % COLOURS}"))
        drawn.append(stroke(mean.dots, x, y, f"line c{number % COLOURS}"))
    said = f"{title}: {', '.join(f'{line.name} from {short(line.dots[0][1])} to {short(line.dots[-1][1])}' for line in smoothed)}"
    picture = el("svg", *drawn, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=said)
    return el("figure", caption, picture, class_="chart")


def legend(lines: Sequence[Line]) -> list[Markup]:
    return [el("span", line.name, class_=f"key c{n % COLOURS}") for n, line in enumerate(lines)] if len(lines) > 1 else []


def x_axis(lines: Sequence[Line]) -> Axis:
    steps = [step for line in lines for step, _ in line.dots]
    low, high = min(steps), max(steps)
    return Axis(low, high, LEFT, WIDTH - RIGHT) if high > low else Axis(low - 1, high + 1, LEFT, WIDTH - RIGHT)


def y_axis(lines: Sequence[Line], smoothed: Sequence[Line]) -> Axis:
    """Wide enough for every running mean and for all but the wildest hundredth of the single values."""
    values = sorted(value for line in lines for _, value in line.dots)
    cut = len(values) // 100
    values = values[cut : len(values) - cut] + [value for line in smoothed for _, value in line.dots]
    low, high = min(values), max(values)
    if low > 0 and high / low > 10**1.5:
        return Axis(low / 1.1, high * 1.1, HEIGHT - BOTTOM, TOP, log=True)
    room = (high - low or abs(high) or 1.0) * 0.06
    return Axis(low - room if low < 0 or low - room > 0 else 0.0, high + room, HEIGHT - BOTTOM, TOP)


def frame(x: Axis, y: Axis) -> list[Markup]:
    """Grid, numbers, and the word under the steps."""
    drawn: list[Markup] = []
    for value in ticks(y, 4):
        at = round(y.at(value), 1)
        drawn.append(el("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="grid"))
        drawn.append(el("text", short(value), x=LEFT - 6, y=at + 3.5, class_="tick end"))
    for value in ticks(x, 5, least=1.0):
        at = round(x.at(value), 1)
        drawn.append(el("text", f"{value:,.0f}", x=at, y=HEIGHT - BOTTOM + 14, class_="tick middle"))
    drawn.append(el("text", "step", x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 3, class_="tick middle"))
    return drawn


def ticks(axis: Axis, about: int, least: float = 0.0) -> list[float]:
    """Round numbers along an axis, 1, 2 or 5 times a power of ten (and `least`) apart; on a log powers of ten, with 2 and 5 for room."""
    if axis.log:
        powers = range(math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1)
        digits = (1, 2, 5) if len(powers) <= 3 else (1,)
        return [d * 10.0**p for p in powers for d in digits if axis.low <= d * 10.0**p <= axis.high]
    rough = max((axis.high - axis.low) / about, least)
    power = 10.0 ** math.floor(math.log10(rough))
    apart = next(d * power for d in (1, 2, 5, 10) if d * power >= rough)
    first = math.ceil(axis.low / apart)
    return [n * apart for n in range(first, math.floor(axis.high / apart) + 1)]


def mark(one: Mark, x: Axis) -> Markup:
    at = round(x.at(one.step), 1)
    line = el("line", x1=at, x2=at, y1=TOP, y2=HEIGHT - BOTTOM, class_=f"mark {one.kind}")
    if at > WIDTH - RIGHT - 60:  # no room to the right of it
        return el("g", line, el("text", one.text, x=at - 3, y=TOP + 8, class_="tick end"))
    return el("g", line, el("text", one.text, x=at + 3, y=TOP + 8, class_="tick"))


def stroke(dots: Sequence[Dot], x: Axis, y: Axis, kind: str) -> Markup:
    """A polyline; a single dot becomes a short one, which can be seen. What lies beyond the axis is drawn at its end."""
    places = [(x.at(step), y.at(min(max(value, y.low), y.high))) for step, value in dots]
    if len(places) == 1:
        places = [(places[0][0] - 3, places[0][1]), (places[0][0] + 3, places[0][1])]
    return el("polyline", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in places), class_=kind)


def running_mean(dots: Sequence[Dot]) -> list[Dot]:
    """The mean over a window of a thirtieth of the dots around each, cut at both ends alike: it neither lags nor invents."""
    half = max(1, len(dots) // 60)
    sums = [0.0]
    for _, value in dots:
        sums.append(sums[-1] + value)
    found: list[Dot] = []
    for i, (step, _) in enumerate(dots):
        reach = min(half, i, len(dots) - 1 - i)
        found.append((step, (sums[i + reach + 1] - sums[i - reach]) / (2 * reach + 1)))
    return found


def short(value: float) -> str:
    """As an axis has room for: 0.05, 12, 3.4 k."""
    size = abs(value)
    for limit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            return f"{value / (limit if letter != 'k' else 1e3):.3g} {letter}"
    return f"{value:.3g}"
