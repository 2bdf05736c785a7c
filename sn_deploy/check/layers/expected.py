"""What a layer should make of its own X, and what rounding may change there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sn_deploy.folded import Float64Array, FoldedSwitchNorm
from sn_deploy.graph import op
from sn_deploy.runtime.tensors import Array

_U32: Final = 2.0**-24


@dataclass(frozen=True)
class Expected:
    """A layer's output, and what it takes to lose digits of it.

    Attributes:
        y: of x's shape, in float64.
        rounding: sum over the elements of the squares of one float32 rounding of the terms that each is computed from,
            ``s·(|x| + |means|) + |bias|`` with ``s = |scale| / sqrt(var)``: large where a mean is large beside the
            deviation. What doesn't round once also has the published ``mean(var_in + mean_in²) - mean_ln²``, which
            loses what both have in common.
        carried: sum of the squares of ``s·x``: how much of a relative change of x arrives in y.
    """

    y: Float64Array
    rounding: float = 0.0
    carried: float = 0.0


def expected_output(
    folded: FoldedSwitchNorm, x: Array, form: str, residual: Array | None, *, rounds_once: bool
) -> Expected:
    """What the layer should make of x.

    Args:
        x: (N, C, *spatial), finite or not.
        form, residual: see `sn_deploy.check.layers.tensors`.
        rounds_once: see `TappedLayer`.

    Raises:
        SnDeployError: the layer has no value for x's shape.
    """
    values = x.astype(np.float64)
    folded.check_shape(values.shape)
    if not values.size:
        return Expected(values)
    with np.errstate(all="ignore"):  # infinite and NaN where X is
        flat = values.reshape(values.shape[0], folded.channels, -1)  # (N, C, HW)
        moments = folded.moments(values)
        mean, var = folded.mixed(moments)
        s = np.abs(folded.scale)[:, None] / np.sqrt(var)  # (N, C, 1)
        size = _rms(flat)
        sizes = 2 * size + size.mean(axis=1, keepdims=True) + np.abs(folded.mean_offset)[:, None]
        carried = float(np.square(s * size).sum()) * flat.shape[2]
        rounding = s * sizes + np.abs(folded.bias)[:, None]
        flat = flat - mean
        if not rounds_once:
            squares = moments.mean_in**2 + moments.var_in
            lost = folded.var_in * squares + folded.var_ln * (squares.mean(1, keepdims=True) + moments.mean_ln**2)
            rounding = rounding + 0.5 * s * _rms(flat) * lost / var
        flat *= folded.scale[:, None] / np.sqrt(var)
        flat += folded.bias[:, None]
        y = flat.reshape(values.shape)
        total = float(np.square(_U32 * rounding).sum()) * flat.shape[2]
        if form == op.SWITCH_NORM_ADD_RELU:
            assert residual is not None
            added = residual.astype(np.float64)
            y += added
            total += _U32**2 * float(np.einsum("i,i->", added.reshape(-1), added.reshape(-1)))
        if form != op.SWITCH_NORM:
            np.maximum(y, 0.0, out=y)
    return Expected(y, total, carried)


def _rms(flat: npt.NDArray[np.float64]) -> Float64Array:
    """(N, C, HW) -> (N, C, 1): the root mean square over HW."""
    squares: Float64Array = np.einsum("nci,nci->nc", flat, flat)[:, :, None] / flat.shape[2]
    return np.sqrt(squares)
