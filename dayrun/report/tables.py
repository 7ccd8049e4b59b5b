"""Figures and tables of a report, written one way: what is shown rounded carries its exact value in `<data value>`."""

from collections.abc import Sequence
from datetime import datetime

from dayrun.quantities import Interval
from dayrun.report.curves import short
from dayrun.report.markup import Child, Markup, el
from dayrun.show import duration


def exact(shown: str, value: float | int | str, name: str | None = None) -> Markup:
    """A rounded figure; `name` makes it findable (`data-figure`)."""
    return el("data", shown, value=value, data_figure=name)


def dollars(value: float, name: str | None = None) -> Markup:
    return exact(f"${value:,.2f}", value, name)


def figure(value: float, unit: str = "", name: str | None = None) -> Markup:
    """Three digits with the unit as a reader wants it: bytes as GB, hours as h and min."""
    if unit == "B":
        return exact(f"{short(value)}B", value, name)
    if unit == "$":
        return dollars(value, name)
    if unit == "h":
        return exact(duration(value * 3600), value, name)
    shown = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return exact(f"{shown} {unit}".strip(), value, name)


def interval(one: Interval, unit: str) -> list[Child]:
    """Expected [low to high]."""
    low, high = (figure(value, unit) for value in (one.low, one.high))
    return [figure(one.expected, unit), el("span", " [", low, " to ", high, "]", class_="quiet") if one.low != one.high else None]


def instant(time: datetime | None) -> Child:
    if time is None:
        return "–"
    return el("time", f"{time:%Y-%m-%d %H:%M:%S}", datetime=time.isoformat())


def span(since: datetime, until: datetime | None) -> str:
    return duration((until - since).total_seconds()) if until else "under way"


def table(titles: Sequence[str], rows: Sequence[Sequence[Child]], words: int = 1, class_: str | None = None) -> Markup:
    """`words`: how many columns from the left hold words; the others hold figures and stand to the right."""
    kinds = ["word" if i < words else "number" for i in range(len(titles))]
    head = el("tr", [el("th", title, scope="col", class_=kind) for title, kind in zip(titles, kinds, strict=True)])
    body = [el("tr", [el("td", cell, class_=kind) for cell, kind in zip(row, kinds, strict=True)]) for row in rows]
    return el("div", el("table", el("thead", head), el("tbody", body), class_=class_), class_="scroll")


def pairs(rows: Sequence[tuple[str, Child]]) -> Markup:
    """Names and values; a row without a value is left out."""
    return el("dl", [el("div", el("dt", name), el("dd", value)) for name, value in rows if value not in (None, "")])


def section(title: str, *parts: Child, id: str) -> Markup:
    return el("section", el("h2", title), *parts, id=id)


def note(*parts: Child) -> Markup:
    return el("p", *parts, class_="quiet")
