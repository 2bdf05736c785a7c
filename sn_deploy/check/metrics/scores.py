"""Whether an output is a classifier's scores: the one place that decides it, for every command."""

from __future__ import annotations

from typing import Final

import numpy as np

from sn_deploy.runtime.tensors import Array

# How far the length of a unit vector may be from 1: the rounding of bfloat16, and some.
_LENGTH_TOLERANCE: Final = 0.02


def may_be_scores(value: Array, samples: int) -> bool:
    """Whether an output has the form of scores, (samples, classes) of floating point: what is asked for by name."""
    return value.ndim == 2 and len(value) == samples and value.shape[1] > 1 and value.dtype.kind not in "biu"


def are_scores(value: Array, samples: int) -> bool:
    """Whether it is to be taken for scores where nobody says what it is: unit vectors are embeddings.

    Which element of those is the largest means nothing. Embeddings of other lengths can't be told from scores.
    """
    return may_be_scores(value, samples) and not are_unit_vectors(value)


def are_unit_vectors(value: Array) -> bool:
    """Whether all rows of (N, C), and there are some, have a length of 1 and are no shares that add up to 1."""
    if value.ndim != 2 or not value.size or value.dtype.kind in "biu":
        return False
    rows = value.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        unit = np.abs(np.linalg.norm(rows, axis=1) - 1) <= _LENGTH_TOLERANCE
        shares = (rows >= 0).all(axis=1) & (np.abs(rows.sum(axis=1) - 1) <= _LENGTH_TOLERANCE)
    return bool(unit.all()) and not bool(shares.all())


def smallest_cosine(reference: Array, candidate: Array) -> float:
    """Of the rows of two (N, C), N above 0, each with the other's."""
    expected, actual = (side.astype(np.float64) for side in (reference, candidate))
    lengths = np.linalg.norm(expected, axis=1) * np.linalg.norm(actual, axis=1)
    return float(((expected * actual).sum(axis=1) / np.maximum(lengths, np.finfo(np.float64).tiny)).min())
