"""Means and variances from sums over the calls of a layer, in exact arithmetic from the calls' own moments on.

Each call b gives a mean m_b and a variance v_b for each channel. With weights w_b for the mean, u_b for the variance
and W = Σ w_b,

    mean = Σ w_b·m_b / W        var = (Σ u_b·v_b + Σ w_b·m_b² - (Σ w_b·m_b)² / W) / (W - ddof)

and nothing is rounded before the last division, so the subtraction loses nothing.
"""

from __future__ import annotations

import numpy as np

from sn_deploy.calibrate.exact_sums import ExactSums, Integers
from sn_deploy.folded import Float64Array


class LayerSums:
    """What one layer's calls have given so far; sums of parts merge to the sums of the whole, bit for bit.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        self.calls = 0
        self.weight = 0  # W
        self.means = ExactSums(channels)  # Σ w·m
        self.variances = ExactSums(channels)  # Σ u·v
        self.squares = ExactSums(channels)  # Σ w·m²

    def add(self, mean: Float64Array, var: Float64Array, weight: int, var_weight: int) -> None:
        """Adds a call: moments (C,), w and u. ``var`` isn't read where u is 0."""
        self.calls += 1
        self.weight += weight
        self.means.add(mean, weight)
        self.squares.add_squares(mean, weight)
        if var_weight:
            self.variances.add(var, var_weight)

    def merge(self, other: LayerSums) -> None:
        """Adds the calls that ``other`` has summed."""
        self.calls += other.calls
        self.weight += other.weight
        self.means.merge(other.means)
        self.variances.merge(other.variances)
        self.squares.merge(other.squares)

    def moments(self, ddof: int = 0) -> tuple[Float64Array, Float64Array]:
        """Mean and variance (C,), correctly rounded; W is above ``ddof``."""
        exponent = min(2 * self.means.exponent, self.squares.exponent, self.variances.exponent)
        exponent -= exponent % 2
        sums = self.means.at(exponent // 2)
        second = self.squares.at(exponent) + self.variances.at(exponent)
        mean = _quotients(sums, self.weight, exponent // 2)
        var = _quotients(self.weight * second - sums**2, self.weight * (self.weight - ddof), exponent)
        return mean, var


def _quotients(numerators: Integers, denominator: int, exponent: int) -> Float64Array:
    """``numerators · 2**exponent / denominator``; Python divides integers of any size with one rounding."""
    up, down = max(exponent, 0), max(-exponent, 0)
    return np.array([(int(numerator) << up) / (denominator << down) for numerator in numerators], dtype=np.float64)
