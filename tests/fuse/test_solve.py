"""The constants of a layer are solved from what it computes, to float64 rounding, whatever they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.fuse.inputs import rolled, solve_inputs
from sn_deploy.fuse.solve import Lines, NotSwitchNormError, joined, lines_from_positions, lines_from_rolls, solutions
from tests.cases import Case, cases

FLOAT32 = 2.0**-24


def radicand(folded: FoldedSwitchNorm, x: np.ndarray) -> np.ndarray:
    """var + eps of each sample and channel: a layer that shows its variance as its slope, y = x / sqrt(v) + …"""
    flat = x.reshape(*x.shape[:2], -1)
    if x.ndim == 2:
        var_in, var_ln = np.zeros(x.shape), x.var(axis=1, keepdims=True, ddof=folded.ddof)
    else:
        mean, var_in = flat.mean(axis=2), flat.var(axis=2, ddof=folded.ddof)
        var_ln = var_in.mean(axis=1, keepdims=True) + mean.var(axis=1, keepdims=True)
    return folded.var_in * var_in + folded.var_ln * var_ln + folded.var_offset


def observed(folded: FoldedSwitchNorm, shape: tuple[int, ...]) -> Lines:
    parts = []
    for x in solve_inputs(shape, 0):
        if len(shape) == 2:
            rolls = rolled(x)
            ys = [folded.evaluate(each) for each in rolls]
            parts.append(lines_from_rolls(np.stack(rolls, 2), np.stack(ys, 2), radicand(folded, x)))
        else:
            flat, y = (array.reshape(*shape[:2], -1) for array in (x, folded.evaluate(x)))
            parts.append(lines_from_positions(flat, y, radicand(folded, x)))
    return joined(parts)


def shape_of(case: Case) -> tuple[int, ...]:
    """Two positions at least; of one there is no line."""
    shape = case.x.shape
    return (*shape[:-1], max(shape[-1], 3)) if len(shape) > 2 else (max(shape[0], 1), max(shape[1], 3))


@settings(max_examples=40)
@given(cases(dtypes=["float32"], min_batch=1, max_ratio=10))
def test_any_layer_is_solved(case: Case) -> None:
    shape = shape_of(case)
    folded = case.folded
    if shape[1] != folded.channels:
        return
    found = solutions(observed(folded, shape), "found", FLOAT32)
    x = np.random.default_rng(5).normal(size=shape) * 3 + 1
    expected = folded.evaluate(x)
    for solution in found:
        error = np.abs(solution.folded.evaluate(x) - expected).max() / np.abs(expected).max()
        # At one size HW and HW - 1 may both fit, as far as the file's own rounding lets them be told apart.
        assert error < 1e-9 + 8 * solution.looseness


def layer(**changes: object) -> FoldedSwitchNorm:
    rng = np.random.default_rng(0)
    folded = FoldedSwitchNorm(
        name="layer", scale=rng.uniform(0.5, 1.5, 4), bias=rng.normal(size=4), mean_offset=rng.normal(size=4),
        var_offset=rng.uniform(0.5, 2, 4), mean_in=0.5, mean_ln=0.2, mean_bn=0.3, var_in=0.1, var_ln=0.6, var_bn=0.3,
        ddof=1,
    )  # fmt: skip
    return replace(folded, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(2, 4, 3, 5), (1, 4, 7)])
def test_constants_come_out_exactly(shape: tuple[int, ...]) -> None:
    (solution,) = solutions(observed(layer(), shape), "found", FLOAT32)
    for name in ("mean_in", "mean_ln", "mean_bn", "var_in", "var_ln", "var_bn"):
        assert getattr(solution.folded, name) == pytest.approx(getattr(layer(), name), abs=1e-12), name
    for name in ("scale", "bias", "mean_offset", "var_offset"):
        np.testing.assert_allclose(getattr(solution.folded, name), getattr(layer(), name), rtol=1e-11, err_msg=name)
    assert (solution.folded.ddof, solution.looseness) == (1, 0.0)


def test_branches_that_are_not_there_get_exact_zeros() -> None:
    bare = layer(mean_offset=np.zeros(4), var_offset=np.full(4, 1e-5), mean_in=1.0, mean_ln=0.0, mean_bn=0.0,
                 var_in=0.0, var_ln=1.0, var_bn=0.0)  # fmt: skip
    found = solutions(observed(bare, (2, 4, 3, 5)), "found", FLOAT32)[0].folded
    assert (found.mean_ln, found.mean_bn, found.var_in, found.var_bn) == (0, 0, 0, 0)
    assert not found.mean_offset.any()
    assert len(set(found.var_offset.tolist())) == 1


def test_channels_without_scale_keep_their_bias() -> None:
    scale = layer().scale.copy()
    scale[1] = 0
    found = solutions(observed(layer(scale=scale), (2, 4, 3, 5)), "found", FLOAT32)[0].folded
    assert found.scale[1] == 0
    assert found.bias[1] == pytest.approx(layer().bias[1])


@given(st.sampled_from(["slope", "radicand", "intercept"]), st.integers(0, 3))
def test_one_wrong_number_is_enough_to_refuse(what: str, channel: int) -> None:
    lines = observed(layer(), (2, 4, 3, 5))
    values = getattr(lines, what).copy()
    values[0, channel] *= 1 + 1e-5
    if what == "radicand":  # and the slope that goes with it, or the root alone would be at fault
        slope = lines.slope.copy()
        slope[0, channel] /= np.sqrt(1 + 1e-5)
        lines = replace(lines, slope=slope)
    with pytest.raises(NotSwitchNormError):
        solutions(replace(lines, **{what: values}), "found", FLOAT32)
