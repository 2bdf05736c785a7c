"""Values of inputs that functions take by name: arrays and tensors of any library, and one line for what is neither."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sn_deploy
from sn_deploy.diff import diff
from sn_deploy.errors import SnDeployError
from sn_deploy.fuse import fuse
from sn_deploy.inline import inline
from sn_deploy.models.digits import load_pretrained
from sn_deploy.optimise import optimise
from sn_deploy.specialise import specialise

VALUES = np.random.default_rng(0).standard_normal((3, 1, 8, 8))
FUNCTIONS: dict[str, Callable[[Path, Path, Any], Any]] = {
    "fuse": lambda net, path, inputs: fuse(inline(net, path).path, path, inputs=inputs).whole.inputs,
    "inline": lambda net, path, inputs: inline(net, path, inputs=inputs).whole.inputs,
    "diff": lambda net, path, inputs: diff(net, net, inputs=inputs).inputs_run,
    "optimise": lambda net, path, inputs: optimise(net, path, inputs=inputs).proof.shapes,
}


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    sn_deploy.export(load_pretrained(), torch.zeros(1, 1, 8, 8), path, dynamic="batch")
    return path


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    "value",
    [torch.tensor(VALUES, dtype=torch.float32, requires_grad=True), VALUES, VALUES.tolist(), torch.tensor(VALUES)],
    ids=["tensor", "float64", "list", "double"],
)
def test_arrays_and_tensors_are_values(function: str, value: Any, net: Path, tmp_path: Path) -> None:
    ran = FUNCTIONS[function](net, tmp_path / "other.onnx", {"x": value})
    assert ran["x"] in ("3×1×8×8", (3, 1, 8, 8))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": None}, "^inputs, x: is a NoneType .expected an array or tensor of numbers"),
        ({"x": ["a"]}, "^inputs, x: is a list .expected an array or tensor"),
        (torch.zeros(1, 1, 8, 8), "^inputs: is a Tensor .expected a dict by input name"),
    ],
)
def test_what_is_no_value(function: str, inputs: Any, message: str, net: Path, tmp_path: Path) -> None:
    with pytest.raises(SnDeployError, match=message):
        FUNCTIONS[function](net, tmp_path / "other.onnx", inputs)


def test_sizes_to_specialise_at_are_example_inputs(net: Path, tmp_path: Path) -> None:
    for example in (torch.zeros(1, 1, 8, 8), (np.zeros((1, 1, 8, 8)),), {"x": torch.zeros(1, 1, 8, 8)}):
        assert len(specialise(net, tmp_path / "other.onnx", example_inputs=example).layers) == 4
    with pytest.raises(SnDeployError, match=r"^example_inputs x: input x: .*1, 9, 9"):
        specialise(net, tmp_path / "other.onnx", example_inputs={"x": torch.zeros(1, 1, 9, 9)})
    with pytest.raises(SnDeployError, match=r"^example_inputs, x: is a str"):
        specialise(net, tmp_path / "other.onnx", example_inputs={"x": "1x1x8x8"})
