"""How far statistics moved, and what looks wrong about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from sn_deploy.folded import Float64Array

# The published eps: what a variance below it is, makes no difference to the layer.
_EPS: Final = 1e-5
# Further than a noisy moving average explains, and nearer than differently prepared images come to.
_FAR_MEAN: Final = 0.5  # deviations
_FAR_VAR: Final = 2.0  # times
_SUMS: Final = 20.0  # as in `sn_deploy.recognise.raw_sums`

Moments = tuple[Float64Array, Float64Array]  # mean and variance, (C,) each


@dataclass(frozen=True)
class Movement:
    """How far one layer's statistics moved, over its channels.

    Attributes:
        mean, largest_mean: median and largest |new - old| mean, in new standard deviations; NaN where the old
            statistics are of no use.
        var, smallest_var, largest_var: median, smallest and largest new / old variance; NaN likewise.
        suspicion: what looks wrong, a clause; None where nothing does.
    """

    mean: float
    largest_mean: float
    var: float
    smallest_var: float
    largest_var: float
    suspicion: str | None


def movement(old: Moments | None, new: Moments) -> Movement:
    """From ``old`` statistics, None where there were none, to ``new`` ones."""
    useless = _useless(old)
    if old is None or useless is not None:
        nan = float("nan")
        return Movement(nan, nan, nan, nan, nan, useless)
    (old_mean, old_var), (mean, var) = old, new
    shift = np.abs(mean - old_mean) / np.sqrt(var + _EPS)
    ratio = (var + _EPS) / (np.abs(old_var) + _EPS)
    shift_median, ratio_median = float(np.median(shift)), float(np.median(ratio))
    size = float(np.median((np.abs(old_var) + _EPS) / (mean**2 + var + _EPS)))
    suspicion = None
    if (old_var < 0).any():
        suspicion = f"{int((old_var < 0).sum())} of the old variances were negative"
    elif size > _SUMS:
        suspicion = f"the old ones were about {size:.0f} times too large, as sums that were never divided are"
    elif shift_median > _FAR_MEAN or not 1 / _FAR_VAR < ratio_median < _FAR_VAR:
        suspicion = "moved far"
    return Movement(shift_median, float(shift.max()), ratio_median, float(ratio.min()), float(ratio.max()), suspicion)


def _useless(old: Moments | None) -> str | None:
    """Why no distance from the old statistics can be had, if so."""
    if old is None:
        return "there were none before"
    if not all(np.isfinite(values).all() for values in old):
        return "the old ones had NaN or infinite values"
    if not old[1].any():
        return "the old variances were all 0: they were never recorded"
    return None


def distance(old: Moments, new: Moments) -> float:
    """The largest change of any channel: of the mean in standard deviations, of the variance relative to it."""
    (old_mean, old_var), (mean, var) = old, new
    shift = np.abs(mean - old_mean) / np.sqrt(var + _EPS)
    return float(max(shift.max(), (np.abs(var - old_var) / (var + _EPS)).max()))
