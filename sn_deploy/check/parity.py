"""How far one output is from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sn_deploy.errors import SnDeployError

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Parity:
    """Differences between a candidate and a reference, computed in float64.

    Attributes:
        max_abs: largest absolute difference.
        max_rel: largest difference relative to the larger of the element's and the whole reference's root mean square;
            an element that is near zero by chance says nothing about precision.
        rel_l2: L2 norm of the difference over that of the reference.
        nonfinite: elements that are NaN or infinite in one and not the same in the other.
    """

    max_abs: float
    max_rel: float
    rel_l2: float
    nonfinite: int


def compare(reference: npt.ArrayLike, candidate: npt.ArrayLike) -> Parity:
    """Compares two arrays of one shape.

    Raises:
        SnDeployError: the shapes differ.
    """
    expected, actual = np.asarray(reference), np.asarray(candidate)
    if expected.shape != actual.shape:
        raise SnDeployError(f"output has shape {actual.shape}", expected=f"the reference's, {expected.shape}")
    expected, actual = expected.astype(np.float64), actual.astype(np.float64)
    same = (expected == actual) | (np.isnan(expected) & np.isnan(actual))
    finite = np.isfinite(expected) & np.isfinite(actual)
    nonfinite = int(np.count_nonzero(~finite & ~same))
    expected, difference = expected[finite], np.abs(expected[finite] - actual[finite])
    if not expected.size or not difference.any():
        return Parity(0.0, 0.0, 0.0, nonfinite)
    rms = np.sqrt(np.mean(expected**2))
    with np.errstate(divide="ignore", invalid="ignore"):  # a reference of zeros: infinite, or 0/0 where equal
        relative = difference / np.maximum(np.abs(expected), rms)
        rel_l2 = np.linalg.norm(difference) / np.linalg.norm(expected)
    return Parity(float(difference.max()), float(np.nanmax(relative)), float(rel_l2), nonfinite)


def top1_agreement(reference: npt.ArrayLike, candidate: npt.ArrayLike) -> float:
    """Share of samples for which both scores (N, classes) have their largest value at the same class."""
    return float(np.mean(np.argmax(np.asarray(reference), axis=1) == np.argmax(np.asarray(candidate), axis=1)))


def accuracy(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Share of samples for which the largest of the scores (N, classes) is at the label (N,)."""
    return float(np.mean(np.argmax(np.asarray(scores), axis=1) == np.asarray(labels)))
