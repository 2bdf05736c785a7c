"""The interval of a median: against SciPy's, and by how often it holds the truth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats

from sn_deploy.check.bootstrap import median_interval


def coverage(draw: npt.NDArray[np.float64], *, block: int | None) -> float:
    """Share of rows whose interval holds 0."""
    intervals = [median_interval(row, block=block) for row in draw]
    return float(np.mean([low <= 0 <= high for low, high in intervals]))


@pytest.mark.parametrize(("count", "confidence"), [(30, 0.95), (200, 0.95), (200, 0.8)])
def test_single_values_give_scipys_interval(count: int, confidence: float) -> None:
    values = np.random.default_rng(count).lognormal(size=count)
    theirs = scipy.stats.bootstrap(
        (values,), np.median, n_resamples=20_000, method="percentile", confidence_level=confidence, rng=1
    ).confidence_interval
    ours = median_interval(values, confidence=confidence, block=1)
    # Both are quantiles of a few values of the sample: neighbours of each other, at most.
    width = theirs.high - theirs.low
    assert ours == pytest.approx(tuple(theirs), abs=0.1 * width)


def test_it_holds_the_truth_as_often_as_it_says() -> None:
    values = np.random.default_rng(0).standard_normal((200, 100))
    assert 0.91 <= coverage(values, block=None) <= 0.98
    assert 0.91 <= coverage(values, block=1) <= 0.98


def test_neighbours_that_share_a_disturbance_widen_it() -> None:
    rng = np.random.default_rng(0)
    values = np.zeros((200, 120))
    for index in range(1, 120):
        values[:, index] = 0.5 * values[:, index - 1] + rng.standard_normal(200)
    blocks, single = coverage(values, block=None), coverage(values, block=1)
    assert single < 0.83  # the plain bootstrap claims more than it knows
    assert blocks > single + 0.05


def test_it_is_the_same_each_time_and_needs_only_one_value() -> None:
    values = np.random.default_rng(0).standard_normal(50)
    assert median_interval(values) == median_interval(values.tolist())
    assert median_interval([3.0]) == (3.0, 3.0)
    assert median_interval([3.0, 3.0, 3.0]) == (3.0, 3.0)
    low, high = median_interval(np.random.default_rng(0).permutation(20_001))
    assert low < 10_000 < high
    assert high - low < 1000
