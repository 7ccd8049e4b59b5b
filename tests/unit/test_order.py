"""The order of samples: every one in its turn, whatever the batch, the world, the weights and the shapes."""

from collections import Counter
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.buckets import Size, buckets
from trainer.data.order import Members, Mixture, Order, permuted, share_of

SHAPES = buckets(256, 32)
SQUARE = Size(256, 256)
WHOLE = 2**18


def members(counts: list[int], sizes: list[Size], weights: list[Fraction], shard: int = 7, left_out: int = 0) -> list[Members]:
    """Sets of so many samples each, numbered one after the other; of every `left_out` samples the last is not trained on."""
    found, first = [], 0
    for count, size, weight in zip(counts, sizes, weights, strict=True):
        numbers = np.arange(first, first + count)
        shards = numbers[::shard]
        if left_out:
            numbers = numbers[numbers % left_out != left_out - 1]
        found.append(Members(size, weight, numbers, shards))
        first += count
    return found


def plain(samples: int, seed: int, batch_size: int = 1, block: int = WHOLE) -> Order:
    return Order(members([samples], [SQUARE], [Fraction(1)]), seed, batch_size, block)


@st.composite
def orders(draw: st.DrawFn, weighted: bool = False) -> Order:
    sets = draw(st.integers(1, 6))
    counts = draw(st.lists(st.integers(1, 120), min_size=sets, max_size=sets))
    sizes = draw(st.lists(st.sampled_from(SHAPES), min_size=sets, max_size=sets))
    weight = st.sampled_from([Fraction(1), Fraction(3), Fraction(17, 10), Fraction(1, 50)]) if weighted else st.just(Fraction(1))
    weights = draw(st.lists(weight, min_size=sets, max_size=sets))
    some = members(counts, sizes, weights, draw(st.integers(1, 30)), draw(st.sampled_from([0, 2, 5])))
    if not any(len(one.numbers) for one in some):
        some = members([3], [SQUARE], [Fraction(1)])
    batch = draw(st.sampled_from([1, 2, 6, 8, 12, 32]))
    return Order(some, draw(st.integers(0, 2**31)), batch, draw(st.sampled_from([1, 5, 40, 10**6])))


def all_numbers(order: Order) -> list[int]:
    return sorted(number for group in order.groups for pool in group.pools for number in pool.numbers.tolist())


@settings(max_examples=60, deadline=None)
@given(orders(), st.integers(0, 40))
def test_every_batch_is_of_one_shape_and_samples_differ_by_at_most_a_turn(order: Order, start: int):
    """Over some epochs each sample has come as often as any other of its shape, give or take one, and shapes as their samples ask for."""
    batch, first = order.batch_size, start * order.batch_size
    seen, count, epochs = Counter[int](), Counter[Size](), 3
    steps = epochs * -(-order.samples // batch)
    for step in range(steps):
        drawn = order.batch(first + step * batch)
        assert len(drawn.numbers) == batch
        seen.update(drawn.numbers.tolist())
        count[drawn.size] += batch
    for group, rate in zip(order.groups, order.rates, strict=True):
        (pool,) = group.pools
        times = [seen[number] for number in pool.numbers.tolist()]
        assert max(times) - min(times) <= 2  # two ends of the stretch that was looked at, each in the middle of an epoch
        assert abs(count[group.size] - steps * batch * rate / order.samples) <= 2 * (max(batch, rate) + batch)


@settings(max_examples=60, deadline=None)
@given(orders())
def test_each_sample_comes_once_an_epoch_of_its_shape(order: Order):
    for group in order.groups:
        (pool,) = group.pools
        n = len(pool)
        for epoch in (0, 1, 5):
            assert sorted(group.at(epoch * n, n).tolist()) == pool.numbers.tolist()


@settings(max_examples=60, deadline=None)
@given(orders(weighted=True), st.integers(0, 10**9), st.integers(0, 31))
def test_any_position_is_found_without_those_before_it(order: Order, index: int, phase: int):
    """A resume at any position sees what an undisturbed run sees there, and so does whoever asks for one sample."""
    batch, phase = order.batch_size, phase % order.batch_size
    first = index * batch + phase
    drawn, after = order.batch(first), order.batch(first + batch)
    for place in {0, batch // 2, batch - 1}:
        assert order.sample_at(first + place, phase) == drawn.numbers[place]
    assert set(drawn.numbers.tolist()) | set(after.numbers.tolist()) <= set(all_numbers(order))


@settings(max_examples=60, deadline=None)
@given(orders(weighted=True), st.integers(0, 1000), st.data())
def test_ranks_share_a_batch_evenly_whatever_their_number(order: Order, index: int, data: st.DataObject):
    batch = order.batch_size
    world = data.draw(st.sampled_from([n for n in range(1, batch + 1) if batch % n == 0]))
    numbers = order.batch(index * batch).numbers
    for by_shard in (False, True):
        shares = [share_of(numbers, rank, world, by_shard) for rank in range(world)]
        assert {len(share) for share in shares} == {batch // world}
        assert sorted(np.concatenate(shares).tolist()) == list(range(batch))
        if by_shard:  # each has a stretch of the numbers, so of the shards
            edges = [(numbers[share].min(), numbers[share].max()) for share in shares]
            assert all(high <= low for (_, high), (low, _) in pairwise(edges))


@settings(max_examples=60, deadline=None)
@given(orders(weighted=True), st.integers(0, 5000), st.integers(0, 20))
def test_what_stands_in_for_a_bad_sample_is_of_its_shape_and_the_same_each_time(order: Order, position: int, attempt: int):
    batch = order.batch_size
    size = order.batch(position // batch * batch).size
    group = next(group for group in order.groups if group.size == size)
    instead = order.instead(position, 0, attempt)
    assert any(instead in pool.numbers for pool in group.pools)
    assert order.instead(position, 0, attempt) == instead


@settings(max_examples=60, deadline=None)
@given(st.lists(st.fractions(Fraction(1, 100), 40), min_size=1, max_size=6), st.integers(0, 2**31), st.integers(0, 10**6))
def test_a_mixture_gives_each_kind_its_share_exactly_over_whole_epochs(rates: list[Fraction], seed: int, first: int):
    mixture = Mixture(rates, seed)
    begin = sum(mixture.before(10))
    kinds, turns = mixture.at(0, begin) if begin else (np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert np.bincount(kinds, minlength=len(rates)).tolist() == mixture.before(10)
    for kind in range(len(rates)):
        assert turns[kinds == kind].tolist() == list(range((kinds == kind).sum()))
    some, nth = mixture.at(first, 50)
    one_by_one = [mixture.at(first + i, 1) for i in range(50)]
    assert [int(kind[0]) for kind, _ in one_by_one] == some.tolist()
    assert [int(turn[0]) for _, turn in one_by_one] == nth.tolist()


def test_sources_are_drawn_by_their_weights():
    order = Order(members([100, 300], [SQUARE, SQUARE], [Fraction(3, 100), Fraction(1, 300)]), 0, 8, WHOLE)
    seen = Counter(int(number) for k in range(1000) for number in order.batch(8 * k).numbers)
    first = sum(count for number, count in seen.items() if number < 100)
    assert first / 8000 == pytest.approx(3 / 4, abs=0.001)
    for of_source in (range(100), range(100, 400)):  # and within each, no sample twice before all came once
        times = [seen[number] for number in of_source]
        assert max(times) - min(times) <= 1


def test_one_square_source_comes_in_the_order_it_always_had():
    order = plain(37, seed=1, batch_size=4)
    assert [order.sample_at(p) for p in range(74)] == [*permuted(1, 0, 37).tolist(), *permuted(1, 1, 37).tolist()]
    assert order.batch(35).numbers.tolist() == [*permuted(1, 0, 37)[35:].tolist(), *permuted(1, 1, 37)[:2].tolist()]


def test_epochs_differ_and_so_do_seeds():
    streams = [plain(64, seed).batch(first).numbers.tolist() for seed in (0, 1) for first in (0, 64)]
    orders = [[plain(64, seed).sample_at(first + i) for i in range(64)] for seed in (0, 1) for first in (0, 64)]
    assert len({tuple(order) for order in orders}) == len(streams) == 4


def test_a_block_needs_few_shards_and_an_epoch_all_of_them():
    order = plain(10_000, seed=3, batch_size=100, block=1000)
    shards = [set((order.batch(first).numbers // 7).tolist()) for first in range(0, 10_000, 100)]
    blocks = [set().union(*shards[i : i + 10]) for i in range(0, 100, 10)]
    assert max(map(len, blocks)) <= 1000 // 7 + 2
    assert len(set().union(*blocks)) == -(-10_000 // 7)
    assert sum(map(len, blocks)) <= -(-10_000 // 7) + 10  # a shard lies in two blocks at most where they meet


def test_a_shape_with_fewer_samples_than_a_batch_joins_the_nearest():
    tall, wide = SHAPES[0], SHAPES[-1]
    order = Order(members([100, 3, 50], [SQUARE, tall, wide], [Fraction(1)] * 3), 0, 8, WHOLE)
    assert order.joined == {tall: SQUARE}
    assert [group.size for group in order.groups] == sorted([SQUARE, wide])
    everything = Counter(int(number) for k in range(1530) for number in order.batch(8 * k).numbers)
    assert set(everything) == set(range(153))


def test_an_order_of_no_samples_is_refused():
    with pytest.raises(ValueError, match="there is no sample to train on"):
        Order([], 0, 1, 1)


ALWAYS_TRUE = [
    (test_every_batch_is_of_one_shape_and_samples_differ_by_at_most_a_turn, (orders(), st.integers(0, 40))),
    (test_each_sample_comes_once_an_epoch_of_its_shape, (orders(),)),
    (test_any_position_is_found_without_those_before_it, (orders(weighted=True), st.integers(0, 10**9), st.integers(0, 31))),
    (test_ranks_share_a_batch_evenly_whatever_their_number, (orders(weighted=True), st.integers(0, 1000), st.data())),
    (
        test_what_stands_in_for_a_bad_sample_is_of_its_shape_and_the_same_each_time,
        (orders(weighted=True), st.integers(0, 5000), st.integers(0, 20)),
    ),
]


@pytest.mark.long
@pytest.mark.parametrize(("claim", "drawn"), ALWAYS_TRUE)
def test_over_thousands_of_configurations(claim: Any, drawn: tuple[Any, ...]):
    settings(max_examples=2000, deadline=None)(given(*drawn)(claim.hypothesis.inner_test))()
