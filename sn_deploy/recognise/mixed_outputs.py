"""Layers that add up the outputs of whole normalisations, wherever these keep what they have: told by what comes out.

Batch normalisation in evaluation is a line in x. So a channel of such a layer is a fixed sum of x, of the channel as
instance and layer normalisation leave it, and of a constant, in every sample.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from sn_deploy.folded import Float64Array
from sn_deploy.recognise.probe import Probe

_EXACT = 1e-7
_ROWS_PER_COLUMN = 4


def is_sum_of_outputs(probes: Sequence[Probe], eps_values: Sequence[float]) -> bool:
    """Whether each channel's output is such a sum, the same in all probes.

    Args:
        probes: of one rank, with outputs that are finite.
        eps_values: that the normalisations may add to their variance.
    """
    for eps, ddof in itertools.product(eps_values, (0, 1)):
        parts = [list(_normalised(probe.x, eps, ddof)) for probe in probes]
        columns = [_by_channel([each[index] for each in parts]) for index in range(len(parts[0]))]
        columns += [_by_channel([probe.x for probe in probes]), np.ones_like(columns[0])]
        y = _by_channel([probe.y for probe in probes])  # (C, values)
        if y.shape[1] >= _ROWS_PER_COLUMN * len(columns) and _fits(np.stack(columns, axis=2), y):
            return True
    return False


def _normalised(x: Float64Array, eps: float, ddof: int) -> Iterator[Float64Array]:
    """x by itself, (N, C, *spatial): each sample, each of its channels, and each position over the channels."""
    axes: list[tuple[int, ...]] = [(1,)]
    if x.ndim > 2:
        axes += [tuple(range(1, x.ndim)), tuple(range(2, x.ndim))]
    for over in axes:
        mean, var = x.mean(over, keepdims=True), x.var(over, keepdims=True, ddof=ddof)
        yield (x - mean) / np.sqrt(var + eps)


def _by_channel(arrays: Sequence[Float64Array]) -> Float64Array:
    """(C, values) of all samples and positions."""
    return np.concatenate([np.moveaxis(array, 1, 0).reshape(array.shape[1], -1) for array in arrays], axis=1)


def _fits(columns: Float64Array, y: Float64Array) -> bool:
    """columns: (C, values, terms); y: (C, values)."""
    size = np.linalg.norm(columns, axis=1, keepdims=True)
    columns = columns / np.where(size > 0, size, 1)
    for given, wanted in zip(columns, y, strict=True):
        off = given @ np.linalg.lstsq(given, wanted, rcond=1e-12)[0] - wanted
        if np.abs(off).max() > _EXACT * max(np.abs(wanted).max(), np.finfo(np.float64).tiny):
            return False
    return True
