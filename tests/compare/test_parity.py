"""Differences between outputs, against numbers worked out by hand and by NumPy on the whole arrays."""

from __future__ import annotations

import itertools
import json
import math
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sn_deploy.check.batch import Batch
from sn_deploy.check.comparison import Comparison
from sn_deploy.check.limits import Limits
from sn_deploy.check.result import BackendInfo
from sn_deploy.compare.parity import Differences, compare
from sn_deploy.errors import CheckFailedError

Array = npt.NDArray[Any]


def test_differences_by_hand() -> None:
    parity = compare([3.0, -4.0, 0.0], [3.0, -4.5, 0.1])
    rms = np.sqrt(25 / 3)
    assert parity.elements == 3
    assert parity.max_abs == 0.5
    assert parity.max_abs_sample == 1
    assert parity.max_rel == pytest.approx(max(0.5 / 4, 0.1 / rms))
    assert parity.rel_l2 == pytest.approx(np.sqrt(0.26) / 5)
    assert parity.snr_db == pytest.approx(-10 * np.log10(0.26 / 25))
    # The third sample is 0 in the reference: its own relative error is infinite.
    assert (parity.worst_rel_l2, parity.worst_rel_l2_sample) == (math.inf, 2)
    assert parity.nonfinite_mismatch == 0


def test_equal_arrays_do_not_differ() -> None:
    parity = compare(np.ones(3), np.ones(3, np.float16))
    assert (parity.max_abs, parity.max_rel, parity.rel_l2, parity.worst_rel_l2) == (0, 0, 0, 0)
    assert (parity.cosine, parity.snr_db) == (1, math.inf)
    assert set(parity.percentiles.values()) == {0.0}


def test_empty_arrays_do_not_differ() -> None:
    parity = compare(np.zeros((0, 4)), np.zeros((0, 4)))
    assert (parity.elements, parity.max_abs, parity.rel_l2, parity.max_rel) == (0, 0, 0, 0)
    assert set(parity.percentiles.values()) == {0.0}


def test_what_is_not_finite_is_counted_and_not_averaged() -> None:
    nan, inf = float("nan"), float("inf")
    parity = compare([1.0, inf, inf, 2.0, 5.0, -inf], [1.0, inf, -inf, nan, inf, -inf])
    assert (parity.elements, parity.max_abs, parity.rel_l2) == (1, 0, 0)
    assert (parity.reference_nonfinite, parity.nonfinite, parity.nonfinite_mismatch) == (3, 5, 3)


def test_a_nan_is_never_right() -> None:
    assert compare([math.nan, 1.0], [math.nan, 1.0]).nonfinite_mismatch == 1


def test_a_reference_of_zeros_has_no_relative_error() -> None:
    parity = compare([0.0, 0.0], [0.0, 1.0])
    assert parity.max_abs == 1
    assert parity.max_rel == parity.rel_l2 == parity.worst_rel_l2 == math.inf
    assert (parity.cosine, parity.snr_db) == (0, -math.inf)


def test_numbers_whose_squares_overflow_give_no_wrong_pass() -> None:
    parity = compare(np.array([1e200, 1.0]), np.array([2e200, 1.0]))
    assert parity.max_abs == 1e200
    assert not parity.rel_l2 < math.inf
    assert not parity.worst_rel_l2 < math.inf
    assert parity.nonfinite_mismatch == 0


def test_integers_beyond_float64_are_told_apart() -> None:
    assert compare(np.array([2**60]), np.array([2**60 + 1])).max_abs == 1


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.int32, np.bool_])
def test_types_are_compared_in_float64(dtype: Any) -> None:
    values = np.array([[0, 1, 3, 5]], dtype=dtype)
    parity = compare(np.array([[0, 1, 3, 5]], dtype=np.float64), values)
    assert parity.max_abs == (4 if dtype is np.bool_ else 0)


def test_shapes_must_agree() -> None:
    with pytest.raises(CheckFailedError, match=r"has shape \(2, 3\) \(expected the reference's, \(3, 2\)\)"):
        compare(np.ones((3, 2)), np.ones((2, 3)))


def test_an_output_without_a_batch_axis_belongs_to_the_first_sample_of_its_batch() -> None:
    differences = Differences()
    for first in (0, 4):
        differences.update(np.ones(7), np.ones(7) + first, first=first, samples=4)
    parity = differences.parity()
    assert differences.shape == (7,)
    assert (parity.max_abs, parity.max_abs_sample, parity.worst_rel_l2_sample) == (4, 4, 4)


def test_axes_whose_size_changes_are_unknown() -> None:
    differences = Differences()
    for size in (3, 5):
        differences.update(np.ones((2, size)), np.ones((2, size)), first=0, samples=2)
    assert differences.shape == ("N", "?")


def test_a_type_that_changes_is_refused() -> None:
    differences = Differences()
    differences.update(np.ones(2), np.ones(2, np.float32), first=0, samples=2)
    with pytest.raises(CheckFailedError, match="is float64 of rank 1 in one batch and float32 of rank 1 in another"):
        differences.update(np.ones(2), np.ones(2), first=2, samples=2)


def expected_parity(batches: list[tuple[Array, Array]]) -> dict[str, Any]:
    """The same figures from whole arrays, in NumPy's float64 or better."""
    reference, candidate = (np.concatenate(side).astype(np.longdouble) for side in zip(*batches, strict=True))
    error = candidate - reference
    rows = reference.reshape(len(reference), -1), error.reshape(len(reference), -1)
    worst = np.linalg.norm(rows[1].astype(np.float64), axis=1) / np.linalg.norm(rows[0].astype(np.float64), axis=1)
    relative = [
        np.max(np.abs(b - a) / np.maximum(np.abs(a), np.sqrt(np.mean(a**2))))
        for a, b in ((x.astype(np.float64), y.astype(np.float64)) for x, y in batches)
    ]
    return {
        "elements": reference.size,
        "max_abs": float(np.abs(error).max()),
        "max_rel": float(max(relative)),
        "rel_l2": float(np.sqrt((error**2).sum() / (reference**2).sum())),
        "worst_rel_l2": float(worst.max()),
        "cosine": float((reference * candidate).sum() / np.sqrt((reference**2).sum() * (candidate**2).sum())),
    }


def batches_of(*shapes: tuple[int, ...], noise: float = 1e-3, dtype: Any = np.float32) -> list[tuple[Array, Array]]:
    generator = np.random.default_rng(0)
    made = []
    for shape in shapes:
        reference = generator.standard_normal(shape)
        made.append((reference.astype(dtype), (reference + noise * generator.standard_normal(shape)).astype(dtype)))
    return made


@pytest.mark.parametrize("shapes", [[(4, 1000)] * 3, [(1, 3, 200, 190)] * 2, [(3, 40_001)], [(40_000, 1)], [(5,)] * 4])
def test_figures_are_those_of_the_whole_arrays(shapes: list[tuple[int, ...]]) -> None:
    batches = batches_of(*shapes)
    differences, first = Differences(), 0
    for reference, candidate in batches:
        differences.update(reference, candidate, first=first, samples=len(reference))
        first += len(reference)
    parity = differences.parity()
    for name, value in expected_parity(batches).items():
        assert getattr(parity, name) == pytest.approx(value, rel=1e-12), name
    whole = np.abs(np.concatenate([y.astype(np.float64) - x.astype(np.float64) for x, y in batches]))
    for percent, value in parity.percentiles.items():
        exact = np.sort(whole.ravel())[math.ceil(Fraction(percent) * whole.size / 100) - 1]
        assert exact <= value <= 1.008 * exact


def arrays(shape: tuple[int, ...]) -> st.SearchStrategy[Array]:
    return hnp.arrays(np.float32, shape, elements=st.floats(width=32, allow_nan=True, allow_infinity=True))


@settings(max_examples=60)
@given(
    pairs=st.lists(
        st.integers(1, 3).flatmap(lambda n: st.tuples(arrays((n, 4)), arrays((n, 4)))), min_size=1, max_size=5
    ),
    order=st.randoms(use_true_random=False),
    cuts=st.integers(1, 3),
)
def test_parts_in_any_order_give_the_whole_bit_for_bit(pairs: list[Any], order: Any, cuts: int) -> None:
    whole, parts, first = Differences(), [Differences() for _ in range(cuts)], 0
    for index, (reference, candidate) in enumerate(pairs):
        for target in (whole, parts[index % cuts]):
            target.update(reference, candidate, first=first, samples=len(reference))
        first += len(reference)
    order.shuffle(parts)
    merged = Differences()
    for part in parts:
        merged.merge(Differences.from_state(json.loads(json.dumps(part.state()))))
    assert repr(merged.parity()) == repr(whole.parity())
    assert merged.state() == whole.state()


def test_the_same_samples_in_another_order_of_batches_give_the_same_bits() -> None:
    batches = list(enumerate(batches_of(*[(4, 50)] * 4)))
    results = set()
    for order in itertools.permutations(batches):
        differences = Differences()
        for index, (reference, candidate) in order:
            differences.update(reference, candidate, first=4 * index, samples=4)
        results.add(repr(differences.parity()))
    assert len(results) == 1


@pytest.mark.parametrize("where", ["first", "last"])
def test_one_wrong_element_of_a_million_is_found(where: str) -> None:
    reference = np.random.default_rng(0).standard_normal((4, 3, 300, 300)).astype(np.float32)
    candidate = reference.copy()
    index = (0, 0, 0, 0) if where == "first" else (3, 2, 299, 299)
    candidate[index] += 7
    parity = compare(reference, candidate)
    assert parity.max_abs == pytest.approx(7)
    assert parity.max_abs_sample == parity.worst_rel_l2_sample == index[0]
    assert parity.percentiles["99.9"] == 0


def test_numbers_too_small_for_squares_are_no_agreement() -> None:
    small = np.full((2, 3), 1e-200)
    assert compare(small, small).rel_l2 == 0
    assert math.isnan(compare(small, 2 * small).rel_l2)
    assert compare(small + 1, 2 * small + 1).rel_l2 == 0


@pytest.mark.parametrize(("dtype", "rel_l2"), [("float32", 1e-5), ("float16", 2.0**-7), ("float64", 2e-14)])
@pytest.mark.parametrize("times", [5, 20])
def test_one_sample_of_many_may_be_ten_times_as_far_off_as_all(dtype: str, rel_l2: float, times: int) -> None:
    """What is wrong in few samples alone is nothing beside thousands that are right."""
    infos = [BackendInfo(name, "ort", settings={"precision": dtype}) for name in ("right", "other")]
    found = Comparison(infos, "right", ["y"], [], Limits())
    reference = np.random.default_rng(0).standard_normal((4000, 10))
    reference /= np.linalg.norm(reference, axis=1, keepdims=True)
    candidate = reference.copy()
    candidate[1234] *= 1 + times * rel_l2
    for index, start in enumerate((0, 1000, 2000, 3000)):
        rows = slice(start, start + 1000)
        found.update(
            Batch(index, start, {"x": reference[rows]}),
            {"right": {"y": reference[rows]}, "other": {"y": candidate[rows]}},
        )
    ((parity,),) = found.parity().values()
    assert parity.rel_l2 < rel_l2
    assert parity.worst_rel_l2 == pytest.approx(times * rel_l2, rel=1e-3)
    assert parity.worst_rel_l2_sample == 1234
    failed = [one.metric for one in found.assertions() if not one.passed]
    assert failed == (["worst_rel_l2"] if times > 10 else [])
    assert parity.passed == (times < 10)
