"""The bound of one layer's rounding errors; the table of tolerances itself is the package's own.

Two kinds. For one layer `switch_norm_bound` gives each element its own bound, from what its own numbers can lose to
rounding: a tolerance that fits all inputs would be so loose for most that it lets faults through. For whole nets,
where no bound can be had, there is the relative L2 error, ``TOLERANCES[dtype].rel_l2`` in float32, and a few units of
roundoff in half precision for the nets of a few layers that tests use.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sn_deploy.compare.tolerances import TOLERANCES
from sn_deploy.folded import FoldedSwitchNorm, statistics_count

# How many float32 roundings an element of Y may have gathered, each of the size of all the terms it came from. On the
# way from x to y there are about ten, but of one term each; long sums over HW and C add theirs. Measured with the
# function body in ONNX Runtime, over 2500 drawn cases: 1.6 at most; for one shape 4000 times: 2.3.
ROUNDINGS: Final = 4


def switch_norm_bound(folded: FoldedSwitchNorm, x: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """How far each element of Y may be from ``folded.evaluate(x)``, for a backend that computes in float32.

    With ``s = |scale| / sqrt(var)`` the bound is, of x's shape,

        ROUNDINGS · u32 · (s·(|x| + size_in + size_ln + |mean_offset|) + |bias|)  +  u·|y| + smallest

    where size_in and size_ln are the means of |x| that go with mean_in and mean_ln (a mean near 0 of large numbers is
    rounded like them), and u is the roundoff of x's dtype, in which Y is stored. The first part is what |mean| /
    deviation = 1000 costs: u32 · 1000 = 6e-5 of a deviation for each rounding, which no float32 arithmetic on float32
    statistics gets below.
    """
    values = x.astype(np.float64)
    y = folded.evaluate(x)
    if not x.size:
        return y
    axes, column = ((1,), (1, -1)) if x.ndim == 2 else (tuple(range(2, x.ndim)), (1, -1, *[1] * (x.ndim - 2)))
    mean_in = values.mean(axes, keepdims=True)
    var_in = values.var(axes, keepdims=True) * statistics_count(x.shape) / (statistics_count(x.shape) - folded.ddof)
    var_ln = var_in.mean(1, keepdims=True) + mean_in.var(1, keepdims=True)
    var = folded.var_in * var_in + folded.var_ln * var_ln + folded.var_offset.reshape(column)
    s = np.abs(folded.scale).reshape(column) / np.sqrt(var)
    size_in = np.abs(values).mean(axes, keepdims=True)
    sizes = size_in + size_in.mean(1, keepdims=True) + np.abs(folded.mean_offset).reshape(column)
    terms = s * (np.abs(values) + sizes) + np.abs(folded.bias).reshape(column)
    stored = TOLERANCES[str(x.dtype)]
    return ROUNDINGS * TOLERANCES["float32"].roundoff * terms + stored.roundoff * np.abs(y) + stored.smallest


def roundings(y: npt.NDArray[Any], folded: FoldedSwitchNorm, x: npt.NDArray[Any]) -> float:
    """The largest error of Y in units of its bound: above 1, it is not the layer's output. NaN counts as infinite."""
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    if not y.size:
        return 0.0
    error = np.abs(y.astype(np.float64) - folded.evaluate(x)) / switch_norm_bound(folded, x)
    return float(np.nan_to_num(error, nan=np.inf).max())
