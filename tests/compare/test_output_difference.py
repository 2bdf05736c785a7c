"""The one rule by which commands hold an output against the source's, for every type that a file can have."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from sn_deploy.compare.output_difference import OutputDifference, check_shape_and_type, comparable, difference
from sn_deploy.errors import CheckFailedError

FLOATS = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16]
EXACT = [np.int64, np.int8, np.uint8, np.bool_]


def by_hand(expected: Any, actual: Any) -> float:
    wide, other = expected.astype(np.longdouble), actual.astype(np.longdouble)
    return float(np.sqrt(((wide - other) ** 2).sum() / (wide**2).sum()))


@pytest.mark.parametrize("dtype", FLOATS)
def test_numbers_of_any_width_differ_by_their_size(dtype: Any) -> None:
    generator = np.random.default_rng(0)
    expected = generator.standard_normal((3, 50)).astype(dtype)
    actual = (expected.astype(np.float64) + 0.1 * generator.standard_normal((3, 50))).astype(dtype)
    found = difference(expected, actual)
    assert not found.is_exact
    assert found.size == found.rel_l2 == pytest.approx(by_hand(expected, actual), rel=1e-12)
    assert (found.elements, found.not_finite, found.lost) == (150, 0, 0)


@pytest.mark.parametrize("dtype", EXACT)
def test_integers_are_equal_or_others(dtype: Any) -> None:
    expected = np.arange(200).reshape(4, 50).astype(dtype)
    actual = expected.copy()
    actual[:3, 7] = np.logical_not(actual[:3, 7])
    found = difference(expected, actual)
    assert found.is_exact
    assert found.size == found.changed == int((expected != actual).sum()) / 200 > 0
    assert difference(expected, expected).size == 0


@pytest.mark.parametrize("dtype", FLOATS)
def test_what_is_not_finite_in_the_reference_is_left_out(dtype: Any) -> None:
    expected = np.array([np.nan, -np.inf, 3, 4], dtype)
    found = difference(expected, np.array([np.nan, 7, 3, 4.5], dtype))
    assert (found.elements, found.not_finite, found.lost) == (2, 2, 0)
    assert found.size == 0.5 / 5
    assert comparable(expected).tolist() == [False, False, True, True]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", FLOATS)
def test_what_is_finite_there_has_to_be_so_here(dtype: Any, bad: float) -> None:
    found = difference(np.array([1, 2, np.nan], dtype), np.array([1, bad, bad], dtype))
    assert (found.lost, found.size) == (1, math.inf)


def test_batches_make_a_whole() -> None:
    expected, actual = np.random.default_rng(0).standard_normal((2, 6, 5)).astype(np.float32)
    found = OutputDifference()
    for first in (0, 4):
        rows = slice(first, first + 4)
        found.update(expected[rows], actual[rows], first=first, samples=len(expected[rows]))
    assert found.rel_l2 == pytest.approx(by_hand(expected, actual), rel=1e-12)
    counted = OutputDifference()
    for old, new in (([1, 2, 3], [1, 2, 4]), ([1], [1])):
        counted.update(np.array(old), np.array(new), first=0, samples=1)
    assert counted.changed == 1 / 4


def test_a_narrower_number_may_stand_in_and_another_integer_may_not() -> None:
    wide = np.linspace(1, 2, 7, dtype=np.float32)
    found = OutputDifference()
    found.update(wide, wide.astype(ml_dtypes.bfloat16), first=0, samples=7)
    assert 0 < found.rel_l2 < 2**-8
    for expected, actual in (
        (wide.astype(np.int64), wide.astype(np.int32)),
        (wide.astype(np.int64), wide),
        (wide, wide > 0),
    ):
        with pytest.raises(CheckFailedError, match=r"it gives \w+ \(7,\) \(expected \w+ \(7,\), as the source does\)"):
            OutputDifference().update(expected, actual, first=0, samples=7)


def test_shape_and_type_have_to_agree() -> None:
    x = np.zeros((2, 3), np.float32)
    check_shape_and_type(x, x + 1)
    for actual, made in ((x[:1], r"float32 \(1, 3\)"), (x.astype(np.float16), r"float16 \(2, 3\)"), (None, "nothing")):
        with pytest.raises(CheckFailedError, match=rf"the copy gives {made} \(expected float32 \(2, 3\)"):
            difference(x, actual, whose="the copy")


def test_nothing_differs_where_nothing_is() -> None:
    for dtype in (np.float32, np.int64):
        found = difference(np.zeros((0, 3), dtype), np.zeros((0, 3), dtype))
        assert (found.elements, found.size) == (0, 0)
