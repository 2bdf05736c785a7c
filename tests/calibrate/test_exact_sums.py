"""Sums without rounding, against Python's fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sn_deploy.calibrate.exact_sums import ExactSums
from sn_deploy.calibrate.layer_sums import LayerSums

# Whose squares are still finite; subnormal numbers among them.
FLOATS = st.floats(min_value=-1e150, max_value=1e150, allow_nan=False)
VECTORS = st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=8)


def values(sums: ExactSums) -> list[Fraction]:
    return [Fraction(int(integer)) * Fraction(2) ** sums.exponent for integer in sums.integers]


@given(VECTORS, st.integers(1, 5))
def test_sums_are_exact(vectors, weight):
    sums, squares = ExactSums(2), ExactSums(2)
    for vector in vectors:
        sums.add(np.array(vector), weight)
        squares.add_squares(np.array(vector), weight)
    columns = [[Fraction(value) for value in column] for column in zip(*vectors, strict=True)]
    assert values(sums) == [weight * sum(column) for column in columns]
    assert values(squares) == [weight * sum(value**2 for value in column) for column in columns]


@given(VECTORS, st.randoms(use_true_random=False))
def test_order_and_grouping_change_no_bit(vectors, random):
    whole, first, second = ExactSums(2), ExactSums(2), ExactSums(2)
    for vector in vectors:
        whole.add(np.array(vector))
    random.shuffle(vectors)
    for vector in vectors:
        random.choice((first, second)).add(np.array(vector))
    first.merge(second)
    for own, other in zip(first.to_bytes(), whole.to_bytes(), strict=True):
        np.testing.assert_array_equal(own, other)


@given(VECTORS)
def test_bytes_give_the_sums_back(vectors):
    sums = ExactSums(2)
    for vector in vectors:
        sums.add(np.array(vector))
        sums.add_squares(np.array(vector))
    assert values(ExactSums.from_bytes(*sums.to_bytes())) == values(sums)


def test_bytes_of_the_largest_and_the_smallest_numbers():
    sums = ExactSums(2)
    sums.add_squares(np.array([np.finfo(np.float64).max, 5e-324]), 2**62)
    sums.add(np.array([5e-324, -np.finfo(np.float64).max]), 2**62)
    assert values(ExactSums.from_bytes(*sums.to_bytes())) == values(sums)


@pytest.mark.parametrize(
    ("rows", "exponent"),
    [
        (np.zeros((3, 0), np.uint8), 0),  # no bytes: any number of channels
        (np.zeros((3, 1, 7, 0), np.uint8), 0),
        (np.zeros(3, np.uint8), 0),
        (np.zeros((3, 4), np.int64), 0),
        (np.zeros((3, 10_000), np.uint8), 0),
        (np.zeros((3, 4), np.uint8), -(10**9)),
        (np.zeros((3, 4), np.uint8), 10**9),
    ],
)
def test_bytes_that_are_no_sums(rows, exponent):
    with pytest.raises(ValueError, match="rows "):
        ExactSums.from_bytes(rows, exponent)


@given(st.lists(st.tuples(FLOATS, st.floats(0, 1e300), st.integers(2, 9)), min_size=1, max_size=6), st.integers(0, 1))
def test_moments_are_rounded_once(calls, ddof):
    """With each call's own ddof: the moments of all values, from those of the parts."""
    sums = LayerSums(1)
    for mean, var, count in calls:
        sums.add(np.array([mean]), np.array([var]), count, count - ddof)
    count = sum(count for *_, count in calls)
    mean = sum(count * Fraction(mean) for mean, _, count in calls) / count
    within = sum((count - ddof) * Fraction(var) for _, var, count in calls)
    between = sum(count * (Fraction(own) - mean) ** 2 for own, _, count in calls)
    found_mean, found_var = sums.moments(ddof)
    assert found_mean[0] == float(mean)
    assert found_var[0] == float((within + between) / (count - ddof))


def test_cancellation_costs_nothing():
    """Means of 1e8 that differ by 1e-7: squares in float64 know nothing of the difference."""
    sums = LayerSums(1)
    for mean in (1e8, 1e8 + 1e-7):
        sums.add(np.array([mean]), np.array([0.0]), 1, 1)
    difference = (1e8 + 1e-7) - 1e8
    assert sums.moments()[1][0] == pytest.approx((difference / 2) ** 2, rel=1e-15)
