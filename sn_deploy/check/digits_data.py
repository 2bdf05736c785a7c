"""The demo's data: 1797 handwritten digits of 8x8 pixels from the UCI repository, as scikit-learn ships them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sn_deploy.imports import imported

HELD_OUT_EVERY = 4


class DigitsSplit(NamedTuple):
    """Images (N, 1, 8, 8), float32 in 0 to 1; labels (N,), int64 in 0 to 9. The test part is the held-out one."""

    train_images: npt.NDArray[np.float32]
    train_labels: npt.NDArray[np.int64]
    test_images: npt.NDArray[np.float32]
    test_labels: npt.NDArray[np.int64]


def load_digits_split() -> DigitsSplit:
    """Loads the digits and holds out every fourth example of each class, in the order of the set.

    A rule and not a random draw: the split is the same with every version of every library, has the same share of
    each class on both sides, and the set's 13 writers, who come one after the other, are on both sides, too.

    Raises:
        SnDeployError: scikit-learn is not installed.
    """
    called = "scikit-learn, which has the handwritten digits,"
    digits = imported("sklearn.datasets", called=called, where="digits", extra="demo").load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)  # grey levels 0 to 16
    labels = digits.target.astype(np.int64)
    held_out = held_out_mask(labels)
    return DigitsSplit(images[~held_out], labels[~held_out], images[held_out], labels[held_out])


def test_samples() -> list[tuple[npt.NDArray[np.float32], int]]:
    """The held-out images, each with its label: ``--data sn_deploy.check.digits_data:test_samples``."""
    digits = load_digits_split()
    return [(image, int(label)) for image, label in zip(digits.test_images, digits.test_labels, strict=True)]


def held_out_mask(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """True at every `HELD_OUT_EVERY`-th occurrence of each label, (N,)."""
    mask = np.zeros(labels.shape, dtype=np.bool_)
    for label in np.unique(labels):
        mask[np.flatnonzero(labels == label)[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]] = True
    return mask
