"""Percentiles of numbers that stream by, exact under merging."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

import numpy as np
import numpy.typing as npt

# A bin is a float32's exponent and the leading bits of its fraction: 2^7 bins an octave, each 0.8 % wide at most.
_DROPPED_BITS: Final = 23 - 7
_BINS: Final = (0x7F800000 >> _DROPPED_BITS) + 1  # the last one is infinity


class Histogram:
    """Counts of numbers that are 0 or more, in bins of a fixed relative width.

    Numbers below 1e-40 count as 0, those above float32's largest as infinite.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, dtype=np.int64)

    def add(self, values: npt.NDArray[np.float64]) -> None:
        """Counts the values, of any shape; none is NaN."""
        with np.errstate(over="ignore", under="ignore"):
            bits = values.ravel().astype(np.float32).view(np.int32)
        if bits.size:
            bins = bits >> _DROPPED_BITS
            lowest = int(bins.min())  # mostly far from 0: no need to go through all the bins below
            counts = np.bincount(bins - lowest)
            self._counts[lowest : lowest + len(counts)] += counts

    def leave_out_zeros(self, count: int) -> None:
        """Takes back so many values that were counted as 0."""
        self._counts[0] -= count

    def merge(self, other: Histogram) -> None:
        """Counts what the other one has counted."""
        self._counts += other._counts

    @property
    def total(self) -> int:
        """How many numbers were counted."""
        return int(self._counts.sum())

    def percentile(self, percent: float) -> float:
        """What ``percent`` of all numbers stay at or below, rounded up by at most 0.8 %; NaN for none."""
        total = self.total
        if not total:
            return math.nan
        rank = max(math.ceil(Fraction(str(percent)) * total / 100), 1)  # 99.9 as it is written, not as it is stored
        index = int(np.searchsorted(np.cumsum(self._counts), rank))
        if index == 0:
            return 0.0
        edge = np.array((index + 1) << _DROPPED_BITS, dtype=np.int32).view(np.float32)
        return float(edge) if index + 1 < _BINS else math.inf

    def state(self) -> dict[str, int]:
        """The bins that aren't empty."""
        return {str(index): int(self._counts[index]) for index in np.flatnonzero(self._counts)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Histogram:
        """What `state` wrote.

        Raises:
            ValueError: it isn't that.
        """
        made = cls()
        for index, count in state.items():
            if not 0 <= int(index) < _BINS:
                raise ValueError(f"there is no bin {index}")
            made._counts[int(index)] = int(count)
        return made
