"""Intervals of shares, and whether two classifiers are right equally often."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

_Z95: Final = 1.959963984540054  # the normal distribution's 97.5 % quantile


@dataclass(frozen=True)
class Share:
    """A share of ``count`` things with its 95 % interval (Wilson)."""

    value: float
    low: float
    high: float
    count: int


def wilson(hits: int, count: int) -> Share:
    """The share of ``hits`` with its 95 % interval (Wilson, 1927); NaN, and 0 to 1, of nothing."""
    if count == 0:
        return Share(math.nan, 0.0, 1.0, 0)
    share = hits / count
    z2 = _Z95**2 / count
    centre = (share + z2 / 2) / (1 + z2)
    half = _Z95 / (1 + z2) * math.sqrt(share * (1 - share) / count + z2 / (4 * count))
    # At the ends the interval reaches 0 and 1, which rounding might miss.
    low = 0.0 if hits == 0 else max(centre - half, 0.0)
    high = 1.0 if hits == count else min(centre + half, 1.0)
    return Share(share, low, high, count)


def mcnemar(only_one: int, only_other: int) -> float:
    """Exact two-sided p-value that two classifiers are right equally often (McNemar, 1947).

    Args:
        only_one, only_other: how many samples only the one, only the other classifies rightly. If both are right
            equally often, these are heads and tails of a fair coin.
    """
    flips, fewer = only_one + only_other, min(only_one, only_other)
    outcomes, ways = 1, 1  # C(flips, 0), and the sum so far
    for heads in range(1, fewer + 1):
        outcomes = outcomes * (flips - heads + 1) // heads
        ways += outcomes
    return min(float(Fraction(2 * ways, 2**flips)), 1.0)
