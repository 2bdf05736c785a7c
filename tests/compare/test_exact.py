"""Sums and percentiles that don't depend on the order."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sn_deploy.compare.exact import ExactSum
from sn_deploy.compare.histogram import Histogram

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(terms=st.lists(FINITE, max_size=20))
def test_a_sum_is_the_exact_one_rounded_once(terms: list[float]) -> None:
    total = ExactSum(terms)
    exact = sum((Fraction(term) for term in terms), Fraction())
    assert total.value == rounded(exact)


def rounded(number: Fraction) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


@given(terms=st.lists(st.floats(), max_size=10), cut=st.integers(0, 10), order=st.randoms(use_true_random=False))
def test_order_grouping_and_writing_change_nothing(terms: list[float], cut: int, order: object) -> None:
    whole = ExactSum(terms)
    shuffled = list(terms)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    joined = ExactSum.from_state(ExactSum(shuffled[:cut]).state()) + ExactSum(shuffled[cut:])
    assert joined.state() == whole.state()
    assert repr(joined.value) == repr(whole.value)
    assert repr(joined.mean(3)) == repr(whole.mean(3))


def test_special_terms() -> None:
    assert ExactSum([1.0, math.inf]).value == math.inf
    assert math.isnan(ExactSum([math.inf, -math.inf]).value)
    assert ExactSum([1e308, 1e308, -1e308]).value == 1e308
    assert ExactSum([1e308, 1e308]).value == math.inf
    assert ExactSum([1e308, 1e308]).mean(4) == 5e307
    assert ExactSum([5e-324] * 3).value == 1.5e-323
    assert math.isnan(ExactSum().mean(0))


@given(values=st.lists(st.floats(0, 1e30), min_size=1, max_size=50), percent=st.sampled_from([50.0, 90.0, 99.0, 99.9]))
def test_percentiles_are_upper_bounds_within_a_bin(values: list[float], percent: float) -> None:
    histogram = Histogram()
    histogram.add(np.array(values))
    exact = sorted(values)[math.ceil(Fraction(str(percent)) * len(values) / 100) - 1]
    found = histogram.percentile(percent)
    assert found >= exact or exact < 1e-40
    assert found <= 1.008 * exact + 1e-40


def test_percentiles_at_the_ends() -> None:
    histogram = Histogram()
    assert math.isnan(histogram.percentile(50))
    histogram.add(np.array([0.0, 0.0, 1e300]))
    assert histogram.percentile(50) == 0
    assert histogram.percentile(99) == math.inf
    histogram = Histogram()
    histogram.add(np.r_[np.zeros(999), 1.0])
    assert histogram.percentile(99.9) == 0  # 999 of 1000 are 0: 99.9 isn't taken for a little more


def test_a_damaged_state_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no bin"):
        Histogram.from_state({"99999999": 1})
    with pytest.raises(ValueError, match="could not convert"):
        ExactSum.from_state("none")
