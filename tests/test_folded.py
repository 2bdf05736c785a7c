"""The oracle against a loop over Python numbers, which shares nothing with it but the paper's equations."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sn_deploy.errors import SnDeployError
from sn_deploy.folded import FoldedSwitchNorm


def folded(channels: int = 3, **changes: object) -> FoldedSwitchNorm:
    generator = np.random.default_rng(channels)
    values: dict[str, object] = {
        "name": "features.sn",
        "scale": generator.normal(1, 0.3, channels),
        "bias": generator.normal(0, 0.3, channels),
        "mean_offset": generator.normal(0, 0.3, channels),
        "var_offset": generator.uniform(0.1, 1, channels),
        "mean_in": 0.5,
        "mean_ln": 0.2,
        "mean_bn": 0.3,
        "var_in": 0.1,
        "var_ln": 0.6,
        "var_bn": 0.3,
        "ddof": 1,
    }
    return FoldedSwitchNorm(**{**values, **changes})  # type: ignore[arg-type]


def test_it_is_printed_without_its_arrays() -> None:
    text = repr(folded(2048))
    assert text.startswith("FoldedSwitchNorm(name='features.sn', mean_in=0.5, ")
    assert "array" not in text


def loop(layer: FoldedSwitchNorm, x: np.ndarray) -> list[float]:
    """The layer by the published formula, var_ln with its subtraction, over Python floats summed exactly."""
    result = []
    for sample in [image.reshape(x.shape[1], -1).tolist() for image in x]:
        if x.ndim == 2:
            channel_values = [values[0] for values in sample]
            mean_ln = math.fsum(channel_values) / len(channel_values)
            squares = math.fsum((value - mean_ln) ** 2 for value in channel_values)
            var_ln = squares / (len(channel_values) - layer.ddof)
            means, variances = [0.0] * len(sample), [0.0] * len(sample)
        else:
            means = [math.fsum(values) / len(values) for values in sample]
            variances = [
                math.fsum((value - mean) ** 2 for value in values) / (len(values) - layer.ddof)
                for values, mean in zip(sample, means, strict=True)
            ]
            mean_ln = math.fsum(means) / len(means)
            second = math.fsum(var + mean * mean for var, mean in zip(variances, means, strict=True)) / len(means)
            var_ln = second - mean_ln * mean_ln
        for c, values in enumerate(sample):
            mean = layer.mean_in * means[c] + layer.mean_ln * mean_ln + layer.mean_offset[c]
            var = layer.var_in * variances[c] + layer.var_ln * var_ln + layer.var_offset[c]
            result += [(value - mean) / math.sqrt(var) * layer.scale[c] + layer.bias[c] for value in values]
    return result


@settings(deadline=None, max_examples=60)
@given(
    shape=st.sampled_from([(2, 3), (1, 3, 7), (2, 3, 2, 1), (3, 3, 4, 5), (1, 3, 2, 3, 2), (0, 3, 2, 2)]),
    ddof=st.integers(0, 1),
    mean=st.floats(-10, 10),
    seed=st.integers(0, 2**32 - 1),
)
def test_evaluate_is_the_published_formula(shape: tuple[int, ...], ddof: int, mean: float, seed: int) -> None:
    layer = folded(ddof=ddof, **({"mean_in": 0.0, "var_in": 0.0} if len(shape) == 2 else {}))
    x = np.random.default_rng(seed).normal(mean, 1, shape)
    y = layer.evaluate(x)
    assert y.shape == x.shape
    assert y.dtype == np.float64
    np.testing.assert_allclose(y.ravel(), loop(layer, x), rtol=1e-9, atol=1e-9)


def test_evaluate_keeps_its_digits_where_the_published_subtraction_loses_them() -> None:
    layer = folded(mean_offset=np.full(3, 300.0), mean_in=0.5, mean_ln=0.2)
    x = np.random.default_rng(0).normal(0, 0.1, (2, 3, 8, 8))
    shifted = layer.evaluate(x + 1000.0)
    # The mean weights sum to 0.7 and the offset is 0.3·1000: the shift drops out exactly.
    unshifted = replace(layer, mean_offset=np.zeros(3)).evaluate(x)
    np.testing.assert_allclose(shifted, unshifted, rtol=0, atol=1e-8)


def test_a_sample_does_not_depend_on_its_batch() -> None:
    x = np.random.default_rng(1).normal(size=(4, 3, 5, 5))
    together = folded().evaluate(x)
    for n in range(4):
        np.testing.assert_array_equal(folded().evaluate(x[n : n + 1]), together[n : n + 1])


def test_constants_are_copied_and_read_only() -> None:
    scale = np.ones(3)
    layer = folded(scale=scale)
    scale[:] = 7
    assert layer.scale.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="read-only"):
        layer.scale[0] = 2


def test_as_float32_rounds_every_constant() -> None:
    rounded = folded(mean_in=1 / 3).as_float32()
    assert rounded.mean_in == float(np.float32(1 / 3))
    for field in ("scale", "bias", "mean_offset", "var_offset"):
        np.testing.assert_array_equal(getattr(rounded, field), getattr(folded(), field).astype(np.float32))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 4, 3, 3), r"features.sn: X has shape \(2, 4, 3, 3\) \(expected \(N, 3, \*spatial\)\)"),
        ((3,), r"X has shape \(3,\)"),
        ((2, 3, 1, 1), r"variance of 1 spatial positions with divisor 1 - 1 has no value.*biased variance"),
        ((2, 3, 0, 4), r"variance of 0 spatial positions"),
    ],
)
def test_shapes_without_a_value_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(SnDeployError, match=message):
        folded().evaluate(np.zeros(shape))


def test_one_position_has_a_biased_variance() -> None:
    assert np.isfinite(folded(ddof=0).evaluate(np.ones((2, 3, 1, 1)))).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bias": np.zeros(4)}, r"features.sn: bias has shape \(4,\) \(expected \(C,\) = \(3,\)\)"),
        ({"scale": np.ones((3, 1))}, r"scale has shape \(3, 1\)"),
        ({"var_offset": np.array([1, np.nan, 1])}, "var_offset has values that are not finite"),
        ({"mean_ln": float("inf")}, "weight mean_ln is inf"),
        ({"ddof": 2}, "ddof is 2"),
    ],
)
def test_constants_without_a_meaning_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SnDeployError, match=message):
        folded(**changes)
