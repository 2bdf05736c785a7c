"""Statistics of a probe, as the deviations of `sn_deploy.recognise.deviations` need them, apart from the oracle's."""

from __future__ import annotations

import numpy as np

from sn_deploy.folded import Float64Array, Moments


def moments(x: Float64Array, ddof: int) -> Moments:
    """The live statistics of ``x`` (N, C, *spatial), each variance over n values with divisor n - ddof."""
    flat = x.reshape(*x.shape[:2], -1)  # (N, C, HW)
    if x.ndim == 2:
        zero = np.zeros((x.shape[0], 1, 1))
        # HW is 1: over channels.
        return Moments(zero, zero, flat.mean(axis=1, keepdims=True), variance(flat, (1,), ddof))
    mean_in, var_in = flat.mean(axis=2, keepdims=True), variance(flat, (2,), ddof)
    mean_ln = mean_in.mean(axis=1, keepdims=True)
    return Moments(mean_in, var_in, mean_ln, var_in.mean(axis=1, keepdims=True) + variance(mean_in, (1,), 0))


def variance(x: Float64Array, axes: tuple[int, ...], ddof: int) -> Float64Array:
    """Over ``axes``, which stay as dimensions of 1, with divisor n - ddof."""
    count = np.prod([x.shape[axis] for axis in axes])
    squares = (x - x.mean(axis=axes, keepdims=True)) ** 2
    with np.errstate(all="ignore"):
        return np.asarray(squares.sum(axis=axes, keepdims=True) / np.float64(count - ddof))
