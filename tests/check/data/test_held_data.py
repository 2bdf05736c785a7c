"""Data that a program has in memory, in the forms in which people have it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from sn_deploy.check.data.open import DataOptions, open_data
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import Array, TensorInfo

ONE = [TensorInfo("x", ("N", 1, 4, 5), np.dtype(np.float32))]
TWO = [*ONE, TensorInfo("gain", ("N", 2), np.dtype(np.float32))]


@pytest.fixture
def samples() -> Array:
    return np.random.default_rng(0).normal(size=(3, 1, 4, 5)).astype(np.float32)


class Table:
    """What other libraries' arrays have in common."""

    def __init__(self, values: Array) -> None:
        self._values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return self._values

    def __iter__(self) -> Any:
        return iter(["names", "of", "columns"])


def only_batch(data: object, inputs: list[TensorInfo]) -> tuple[dict[str, Array], Array | None]:
    (batch,) = open_data(DataOptions(data), inputs)
    return dict(batch.inputs), batch.labels


def test_a_tuple_has_the_inputs_in_order_and_perhaps_labels(samples: Array) -> None:
    labels, gain = np.array([2, 0, 1]), torch.ones(3, 2)
    for images in (samples, torch.from_numpy(samples)):
        inputs, found = only_batch((images, labels), ONE)
        assert np.array_equal(inputs["x"], samples)
        assert found is not None
        assert found.tolist() == [2, 0, 1]
    inputs, found = only_batch((samples, gain), TWO)
    assert (inputs["gain"].shape, found) == ((3, 2), None)
    assert only_batch((samples, gain, labels), TWO)[1] is not None
    assert only_batch((samples,), ONE)[1] is None
    inputs, found = only_batch((samples, labels.tolist()), ONE)
    assert found is not None
    assert found.tolist() == [2, 0, 1]


@pytest.mark.parametrize(("parts", "inputs"), [(1, TWO), (3, ONE)])
def test_a_tuple_of_too_few_or_too_many(samples: Array, parts: int, inputs: list[TensorInfo]) -> None:
    with pytest.raises(
        SnDeployError, match=rf"data: is a tuple of {parts} arrays \(expected x.*and perhaps the labels"
    ):
        only_batch((samples,) * parts, inputs)


def test_what_is_not_taken_is_not_read(samples: Array, tmp_path: Path) -> None:
    """Of a file of 1 TB, most of it holes, the samples that are taken."""
    mapped = np.memmap(tmp_path / "large.bin", np.float32, "w+", shape=(12_500_000_000, 1, 4, 5))
    mapped[:3] = samples
    described = [open_data(DataOptions(data, limit=3), ONE).describe()["sha256"] for data in (mapped, samples)]
    assert described[0] == described[1]
    assert open_data(DataOptions(samples, limit=2), ONE).describe()["sha256"] != described[0]


def test_arrays_of_other_libraries(samples: Array) -> None:
    assert np.array_equal(only_batch(Table(samples), ONE)[0]["x"], samples)
    with pytest.raises(SnDeployError, match=r"data: samples for x are uint8 \(4, 5\) .*scale and normalise"):
        only_batch(Image.fromarray(np.zeros((4, 5), np.uint8)), ONE)


class Named:
    """Samples with what isn't for the model."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"x": np.zeros((1, 4, 5), np.float32), "label": 1, "path": f"{index}.png"}


class Endless:
    def __getitem__(self, index: int) -> Array:
        return np.zeros((1, 4, 5), np.float32)


def test_what_is_not_for_the_model() -> None:
    with pytest.raises(SnDeployError, match=r"item 0: has path, which is text .expected x, .*labels.; give these"):
        only_batch(Named(), ONE)
    with pytest.raises(SnDeployError, match=r"has path, which is text"):
        only_batch(DataLoader(Named(), batch_size=3), ONE)
    triples = [(np.zeros((1, 4, 5), np.float32), 1, 2)]
    with pytest.raises(SnDeployError, match=r"has 3 parts .*give these alone: a function"):
        only_batch(triples, ONE)
    with pytest.raises(SnDeployError, match=r"gives a Endless .*give the Dataset a __len__"):
        only_batch(Endless(), ONE)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (torch.Tensor.to_sparse, "is a tensor that is torch.sparse_coo of torch.float32"),
        (lambda x: x.to("meta"), "is a tensor that is on the meta device, without data"),
        (lambda x: torch.nested.nested_tensor(list(x), layout=torch.jagged), "is a tensor that is"),
        (lambda x: x.numpy().astype(object), "is a ndarray of object .expected an array or tensor of numbers"),
        (lambda x: x + 0j, "samples for x are complex64"),
    ],
)
def test_tensors_that_are_no_samples(samples: Array, make: Any, message: str) -> None:
    with pytest.raises(SnDeployError, match=message):
        only_batch(make(torch.from_numpy(samples)), ONE)
    with pytest.raises(SnDeployError, match=message):
        only_batch({"x": make(torch.from_numpy(samples))}, ONE)
