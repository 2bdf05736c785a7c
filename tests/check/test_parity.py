"""Differences between outputs, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sn_deploy.check.parity import Parity, accuracy, compare, top1_agreement
from sn_deploy.errors import SnDeployError


def test_differences() -> None:
    parity = compare([3.0, -4.0, 0.0], [3.0, -4.5, 0.1])
    rms = np.sqrt(25 / 3)
    assert parity.max_abs == pytest.approx(0.5)
    assert parity.max_rel == pytest.approx(max(0.5 / 4, 0.1 / rms))
    assert parity.rel_l2 == pytest.approx(np.sqrt(0.26) / 5)
    assert parity.nonfinite == 0


def test_equal_and_empty_arrays_do_not_differ() -> None:
    assert compare(np.ones(3), np.ones(3, np.float16)) == Parity(0, 0, 0, 0)
    assert compare(np.zeros((0, 4)), np.zeros((0, 4))) == Parity(0, 0, 0, 0)


def test_what_is_not_finite_is_counted_and_not_averaged() -> None:
    nan, inf = float("nan"), float("inf")
    parity = compare([1.0, nan, inf, 2.0, 5.0], [1.0, nan, inf, nan, inf])
    assert parity == Parity(0, 0, 0, nonfinite=2)


def test_a_zero_reference_has_no_relative_error() -> None:
    parity = compare([0.0, 0.0], [0.0, 1.0])
    assert parity.max_abs == 1
    assert parity.max_rel == parity.rel_l2 == float("inf")


def test_shapes_must_agree() -> None:
    with pytest.raises(SnDeployError, match=r"output has shape \(2, 3\) \(expected the reference's, \(3, 2\)\)"):
        compare(np.ones((3, 2)), np.ones((2, 3)))


def test_classification() -> None:
    reference, candidate = [[1, 2], [3, 0], [0, 1]], [[0, 9], [1, 2], [4, 5]]
    assert top1_agreement(reference, candidate) == pytest.approx(2 / 3)
    assert accuracy(candidate, [1, 1, 0]) == pytest.approx(2 / 3)
