"""The interval of a median, from values that were measured one after the other."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

RESAMPLES: Final = 2000
_CHUNK_VALUES: Final = 4_000_000  # drawn at a time: 32 MB


def median_interval(
    values: npt.ArrayLike, *, confidence: float = 0.95, block: int | None = None
) -> tuple[float, float]:
    """The bootstrap interval of the median (percentile method), drawn in blocks of neighbours.

    What disturbs one round disturbs the next one too, so single values say less than independent ones would, and an
    interval from them would be too narrow. The circular block bootstrap (Politis & Romano, 1992) keeps neighbours
    together. With ``block=1`` it is the plain bootstrap.

    Args:
        values: (n,), in the order in which they were measured, n at least 1.
        block: values drawn together; None for n^(1/3), rounded up.
    """
    array = np.asarray(values, dtype=np.float64)
    count = len(array)
    length = min(count, block or math.ceil(count ** (1 / 3)))
    generator = np.random.default_rng(0)
    blocks = -(-count // length)
    offsets = np.arange(length)
    medians = []
    rows = max(1, _CHUNK_VALUES // (blocks * length))
    for first in range(0, RESAMPLES, rows):
        starts = generator.integers(0, count, (min(rows, RESAMPLES - first), blocks, 1))
        drawn = (starts + offsets).reshape(len(starts), -1)[:, :count] % count
        medians.append(np.median(array[drawn], axis=1))
    tail = 50 * (1 - confidence)
    low, high = np.percentile(np.concatenate(medians), [tail, 100 - tail])
    return float(low), float(high)
