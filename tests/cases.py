"""Layers and inputs for tests that hold a backend against the float64 oracle.

The structure of a case (sizes, weights, means) is drawn by Hypothesis and so shrinks; its values come from a
generator seeded with a drawn number, which is fast and gives values without a pattern.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from sn_deploy.folded import FoldedSwitchNorm

DTYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
EPS = 1e-5
# One number of a layer wrong, as a faulty export or a faulty kernel would have it: each has to be caught.
FAULTS: dict[str, Callable[[FoldedSwitchNorm], FoldedSwitchNorm]] = {
    "mean weights exchanged": lambda layer: replace(layer, mean_in=layer.mean_ln, mean_ln=layer.mean_in),
    "variance weights exchanged": lambda layer: replace(layer, var_in=layer.var_ln, var_ln=layer.var_in),
    "biased variance": lambda layer: replace(layer, ddof=0),
    "bias reversed": lambda layer: replace(layer, bias=layer.bias[::-1]),
    "variance offset": lambda layer: replace(layer, var_offset=layer.var_offset * 1.001),
}


@dataclass(frozen=True)
class Case:
    """A layer, its constants float32 numbers as an exported file holds them, and an input X of it."""

    folded: FoldedSwitchNorm
    x: npt.NDArray[Any]

    @property
    def dtype(self) -> str:
        """The name of X's dtype."""
        return str(self.x.dtype)

    def __repr__(self) -> str:
        layer = self.folded
        return (
            f"Case(x={self.x.shape} {self.dtype}, ddof={layer.ddof}, mean_in={layer.mean_in:.3g}, "
            f"mean_ln={layer.mean_ln:.3g}, mean_bn={layer.mean_bn:.3g}, var_in={layer.var_in:.3g}, "
            f"var_ln={layer.var_ln:.3g}, var_bn={layer.var_bn:.3g})"
        )


def make_case(
    shape: tuple[int, ...],
    dtype: str,
    *,
    mean_weights: Sequence[float],
    var_weights: Sequence[float],
    ddof: int,
    seed: int,
    mean: float = 0.0,
    deviation: float = 1.0,
) -> Case:
    """One case with random values.

    Args:
        shape: of X, (N, C, *spatial).
        dtype: of X: float32, float16 or bfloat16.
        mean_weights, var_weights: of IN, LN and BN. For rank 2 the weight of IN must be 0.
        mean, deviation: of X. The means and deviations of the channels differ, by a deviation and a factor of 2, and
            the running statistics are near both, as in a trained net.
    """
    generator = np.random.default_rng(seed)
    channels = shape[1]
    own = (1, channels, *[1] * (len(shape) - 2))
    means = mean + deviation * generator.normal(size=channels)
    deviations = deviation * generator.uniform(0.5, 2.0, size=channels)
    x = (means.reshape(own) + deviations.reshape(own) * generator.normal(size=shape)).astype(DTYPES[dtype])
    running_mean = means + 0.2 * deviation * generator.normal(size=channels)
    running_var = (deviations * generator.uniform(0.8, 1.2, size=channels)) ** 2
    folded = FoldedSwitchNorm(
        name="layer",
        scale=generator.uniform(0.5, 1.5, size=channels) * generator.choice([-1.0, 1.0], size=channels),
        bias=generator.normal(size=channels),
        mean_offset=mean_weights[2] * running_mean,
        var_offset=var_weights[2] * running_var + EPS,
        mean_in=mean_weights[0],
        mean_ln=mean_weights[1],
        mean_bn=mean_weights[2],
        var_in=var_weights[0],
        var_ln=var_weights[1],
        var_bn=var_weights[2],
        ddof=ddof,
    )
    return Case(folded.as_float32(), x)


def shapes(min_batch: int = 0) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes of X: N to 4, C to 65, rank 2 to 5, odd and tiny extents, and now and then a long one."""
    batch = st.integers(min_batch, 4)
    channels = st.one_of(st.integers(1, 9), st.integers(1, 65))
    spatial = st.one_of(
        st.just(()),
        st.tuples(st.one_of(st.integers(1, 9), st.integers(1, 600))),
        st.tuples(st.integers(1, 17), st.integers(1, 17)),
        st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)),
    )
    return st.builds(lambda n, c, rest: (n, c, *rest), batch, channels, spatial)


@st.composite
def cases(draw: st.DrawFn, dtypes: Sequence[str] = tuple(DTYPES), min_batch: int = 0, max_ratio: float = 1000) -> Case:
    """Cases that have a value (see `FoldedSwitchNorm.check_shape`); |mean| / deviation of X up to ``max_ratio``."""
    shape = draw(shapes(min_batch))
    dtype = draw(st.sampled_from(list(dtypes)))
    count = shape[1] if len(shape) == 2 else int(np.prod(shape[2:]))
    deviation = draw(st.sampled_from([1.0, 0.01, 30.0]))
    ratio = draw(st.one_of(st.sampled_from([0.0, 1.0, max_ratio]), st.floats(-max_ratio, max_ratio)))
    return make_case(
        shape,
        dtype,
        mean_weights=draw(_weights(has_instance=len(shape) > 2)),
        var_weights=draw(_weights(has_instance=len(shape) > 2)),
        ddof=draw(st.integers(0, 1)) if count > 1 else 0,
        seed=draw(st.integers(0, 2**32 - 1)),
        # float16 ends at 65504.
        mean=float(np.clip(ratio * deviation, -30000, 30000)),
        deviation=deviation,
    )


def _weights(has_instance: bool) -> st.SearchStrategy[tuple[float, float, float]]:
    """Weights of IN, LN and BN that sum to 1: a softmax's, a layer's without BN, one-hot ones of a sparse layer."""
    logits = st.tuples(*[st.floats(-6, 6)] * 3)
    masks = st.sampled_from([mask for mask in range(1, 8) if has_instance or mask != 1])
    return st.builds(lambda values, mask: _softmax(values, mask, has_instance), logits, masks)


def _softmax(logits: tuple[float, float, float], mask: int, has_instance: bool) -> tuple[float, float, float]:
    used = [bool(mask >> branch & 1) for branch in range(3)]
    used[0] &= has_instance
    shares = np.where(used, np.exp(logits), 0.0)
    in_, ln, bn = shares / shares.sum()
    return float(in_), float(ln), float(bn)
