"""Token buckets: a burst, then a rate, and memory that does not grow with the number of strangers."""

from service.http.limits import MOST_BUCKETS, Buckets


def test_a_burst_is_let_through_and_then_the_rate():
    buckets = Buckets(per_second=2, burst=3)
    assert [buckets.take("a", 0.0).allowed for _ in range(4)] == [True, True, True, False]
    assert buckets.take("a", 0.0).seconds == 0.5
    assert buckets.take("a", 0.5).allowed
    assert not buckets.take("a", 0.5).allowed
    assert [buckets.take("a", 100.0).tokens for _ in range(3)] == [2, 1, 0]  # never more than the burst


def test_everybody_has_a_bucket_of_their_own():
    buckets = Buckets(per_second=1, burst=1)
    assert buckets.take("a", 0.0).allowed
    assert buckets.take("b", 0.0).allowed


def test_a_look_takes_nothing():
    buckets = Buckets(per_second=1, burst=1)
    assert buckets.take("a", 0.0, 0).allowed
    assert buckets.take("a", 0.0).allowed
    assert not buckets.take("a", 0.0, 0).allowed


def test_what_is_left_says_when_the_bucket_is_full_again():
    left = Buckets(per_second=2, burst=10).take("a", 0.0, 4)
    assert (left.tokens, left.seconds) == (6, 2.0)


def test_strangers_cost_bounded_memory():
    buckets = Buckets(per_second=1, burst=1)
    for number in range(MOST_BUCKETS + 50):
        buckets.take(str(number), 0.0)
    assert len(buckets._buckets) == MOST_BUCKETS  # pyright: ignore[reportPrivateUsage]
    assert buckets.take("0", 0.0).allowed  # forgotten: full again
