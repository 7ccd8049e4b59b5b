"""Aspect buckets: which there are, where a picture goes, and what of it is kept."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.buckets import Size, at, buckets, covered, nearest

SIDES = st.integers(1, 20_000)
GRIDS = st.tuples(st.integers(1, 64), st.sampled_from([1, 4, 16, 32]))  # (patches a side of the square, pixels a patch)


def test_1024_px_with_patches_of_32_px_have_27_buckets():
    sizes = buckets(1024, 32)
    assert len(sizes) == 27
    assert sizes[0] == Size(704, 1440)
    assert sizes[13] == Size(1024, 1024)
    assert sizes[-1] == Size(1440, 704)


def test_patches_that_do_not_divide_the_square_are_refused_with_the_nearest_size():
    with pytest.raises(ValueError, match=r"patches of 32 px do not divide a square of 1000 px; nearest: 992"):
        buckets(1000, 32)


@given(GRIDS)
def test_buckets_are_whole_grids_of_about_the_squares_area_and_come_with_their_converse(grid):
    side, patch = grid
    sizes = buckets(side * patch, patch)
    assert Size(side * patch, side * patch) in sizes
    assert len(set(sizes)) == len(sizes)
    for width, height in sizes:
        assert width % patch == height % patch == 0
        tokens = (width // patch) * (height // patch)
        assert side**2 - max(width, height) // patch < tokens <= side**2  # one row or column more would be too many
        assert max(width, height) // patch <= side * math.sqrt(2) + (1 if side == 1 else 0)
        assert Size(height, width) in sizes
    assert [w / h for w, h in sizes] == sorted(w / h for w, h in sizes)


@given(SIDES, SIDES, GRIDS)
def test_a_picture_goes_to_the_bucket_that_cuts_off_least_and_its_converse_to_the_converse(width, height, grid):
    side, patch = grid
    sizes = buckets(side * patch, patch)

    def kept(size: Size) -> Fraction:
        one, other = Fraction(width * size.height), Fraction(height * size.width)
        return min(one, other) / max(one, other)

    chosen = nearest(width, height, sizes)
    assert kept(chosen) == max(map(kept, sizes)) or kept(chosen) == pytest.approx(float(max(map(kept, sizes))), rel=1e-15)
    assert nearest(height, width, sizes) == (chosen.height, chosen.width)
    assert nearest(*chosen, sizes) == chosen


@given(SIDES, SIDES, GRIDS)
def test_what_is_kept_is_the_middle_as_large_as_the_ratio_allows(width, height, grid):
    side, patch = grid
    size = nearest(width, height, buckets(side * patch, patch))
    left, top, right, bottom = covered(width, height, size)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    wide = width * size.height >= height * size.width
    if wide:  # the whole height, and of the width what the ratio asks for
        assert (top, bottom) == (0, height)
        assert abs(right - left - max(1, Fraction(height * size.width, size.height))) <= Fraction(1, 2)
        assert left - (width - right) in (0, -1)
    else:
        assert (left, right) == (0, width)
        assert abs(bottom - top - max(1, Fraction(width * size.height, size.width))) <= Fraction(1, 2)
        assert top - (height - bottom) in (0, -1)


@given(GRIDS, st.sampled_from([1, 2, 4]))
def test_at_a_multiple_of_its_pixels_a_bucket_is_trained_at_that_multiple_or_nearer_to_its_ratio(grid, factor):
    side, patch = grid
    for size in buckets(side * patch, patch):
        larger = at(size, factor * side * patch, patch)
        assert larger in buckets(factor * side * patch, patch)
        assert larger == nearest(*size, buckets(factor * side * patch, patch))
        assert at(size, side * patch, patch) == size


def test_a_bucket_is_named_by_its_size_and_read_back():
    assert str(Size(1344, 768)) == "1344x768"
    assert Size.of("1344x768") == Size(1344, 768)
    for name in ("1344", "x768", "0x4", "-1x4", "wide"):
        with pytest.raises(ValueError, match="expected WIDTHxHEIGHT"):
            Size.of(name)
