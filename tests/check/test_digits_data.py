"""The split of the digits: stratified, disjoint, complete, and the same for ever."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from sn_deploy.check.digits_data import held_out_mask, load_digits_split
from sn_deploy.errors import SnDeployError


def test_the_split_is_stratified_and_complete() -> None:
    data = load_digits_split()
    assert data.train_images.shape == (1352, 1, 8, 8)
    assert data.test_images.shape == (445, 1, 8, 8)
    assert data.train_images.dtype == data.test_images.dtype == np.float32
    assert data.train_images.min() == 0
    assert data.train_images.max() == 1
    train, test = np.bincount(data.train_labels), np.bincount(data.test_labels)
    np.testing.assert_array_equal(test, (train + test) // 4)


def test_every_fourth_of_each_label_is_held_out() -> None:
    labels = np.array([7, 7, 3, 7, 7, 3, 7, 3, 3, 7, 7, 7])
    assert np.flatnonzero(held_out_mask(labels)).tolist() == [4, 8, 11]


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(SnDeployError, match=r"pip install 'sn-deploy\[demo\]'"):
        load_digits_split()
