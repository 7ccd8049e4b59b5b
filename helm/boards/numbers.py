"""Numbers as a person reads them, by Grafana's names of units; ticks of an axis; which colour a value has."""

import math
from collections.abc import Sequence
from typing import Any

COLOURS = {
    "green": "#73bf69",
    "yellow": "#f2cc0c",
    "orange": "#ff9830",
    "red": "#f2495c",
    "blue": "#5794f2",
    "purple": "#b877d9",
    "text": "#d8d9da",
}
PALETTE = [
    "#73bf69",
    "#f2cc0c",
    "#8ab8ff",
    "#ff780a",
    "#f2495c",
    "#5794f2",
    "#b877d9",
    "#96d98d",
    "#ffcb7d",
    "#c0d8ff",
    "#ca95e5",
    "#37872d",
]
SECONDS = [(86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs")]
SHORT = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")]
BYTES = [(2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB")]


def shown(value: float, unit: str, decimals: int | None = None) -> str:
    """`value` with its unit, such as `1.5 min` of 90 s; three digits, or so many decimals. Raises KeyError for an unknown unit."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    sign, size = "−" if value < 0 else "", abs(value)
    match unit:
        case "s":
            text = _scaled(size, SECONDS, "s", decimals)
        case "bytes":
            text = _scaled(size, BYTES, "B", decimals)
        case "Bps":
            text = _scaled(size, BYTES, "B", decimals) + "/s"
        case "percentunit":
            text = f"{_digits(size * 100, decimals)}%"
        case "currencyUSD":
            return f"{sign}${_digits(size, 2 if decimals is None and size < 1000 else decimals)}"
        case "short" | "none" | "sishort":
            text = _scaled(size, SHORT, "", decimals) if unit != "none" else _digits(size, decimals)
        case "watt":
            text = _scaled(size, [(1e6, "MW"), (1e3, "kW")], "W", decimals)
        case "reqps" | "ops" | "cps" | "eps":
            text = f"{_digits(size, decimals)}/s"
        case _ if unit.startswith("suffix:"):
            text = _digits(size, decimals) + unit.removeprefix("suffix:")
        case _:
            raise KeyError(f"unit {unit!r} is not known here: add it to helm/boards/numbers.py")
    return sign + text


def _digits(size: float, decimals: int | None) -> str:
    if decimals is not None:
        return f"{size:,.{decimals}f}".replace(",", " ")
    if size == 0 or size >= 1000:
        return f"{size:,.0f}".replace(",", " ")
    if size < 1e-3:
        return f"{size:.2g}"
    text = f"{size:.{max(0, 2 - math.floor(math.log10(size)))}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _scaled(size: float, scales: Sequence[tuple[float, str]], base: str, decimals: int | None) -> str:
    for scale, name in scales:
        if size >= scale:
            return f"{_digits(size / scale, decimals)} {name}".strip()
    return f"{_digits(size, decimals)} {base}".strip()


def ticks(low: float, high: float, unit: str, most: int = 6) -> list[float]:
    """Round values from `low` to `high`; of seconds, round in minutes and hours."""
    span = high - low
    rounds = [1.0, 2.0, 5.0]
    if unit == "s" and span > 60:
        scale = next(scale for scale, _ in SECONDS if span >= scale)
        candidates = [scale * factor for factor in (1 / 12, 1 / 6, 1 / 4, 1 / 2, 1, 2, 5, 10, 20, 50, 100)]
    elif unit == "bytes" and span > 1024:
        scale = 2.0 ** (10 * math.floor(math.log(span, 1024)))
        candidates = [scale * 2.0**power for power in range(-4, 11)]
    else:
        power = 10.0 ** math.floor(math.log10(span / most))
        candidates = [power * factor for factor in (*rounds, 10.0, 20.0)]
    step = next((one for one in candidates if span / one <= most), candidates[-1])
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def colour_at(value: float, thresholds: dict[str, Any] | None) -> str:
    """Of `value`, by the steps of `thresholds` as dashboards have them."""
    name = "text"
    for step in (thresholds or {}).get("steps", []):
        if step["value"] is None or value >= step["value"]:
            name = step["color"]
    return COLOURS[name]


def mapped(value: float, mappings: Sequence[dict[str, Any]] | None) -> tuple[str, str] | None:
    """Text and colour that stand in the place of `value`."""
    for mapping in mappings or []:
        found = mapping["options"].get(f"{value:g}")
        if found:
            return found["text"], COLOURS[found["color"]]
    return None
