"""Numbers and tables as dashboards are drawn with them."""

import math

import pytest

from helm.boards.ask import Answer, Series
from helm.boards.numbers import colour_at, mapped, shown, ticks
from helm.boards.tables import rows_of

THRESHOLDS = {"steps": [{"value": None, "color": "green"}, {"value": 0.8, "color": "orange"}, {"value": 1, "color": "red"}]}


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "s", "0 s"),
        (90, "s", "1.5 min"),
        (0.0042, "s", "4.2 ms"),
        (-90, "s", "−1.5 min"),
        (0.1234, "percentunit", "12.3%"),
        (1536, "bytes", "1.5 KiB"),
        (1536, "Bps", "1.5 KiB/s"),
        (0.5, "currencyUSD", "$0.50"),
        (-3, "currencyUSD", "−$3.00"),
        (1480, "currencyUSD", "$1 480"),
        (12345, "short", "12.3 k"),
        (12345, "none", "12 345"),
        (3.5, "suffix: images/s", "3.5 images/s"),
        (700, "watt", "700 W"),
        (1e-6, "none", "1e-06"),
        (math.nan, "s", "NaN"),
        (math.inf, "s", "∞"),
    ],
)
def test_a_number_is_shown_with_its_unit(value: float, unit: str, text: str):
    assert shown(value, unit) == text


def test_a_unit_that_nobody_knows_is_refused():
    with pytest.raises(KeyError, match="furlongs"):
        shown(1.0, "furlongs")


@pytest.mark.parametrize(
    ("low", "high", "unit", "expected"),
    [
        (0.0, 1.0, "percentunit", [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (3.0, 7.1, "none", [3, 4, 5, 6, 7]),
        (0.0, 600.0, "s", [0, 120, 240, 360, 480, 600]),
        (0.0, 3e9, "bytes", [0, 2**29, 2 * 2**29, 3 * 2**29, 4 * 2**29, 5 * 2**29]),
    ],
)
def test_an_axis_has_round_ticks(low: float, high: float, unit: str, expected: list[float]):
    assert ticks(low, high, unit) == pytest.approx(expected)


def test_a_value_has_the_colour_of_the_highest_step_below_it_or_a_text_of_its_own():
    assert [colour_at(value, THRESHOLDS) for value in (-1, 0.8, 0.99, 2)] == [
        colour_at(0, THRESHOLDS),
        *[colour_at(0.9, THRESHOLDS)] * 2,
        colour_at(1, THRESHOLDS),
    ]
    names = [{"type": "value", "options": {"1": {"text": "all there", "color": "green"}}}]
    assert mapped(1.0, names) == ("all there", colour_at(0, THRESHOLDS))
    assert mapped(0.5, names) is None


def table(*rows: tuple[str, dict[str, str], float]) -> tuple[list[str], list[list[str]]]:
    organized = {
        "indexByName": {"run": 0, "Value #A": 1, "Value #B": 2},
        "renameByName": {"run": "Run", "Value #A": "Done", "Value #B": "Spent"},
    }
    panel = {
        "title": "Runs",
        "transformations": [{"id": "merge", "options": {}}, {"id": "organize", "options": organized}],
        "options": {"sortBy": [{"displayName": "Spent", "desc": True}]},
        "fieldConfig": {
            "overrides": [{"matcher": {"id": "byName", "options": "Done"}, "properties": [{"id": "unit", "value": "percentunit"}]}]
        },
    }
    answers = [
        Answer("Runs", ref, "", [Series(labels, "", [(0.0, value)]) for of, labels, value in rows if of == ref]) for ref in ("A", "B")
    ]
    headers, cells = rows_of(panel, answers)
    return headers, [[text for text, _ in row] for row in cells]


def test_rows_of_one_run_are_merged_and_the_dearest_comes_first():
    headers, rows = table(("A", {"run": "x"}, 0.5), ("A", {"run": "y"}, 0.25), ("B", {"run": "y"}, 20.0), ("B", {"run": "x"}, 3.0))
    assert headers == ["Run", "Done", "Spent"]
    assert rows == [["y", "25%", "20"], ["x", "50%", "3"]]


def test_a_label_that_no_column_shows_is_refused():
    with pytest.raises(ValueError, match=r"'Runs'.*\['rank'\]"):
        table(("A", {"run": "x", "rank": "0"}, 0.5))
