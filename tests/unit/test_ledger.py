"""Money is cut at midnight (UTC) and at the ends of months, and nothing of it is lost or counted twice."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.usage.ledger import Holding, day_of, dollars_by_day, dollars_within, month_of

START = datetime(2026, 1, 1, tzinfo=UTC)
instants = st.integers(0, 400 * 86400).map(lambda seconds: START + timedelta(seconds=seconds))


@st.composite
def holdings(draw: st.DrawFn) -> Holding:
    began, ended = sorted([draw(instants), draw(instants)])
    return Holding(draw(st.integers(1, 512)), draw(st.floats(0, 100)), began, draw(st.sampled_from([ended, None])))


def test_an_attempt_over_midnight_counts_for_both_days_each_its_part():
    attempt = Holding(32, 2.0, datetime(2026, 1, 31, 23, tzinfo=UTC), datetime(2026, 2, 1, 3, tzinfo=UTC))
    assert dollars_by_day([attempt], START, datetime(2026, 3, 1, tzinfo=UTC)) == {"2026-01-31": 64.0, "2026-02-01": 192.0}
    january, february = month_of(attempt.began), month_of(attempt.ended)
    assert dollars_within(attempt, january.start, january.end) == 64.0
    assert dollars_within(attempt, february.start, february.end) == 192.0


def test_what_is_still_held_costs_until_now():
    attempt = Holding(8, 2.0, START, None)
    assert dollars_within(attempt, START, START + timedelta(minutes=30)) == 8.0


@pytest.mark.parametrize(
    ("at", "day", "month", "days"),
    [
        (datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC), "2026-02-28", "2026-02", 28),
        (datetime(2028, 2, 1, tzinfo=UTC), "2028-02-01", "2028-02", 29),
        (datetime(2026, 12, 31, 12, tzinfo=UTC), "2026-12-31", "2026-12", 31),
        (datetime(2026, 7, 1, 1, tzinfo=timezone(timedelta(hours=2))), "2026-06-30", "2026-06", 30),
    ],
)
def test_days_and_months_are_those_of_utc(at: datetime, day: str, month: str, days: int):
    assert day_of(at).name == day
    assert month_of(at).name == month
    assert month_of(at).end - month_of(at).start == timedelta(days=days)
    assert day_of(at).start <= at < day_of(at).end


@given(st.lists(holdings(), max_size=5), instants, instants)
def test_the_days_add_up_to_the_whole(found: list[Holding], one: datetime, other: datetime):
    start, end = sorted([one, other])
    whole = sum(dollars_within(holding, start, end) for holding in found)
    assert sum(dollars_by_day(found, start, end).values()) == pytest.approx(whole, abs=1e-6)


@given(holdings(), st.lists(instants, min_size=2, max_size=6))
def test_however_time_is_cut_the_pieces_add_up(holding: Holding, cuts: list[datetime]):
    cuts.sort()
    pieces = sum(dollars_within(holding, start, end) for start, end in pairwise(cuts))
    assert pieces == pytest.approx(dollars_within(holding, cuts[0], cuts[-1]), abs=1e-6)
    assert pieces >= 0
