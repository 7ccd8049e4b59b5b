"""Figures that say how sure they are and how they came about: intervals, and terms with their formula filled in. Knows no recipe."""

from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Figures(BaseModel):
    """A closed, immutable group of figures that can go over the wire."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Interval(Figures):
    """A figure that is not known exactly: nine in ten outcomes are expected between `low` and `high`."""

    low: float = Field(ge=0)
    expected: float = Field(ge=0)
    high: float = Field(ge=0)

    @model_validator(mode="after")
    def ordered(self) -> Self:
        if not self.low <= self.expected <= self.high:
            raise ValueError(f"an interval is low ≤ expected ≤ high, not {self.low:g}, {self.expected:g}, {self.high:g}")
        return self

    @classmethod
    def exactly(cls, value: float) -> "Interval":
        """A figure with nothing unsure about it."""
        return Interval(low=value, expected=value, high=value)

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __add__(self, other: "Interval") -> "Interval":
        """The sum of two figures that are low together and high together: what slows one stage slows the next."""
        return Interval(low=self.low + other.low, expected=self.expected + other.expected, high=self.high + other.high)

    def __mul__(self, factor: float) -> "Interval":
        return Interval(low=self.low * factor, expected=self.expected * factor, high=self.high * factor)

    def under(self, value: float) -> "Interval":
        """`value` divided by this figure: a rate becomes a time, and its low end the high one."""
        return Interval(low=value / self.high, expected=value / self.expected, high=value / self.low)


def largest(intervals: list[Interval]) -> Interval:
    """The largest of each end."""
    return Interval(
        low=max(one.low for one in intervals), expected=max(one.expected for one in intervals), high=max(one.high for one in intervals)
    )


class Line(Figures):
    """One line of the arithmetic behind an estimate."""

    name: str
    formula: str = Field(description="With the numbers filled in.")
    value: float
    unit: str


def line(name: str, formula: str, value: float, unit: str) -> Line:
    return Line(name=name, formula=formula, value=value, unit=unit)


class Term(NamedTuple):
    """A count with the formula it came from: FLOP, parameters or bytes, as the function that made it says."""

    name: str
    formula: str
    value: float

    def line(self, unit: str, prefix: str = "") -> Line:
        return line(prefix + self.name, self.formula, self.value, unit)


def total(terms: list[Term]) -> float:
    return sum(term.value for term in terms)


def added(name: str, terms: list[Term]) -> Term:
    """The sum of `terms` as one term."""
    return Term(name, " + ".join(f"{term.value:.4g} ({term.name})" for term in terms), total(terms))


def linear(name: str, rows: int, inputs: int, outputs: int) -> Term:
    """FLOP of a linear layer on `rows` vectors: a product and a sum for each weight and row."""
    return Term(name, f"2 · {rows:,} · {inputs:,} · {outputs:,}", 2.0 * rows * inputs * outputs)


def attention(name: str, queries: int, keys: int, width: int) -> Term:
    """FLOP of softmax(Q·Kᵀ)·V over all heads together `width` wide: two products; the softmax is not counted."""
    return Term(name, f"2 · 2 · {queries:,} · {keys:,} · {width:,}", 4.0 * queries * keys * width)


def convolution(name: str, side: int, inputs: int, outputs: int, kernel: int = 3) -> Term:
    """FLOP of a square convolution whose output is `side` pixels a side."""
    return Term(name, f"2 · {side:,}² · {kernel}² · {inputs:,} · {outputs:,}", 2.0 * side * side * kernel * kernel * inputs * outputs)
