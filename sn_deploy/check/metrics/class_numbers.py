"""Labels as numbers of classes, whichever way they are written: numbers of any type, a column of them, or one-hot."""

from __future__ import annotations

from typing import Final

import numpy as np

from sn_deploy.compare.fit import is_float
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import Array

_LARGEST: Final = 1 << 53  # above it floats tell no neighbours apart


def class_numbers(labels: Array, rank: int, classes: int, first: int = 0) -> Array:
    """Labels of ``rank`` axes: (N,) of a classification, (N, H, W) of a segmentation.

    Args:
        labels: these, or with an axis behind N: of size 1, or of size ``classes`` with one 1 among zeros.
        first: the number of the first sample, for the error.

    Raises:
        SnDeployError: they are laid out as one-hot labels, and a sample is none; or one is no whole number.
    """
    if not are_laid_out(labels, rank, classes) or labels.ndim == rank:
        return _whole_numbers(labels, first)
    if labels.shape[1] == 1 < classes:
        return _whole_numbers(labels[:, 0], first)
    wrong = np.argwhere(~_is_one_hot(labels))
    if wrong.size:
        raise SnDeployError(
            f"the label of sample {first + int(wrong[0][0])} has no 1 among zeros, or more than one",
            where="labels",
            expected="one-hot rows, as the first is, or the numbers of the classes",
            mend="leave them out with --labels none where they are another task's",
        )
    numbers: Array = labels.argmax(axis=1)
    return numbers


def are_class_numbers(labels: Array, rank: int, classes: int) -> bool:
    """Whether `class_numbers` takes them, told from one batch."""
    if not are_laid_out(labels, rank, classes):
        return False
    if labels.ndim == rank or labels.shape[1] == 1 < classes:
        return bool(_is_whole(labels).all())
    return bool(_is_one_hot(labels).all())


def are_laid_out(labels: Array, rank: int, classes: int) -> bool:
    """Whether their shape is one that `class_numbers` takes."""
    if labels.dtype == object:  # a detector's, say: none of numbers
        return False
    return labels.ndim == rank or (labels.ndim == rank + 1 and labels.shape[1] in (1, classes))


def _whole_numbers(labels: Array, first: int) -> Array:
    """The same as integers: 3.0 is a class, as what was read from a table has it, and so is True, and 0.5 is none."""
    if labels.dtype.kind in "iu":
        return labels
    wrong = np.argwhere(~_is_whole(labels))
    if wrong.size:
        place = tuple(wrong[0])
        raise SnDeployError(
            f"{'the label' if labels.ndim == 1 else 'a pixel'} of sample {first + int(place[0])} is {labels[place]}",
            where="labels",
            expected="whole numbers: those of the classes",
            mend="leave them out with --labels none where they are another task's",
        )
    return labels.astype(np.int64)


def _is_whole(labels: Array) -> Array:
    if not is_float(labels.dtype):
        return np.ones(labels.shape, np.bool_)
    numbers = labels.astype(np.float64)
    found: Array = (np.abs(numbers) < _LARGEST) & (numbers == np.trunc(numbers))
    return found


def _is_one_hot(labels: Array) -> Array:
    """Without the axis of classes: whether all there is 0 but one 1."""
    found: Array = ((labels == 1).sum(axis=1) == 1) & ((labels == 0) | (labels == 1)).all(axis=1)
    return found
