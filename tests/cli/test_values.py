"""Arguments and inputs as users type them."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from sn_deploy.cli.values import parse_arguments, parse_input
from sn_deploy.errors import SnDeployError


def test_arguments_are_python_values_where_they_can_be() -> None:
    pairs = ["num_classes=10", "pretrained=false", "layers=[3, 4]", "name=resnet50", "path=a=b", "x=None", "lr=1e-3"]
    assert parse_arguments(pairs, option="--model-arg") == {
        "num_classes": 10,
        "pretrained": False,
        "layers": [3, 4],
        "name": "resnet50",
        "path": "a=b",
        "x": None,
        "lr": 1e-3,
    }


@pytest.mark.parametrize("pair", ["num_classes", "=3", "a b=3"])
def test_arguments_that_are_no_pairs_are_refused(pair: str) -> None:
    with pytest.raises(SnDeployError, match=r"--model-arg .*can't be read \(expected NAME=VALUE\)"):
        parse_arguments([pair], option="--model-arg")


def test_an_argument_given_twice_is_refused() -> None:
    with pytest.raises(SnDeployError, match="--model-arg a: is given twice"):
        parse_arguments(["a=1", "a=2"], option="--model-arg")


@pytest.mark.parametrize(
    ("text", "name", "shape", "dtype"),
    [
        ("1x3x224x224", None, (1, 3, 224, 224), np.float32),
        ("2,8", None, (2, 8), np.float32),
        ("image=1x3x8x8", "image", (1, 3, 8, 8), np.float32),
        ("ids=1x16:int64", "ids", (1, 16), np.int64),
        ("mask=4:bool", "mask", (4,), np.bool_),
        ("x=2x2:bfloat16", "x", (2, 2), ml_dtypes.bfloat16),
    ],
)
def test_inputs_are_shapes(text: str, name: str | None, shape: tuple[int, ...], dtype: type) -> None:
    spec = parse_input(text)
    assert (spec.name, spec.value.shape, spec.value.dtype) == (name, shape, np.dtype(dtype))
    np.testing.assert_array_equal(spec.value, parse_input(text).value)


def test_inputs_are_files_too(tmp_path: Path) -> None:
    np.save(tmp_path / "image.npy", np.arange(6, dtype=np.uint8).reshape(1, 6))
    spec = parse_input(f"image={tmp_path}/image.npy")
    assert spec.name == "image"
    assert spec.value.tolist() == [[0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1x3x", r"--input 1x3x: can't read the shape '1x3x' \(expected \[NAME=\]1x3x224x224"),
        ("one", "can't read the shape 'one'"),
        ("1x-3", "can't read the shape"),
        ("1x0x3", "a size is 0"),
        ("1x3:float31", r"unknown type 'float31' \(expected float32"),
        ("99999x99999x9", r"more than 2\^31 values"),
        ("image=nowhere.npy", "can't be read: No such file or directory"),
    ],
)
def test_inputs_that_do_not_parse_are_refused(text: str, message: str) -> None:
    with pytest.raises(SnDeployError, match=message):
        parse_input(text)


def test_pickled_arrays_are_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "evil.npy", np.array([object()], dtype=object), allow_pickle=True)
    with pytest.raises(SnDeployError, match="allow_pickle=False"):
        parse_input(f"{tmp_path}/evil.npy")
