"""Arguments and inputs as users type them."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from sn_deploy.cli.values import inputs_by_name, parse_arguments, parse_counts, parse_input, parse_size
from sn_deploy.errors import SnDeployError


def test_arguments_are_python_values_where_they_can_be() -> None:
    pairs = ["num_classes=10", "pretrained=false", "layers=[3, 4]", "name=resnet50", "path=a=b", "x=None", "lr=1e-3"]
    pairs += ["key={[]: 1}", f"deep={'(' * 10_000}"]  # Python has no such values, for reasons of several types
    assert parse_arguments(pairs, option="--model-arg") == {
        "num_classes": 10,
        "pretrained": False,
        "layers": [3, 4],
        "name": "resnet50",
        "path": "a=b",
        "x": None,
        "lr": 1e-3,
        "key": "{[]: 1}",
        "deep": "(" * 10_000,
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
        ("input.1=1x3", "input.1", (1, 3), np.float32),
        ("serving/x:0=1x3:int64", "serving/x:0", (1, 3), np.int64),
        ("a=b=1x3", "a=b", (1, 3), np.float32),
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


@pytest.mark.parametrize("text", ["=1x3", "x=", ""])
def test_an_input_without_a_name_or_a_value_is_refused(text: str) -> None:
    with pytest.raises(SnDeployError, match="can't be read"):
        parse_input(text)


def test_names_of_inputs_and_of_files_may_have_equals_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("lr=1.npy", "y=2.npy", "2.npy")):
        np.save(name, np.array([number]))
    found = {text: parse_input(text) for text in ("lr=1.npy", "x=lr=1.npy", "y=2.npy", "a=b=2.npy", "lr=1=y=2.npy")}
    assert {text: (spec.name, spec.value[0]) for text, spec in found.items()} == {
        "lr=1.npy": (None, 0),
        "x=lr=1.npy": ("x", 0),
        "y=2.npy": ("y", 2),
        "a=b=2.npy": ("a=b", 2),
        "lr=1=y=2.npy": ("lr=1", 1),
    }


def test_inputs_go_by_name_or_by_place() -> None:
    def sizes(*texts: str) -> dict[str, int]:
        found = inputs_by_name([parse_input(text) for text in texts], lambda: ["x", "mask", "ids"])
        return {name: value.size for name, value in found.items()}

    assert sizes("1", "2", "3") == {"x": 1, "mask": 2, "ids": 3}
    assert sizes("1", "x=2", "3") == {"mask": 1, "x": 2, "ids": 3}
    assert inputs_by_name([parse_input("x=1")], lambda: pytest.fail("no place is to be told")).keys() == {"x"}
    with pytest.raises(SnDeployError, match="--input x: is given twice"):
        sizes("x=1", "x=2")
    with pytest.raises(SnDeployError, match=r"more often than there are inputs \(expected x, mask, ids\)"):
        sizes("1", "2", "3", "4")


def test_a_file_is_no_size(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 3), np.float32))
    for text in (f"x={tmp_path}/x.npy", f"{tmp_path}/x.npy"):
        with pytest.raises(SnDeployError, match=r"nothing but the shape would be taken .*give the shape"):
            parse_size(text)
    assert parse_size("x=2x3").value == ((2, 3), np.float32)


def test_a_size_draws_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np.random, "default_rng", lambda *seed: pytest.fail("nothing but the shape is taken"))
    assert parse_size("x=30000x30000:float64").value == ((30000, 30000), np.float64)
    assert parse_size("gain=scalar:int64").value == ((), np.int64)


def test_pickled_arrays_are_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "evil.npy", np.array([object()], dtype=object), allow_pickle=True)
    with pytest.raises(SnDeployError, match="allow_pickle=False"):
        parse_input(f"{tmp_path}/evil.npy")


def test_a_scalar_has_no_axes() -> None:
    assert parse_input("gain=scalar").value.shape == ()
    assert parse_input("scalar:int64").value.dtype == np.int64


def test_counts() -> None:
    assert parse_counts("8,1,8", "--concurrency", most=8, expected="callers") == [1, 8]
    for text in ("0", "a", "1,-1", "1,9"):
        with pytest.raises(SnDeployError, match=rf"--concurrency {text}: can't be read \(expected callers\)"):
            parse_counts(text, "--concurrency", most=8, expected="callers")
