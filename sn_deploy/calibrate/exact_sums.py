"""Sums of vectors without any rounding: whatever the order and the grouping, the same to the last bit.

A finite float64 is an integer times a power of two, so a sum of float64 numbers is one, too. The integers here are
Python's, which have no size, held in NumPy arrays of objects.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sn_deploy.folded import Float64Array

# Python integers, (C,); NumPy has no type for them.
Integers = npt.NDArray[Any]

_MANTISSA_BITS = 53
# Of squares of float64 numbers; with sums of 2^64 of them between.
_EXPONENTS = range(2 * (-1073 - _MANTISSA_BITS), 2 * 1024 + 64)
_MOST_BYTES = len(_EXPONENTS) // 8 + 1


class ExactSums:
    """A sum for each channel: ``integers · 2**exponent``, with one exponent for all.

    Args:
        channels: C; every vector that is added has shape (C,).
    """

    def __init__(self, channels: int) -> None:
        self.integers: Integers = np.zeros(channels, dtype=object)
        self.exponent = 0

    def add(self, values: Float64Array, weight: int = 1) -> None:
        """Adds ``weight · values``; every value is finite."""
        mantissas, exponents = _mantissas(values)
        self._add(weight * mantissas, exponents)

    def add_squares(self, values: Float64Array, weight: int = 1) -> None:
        """Adds ``weight · values²``, the squares exact as well; every value is finite."""
        mantissas, exponents = _mantissas(values)
        self._add(weight * mantissas**2, 2 * exponents)

    def merge(self, other: ExactSums) -> None:
        """Adds what ``other`` has summed."""
        self._add(other.integers, np.full(other.integers.shape, other.exponent))

    def _add(self, integers: Integers, exponents: npt.NDArray[np.int64]) -> None:
        present = integers != 0
        if not present.any():
            return
        lowest = int(exponents[present].min())
        if lowest < self.exponent:
            self.integers = self.integers << (self.exponent - lowest)
            self.exponent = lowest
        shifts = np.where(present, exponents - self.exponent, 0).astype(object)
        self.integers = self.integers + (integers << shifts)

    def at(self, exponent: int) -> Integers:
        """The sums as integer multiples of ``2**exponent``, which is no higher than the sums' own."""
        return np.asarray(self.integers << (self.exponent - exponent))

    def to_bytes(self) -> tuple[npt.NDArray[np.uint8], int]:
        """The sums as bytes (C, length), two's complement, lowest first, and the exponent; equal for equal sums."""
        zeros = [(integer & -integer).bit_length() - 1 for integer in self.integers if integer]
        shift = min(zeros, default=0)
        integers = [integer >> shift for integer in self.integers]
        length = max((integer.bit_length() // 8 + 1 for integer in integers), default=1)
        rows = b"".join(integer.to_bytes(length, "little", signed=True) for integer in integers)
        exponent = self.exponent + shift if zeros else 0
        return np.frombuffer(rows, dtype=np.uint8).reshape(len(integers), length), exponent

    @classmethod
    def from_bytes(cls, rows: npt.NDArray[np.uint8], exponent: int) -> ExactSums:
        """What `to_bytes` gave.

        Raises:
            ValueError: ``rows`` or ``exponent`` can't be of sums of float64 numbers or of their squares. A file may say
                anything, and numbers may have gigabytes.
        """
        sound = rows.ndim == 2 and rows.dtype == np.uint8 and 0 < rows.shape[1] <= _MOST_BYTES
        if not sound or exponent not in _EXPONENTS:
            raise ValueError(f"rows {rows.dtype} {rows.shape}, exponent {exponent}")
        sums = cls(len(rows))
        sums.integers[:] = [int.from_bytes(row.tobytes(), "little", signed=True) for row in rows]
        sums.exponent = exponent
        return sums


def _mantissas(values: Float64Array) -> tuple[Integers, npt.NDArray[np.int64]]:
    """Integers and exponents with ``values == integers · 2**exponents``."""
    fractions, exponents = np.frexp(values)
    integers = np.ldexp(fractions, _MANTISSA_BITS).astype(np.int64).astype(object)
    return integers, exponents.astype(np.int64) - _MANTISSA_BITS
