"""The queue's rules as a table, then as promises that hold for any queue: capacity, quotas, order, and that everyone's turn comes."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.runs.placement import PLACES, Capacity, Closed, Code, Held, Placement, Queued, Waiting, place, worth_telling

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = 3600.0
TOMORROW = datetime(2026, 1, 2, tzinfo=UTC)
SPENT = Closed(Code.DAY_BUDGET, "all is spent", TOMORROW)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def run(name: str, accelerators: int = 8, project: str = "a", **more) -> Queued:
    return Queued(name, project, accelerators, **more)


def held(accelerators: int, seconds: float | None = None, project: str = "z") -> Held:
    return Held(project, accelerators, None if seconds is None else later(seconds))


def codes(found: list[Placement]) -> dict[str, str | None]:
    """Run → why it waits; None: it begins."""
    return {one.run_id: str(one.waiting.code) if one.waiting else None for one in found}


@pytest.mark.parametrize(
    ("queue", "holding", "capacity", "quotas", "expected"),
    [
        pytest.param([run("r1"), run("r2")], [], 16, {}, {"r1": None, "r2": None}, id="both fit"),
        pytest.param([run("r2"), run("r1")], [], 8, {}, {"r1": None, "r2": "no_room"}, id="the older first"),
        pytest.param([run("r1"), run("r2", priority=1)], [], 8, {}, {"r2": None, "r1": "no_room"}, id="priority before age"),
        pytest.param(
            [run("r1", 16), run("r2", 4)], [held(8)], 16, {}, {"r1": "no_room", "r2": "behind"}, id="no end is known: strict order"
        ),
        pytest.param(
            [run("r1", 16), run("r2", 4, seconds=HOUR / 2)],
            [held(8, HOUR)],
            16,
            {},
            {"r2": None, "r1": "no_room"},
            id="a short one fills in",
        ),
        pytest.param(
            [run("r1", 16), run("r2", 4, seconds=2 * HOUR)],
            [held(8, HOUR)],
            16,
            {},
            {"r1": "no_room", "r2": "behind"},
            id="a long one does not",
        ),
        pytest.param(
            [run("r1", 10), run("r2", 4, project="b"), run("r3", 4, project="b")],
            [held(8, HOUR)],
            16,
            {},
            {"r2": None, "r1": "no_room", "r3": "behind"},
            id="beside the first there is room for one, however long",
        ),
        pytest.param(
            [run("r1", 10), run("r2", 4)],
            [held(8, HOUR)],
            16,
            {"a": 12},
            {"r1": "no_room", "r2": "behind"},
            id="its own quota could close on it",
        ),
        pytest.param(
            [run("r1", 8), run("r2", 2), run("r3", 8, project="b")],
            [held(4, project="a")],
            32,
            {"a": 8},
            {"r3": None, "r1": "project_quota", "r2": "behind"},
            id="a quota closes the door for its project alone",
        ),
        pytest.param(
            [run("r1", closed=SPENT), run("r2", project="b")],
            [],
            8,
            {},
            {"r2": None, "r1": "day_budget"},
            id="who has no money holds up nobody",
        ),
        pytest.param([run("r1", 64), run("r2")], [], 32, {}, {"r2": None, "r1": "no_room"}, id="wider than all there is: holds up nobody"),
        pytest.param([run("r1", 16), run("r2")], [], 32, {"a": 8}, {"r2": None, "r1": "project_quota"}, id="wider than its quota"),
        pytest.param(
            [run("r1", not_before=later(4)), run("r2")],
            [],
            8,
            {},
            {"r1": "retry_delay", "r2": "no_room"},
            id="its room is kept over a fault",
        ),
        pytest.param([run("r1", not_before=NOW)], [], 8, {}, {"r1": None}, id="the next attempt is due"),
        pytest.param([run("r1", 512)], [held(512)], None, {}, {"r1": None}, id="no limit"),
    ],
)
def test_place(queue: list[Queued], holding: list[Held], capacity: int | None, quotas: dict[str, int], expected: dict[str, str | None]):
    found = place(queue, holding, Capacity(accelerators=capacity), quotas, NOW)
    assert list(codes(found).items()) == sorted(expected.items(), key=lambda pair: (pair[1] is not None, list(expected).index(pair[0])))


def test_one_run_at_once_is_a_capacity_too():
    found = place([run("r1", 2), run("r2", 2)], [], Capacity(runs=1), {}, NOW)
    assert codes(found) == {"r1": None, "r2": "no_room"}
    assert found[1].waiting
    assert found[1].waiting.because == "1 run may hold this machine at once, and does"


def test_each_is_told_its_place_and_when_it_may_begin():
    queue = [run("r1", 16, seconds=HOUR), run("r2", 16, seconds=HOUR), run("r3", 8), run("r4", 16), run("r0", closed=SPENT)]
    found = {one.run_id: one.waiting for one in place(queue, [held(16, HOUR)], Capacity(16), {}, NOW)}
    assert found["r1"] == Waiting(Code.NO_ROOM, "it takes 16 accelerators; 0 of 16 are free", 1, later(HOUR))
    assert found["r2"] == Waiting(Code.BEHIND, "1 run is before it", 2, later(2 * HOUR))
    assert found["r3"] == Waiting(Code.BEHIND, "2 runs are before it", 3, later(3 * HOUR))
    assert found["r4"] == Waiting(Code.BEHIND, "3 runs are before it", 4, None)  # nobody knows when r3 ends
    assert found["r0"] == Waiting(Code.DAY_BUDGET, "all is spent", None, TOMORROW)


def test_far_behind_nothing_is_told_that_the_next_launch_would_change():
    queue = [run(f"r{number:03d}") for number in range(PLACES + 5)]
    before = {one.run_id: one.waiting for one in place(queue, [held(8)], Capacity(8), {}, NOW)}
    after = {one.run_id: one.waiting for one in place(queue[1:], [held(8)], Capacity(8), {}, NOW)}
    assert sum(before[name] != after[name] for name in after) == PLACES
    assert before["r104"] == Waiting(Code.BEHIND, "100 runs or more are before it")


@pytest.mark.parametrize(
    ("before", "after", "news"),
    [
        (None, Waiting(Code.NO_ROOM, "x", 1), True),
        (Waiting(Code.NO_ROOM, "x", 1), Waiting(Code.NO_ROOM, "x", 1), False),
        (Waiting(Code.NO_ROOM, "x", 2), Waiting(Code.NO_ROOM, "x", 1), True),
        (Waiting(Code.NO_ROOM, "x", 1), Waiting(Code.NO_ROOM, "y", 1), True),
        (Waiting(Code.NO_ROOM, "x", 1, later(600)), Waiting(Code.NO_ROOM, "x", 1, later(640)), False),
        (Waiting(Code.NO_ROOM, "x", 1, later(600)), Waiting(Code.NO_ROOM, "x", 1, later(700)), True),
        (Waiting(Code.NO_ROOM, "x", 1, later(36000)), Waiting(Code.NO_ROOM, "x", 1, later(36700)), False),
        (Waiting(Code.NO_ROOM, "x", 1, later(600)), Waiting(Code.NO_ROOM, "x", 1), True),
    ],
)
def test_a_row_is_written_for_news_only(before: Waiting | None, after: Waiting, news: bool):
    assert worth_telling(before and before.as_json(), after, NOW) == news


# ---- what holds for any queue ------------------------------------------------------------------------------------------------------

TOTAL = 16
projects = st.sampled_from("ab")
durations = st.none() | st.integers(1, 20).map(float)


@st.composite
def queues(draw: st.DrawFn, known: bool = False) -> list[Queued]:
    seconds = st.integers(1, 20).map(float) if known else durations
    return [
        Queued(f"r{number:02d}", draw(projects), draw(st.integers(1, TOTAL)), draw(st.integers(-1, 1)), draw(seconds))
        for number in range(draw(st.integers(0, 8)))
    ]


held_ones = st.lists(st.builds(Held, projects, st.integers(1, 4), st.none() | st.integers(1, 20).map(later)), max_size=4)
quotas_ = st.dictionaries(projects, st.integers(1, TOTAL))


@given(queues(), held_ones, quotas_)
def test_never_over_capacity_or_quota_and_everyone_is_answered(queue: list[Queued], holding: list[Held], quotas: dict[str, int]):
    found = place(queue, holding, Capacity(TOTAL), quotas, NOW)
    assert sorted(one.run_id for one in found) == sorted(one.run_id for one in queue)
    begun = [one for one in queue if codes(found)[one.run_id] is None]
    assert not begun or sum(one.accelerators for one in (*holding, *begun)) <= TOTAL
    by_project = Counter[str]()
    for one in (*holding, *begun):
        by_project[one.project_id] += one.accelerators
    assert all(by_project[project] <= quotas.get(project, TOTAL) for project in {one.project_id for one in begun})


@given(queues(), held_ones)
def test_among_equals_the_first_begins_first(queue: list[Queued], holding: list[Held]):
    """Of runs of one width, length and project, none passes another that has its turn before."""
    found = codes(place(queue, holding, Capacity(TOTAL), {}, NOW))
    for one in queue:
        for other in queue:
            alike = (one.project_id, one.accelerators, one.seconds) == (other.project_id, other.accelerators, other.seconds)
            if alike and one.turn < other.turn and found[other.run_id] is None:
                assert found[one.run_id] is None


@given(queues(), held_ones, quotas_)
def test_who_begins_had_no_room_to_leave(queue: list[Queued], holding: list[Held], quotas: dict[str, int]):
    """Work is not left lying: with nobody before it, a run that fits begins."""
    found = place(queue, holding, Capacity(TOTAL), quotas, NOW)
    free = TOTAL - sum(one.accelerators for one in holding)
    first = min(queue, key=lambda run: run.turn, default=None)
    if first is not None:
        mine = sum(one.accelerators for one in holding if one.project_id == first.project_id)
        fits = first.accelerators <= free and mine + first.accelerators <= quotas.get(first.project_id, TOTAL)
        assert (codes(found)[first.run_id] is None) == fits


def begun_at(
    queue: list[Queued], quotas: dict[str, int], arrivals: dict[int, list[Queued]] | None = None, end: int = 400
) -> dict[str, int]:
    """When each run begins if all take as long as expected; the queue is placed once a second. `arrivals`: second → runs that join."""
    waiting, running, found = list(queue), list[tuple[int, Queued]](), dict[str, int]()
    for second in range(end):
        waiting += (arrivals or {}).get(second, [])
        running = [(until, one) for until, one in running if until > second]
        holding = [Held(one.project_id, one.accelerators, later(until)) for until, one in running]
        begins = [one.run_id for one in place(waiting, holding, Capacity(TOTAL), quotas, later(second)) if one.waiting is None]
        for one in [one for one in waiting if one.run_id in begins]:
            assert one.seconds is not None
            found[one.run_id] = second
            running.append((second + int(one.seconds), one))
        waiting = [one for one in waiting if one.run_id not in begins]
    return found


@given(queues(known=True), st.dictionaries(projects, st.just(TOTAL)))
def test_everyone_begins_in_the_end(queue: list[Queued], quotas: dict[str, int]):
    assert set(begun_at(queue, quotas)) == {one.run_id for one in queue}


@given(st.lists(st.tuples(st.integers(1, TOTAL - 1), st.integers(1, 20)), min_size=1, max_size=3))
def test_a_wide_run_begins_on_time_however_many_narrow_ones_come_after_it(sizes: list[tuple[int, int]]):
    """With the narrow ones it begins in the same second as without them, or, for each run that had its turn before, one of them later."""
    before = [Queued(f"a{number}", "a", width, seconds=float(length)) for number, (width, length) in enumerate(sizes)]
    wide = Queued("b", "b", TOTAL, seconds=5.0)
    flood = {second: [Queued(f"c{second:03d}", "c", 1 + second % 5, seconds=float(1 + second % 7))] for second in range(1, 60)}
    alone = begun_at([*before, wide], {}, end=120)["b"]
    turns_before = 0 if sum(width for width, _ in sizes) <= TOTAL else len(sizes)
    assert alone <= begun_at([*before, wide], {}, flood, end=120)["b"] <= alone + 7 * turns_before
