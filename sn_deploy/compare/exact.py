"""Sums without rounding: whatever the order and the grouping of the terms, the result is the same to the last bit."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

# Every finite float64 is an integer multiple of 2^-1074, the smallest subnormal.
_UNIT_BITS: Final = 1074
_UNITS: Final = 1 << _UNIT_BITS


class ExactSum:
    """The sum of float64 values as an integer number of 2^-1074.

    An infinite or NaN term makes the value infinite or NaN, as it would in float64.
    """

    __slots__ = ("_special", "_units")

    def __init__(self, terms: Iterable[float] = ()) -> None:
        self._units = 0
        self._special = 0.0  # the sum of the terms that are not finite
        self.add(terms)

    def add(self, terms: Iterable[float]) -> None:
        """Adds each term."""
        for term in terms:
            if math.isfinite(term):
                numerator, denominator = term.as_integer_ratio()  # the denominator is a power of two
                self._units += numerator << (_UNIT_BITS + 1 - denominator.bit_length())
            else:
                self._special += term

    def __add__(self, other: ExactSum) -> ExactSum:
        total = ExactSum()
        total._units = self._units + other._units
        total._special = self._special + other._special
        return total

    @property
    def value(self) -> float:
        """The sum, correctly rounded."""
        return self.mean(1)

    def mean(self, count: int) -> float:
        """The sum divided by ``count``, correctly rounded; NaN for no terms."""
        if count == 0:
            return math.nan
        if self._special != 0:  # NaN too
            return self._special
        try:
            return self._units / (_UNITS * count)
        except OverflowError:
            return math.inf if self._units > 0 else -math.inf

    def state(self) -> str:
        """The exact sum as text: a hexadecimal integer and the power of two that it is multiplied with."""
        if self._special != 0:
            return repr(self._special)
        zeros = max((self._units & -self._units).bit_length() - 1, 0)
        return f"{self._units >> zeros:x}p{zeros - _UNIT_BITS}"

    @classmethod
    def from_state(cls, text: str) -> ExactSum:
        """What `state` wrote.

        Raises:
            ValueError: it isn't that.
        """
        total = cls()
        digits, exponent, shift = text.partition("p")
        if exponent:
            total._units = int(digits, 16) << (int(shift) + _UNIT_BITS)
        else:
            total._special = float(text)
        return total
