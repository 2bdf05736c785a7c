"""Files without the weights that are drawn by a rule: the whole ones come back to the bit, or not at all."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from sn_deploy.errors import SnDeployError
from sn_deploy.nn import SwitchNorm2d

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("net_recipes")


def net(recipes: Any) -> torch.nn.Module:
    made = torch.nn.Sequential(torch.nn.Conv2d(32, 32, 3), SwitchNorm2d(32), torch.nn.Conv2d(32, 64, 3))
    return recipes.draw_weights_(made)


def files(weights: dict[str, np.ndarray]) -> dict[str, onnx.ModelProto]:
    """The second convolution's weights as a file of each precision has them."""
    weight = weights["2.weight"]
    scale = (np.abs(weight).max((1, 2, 3)) / 127).astype(np.float16)
    quantized = np.clip(np.rint(weight / scale.astype(np.float64).reshape(-1, 1, 1, 1)), -127, 127).astype(np.int8)
    nodes = {"int8": [helper.make_node("DequantizeLinear", ["w", "w_scale"], ["y"], axis=0)]}
    tensors = {
        "fp32": [weight],
        "fp16": [weight.astype(np.float16)],
        "bf16": [weight.astype(ml_dtypes.bfloat16)],
        "int8": [quantized, scale],
    }
    return {
        precision: helper.make_model(
            helper.make_graph(
                nodes.get(precision, [helper.make_node("Identity", ["w"], ["y"])]), "net", [], [],
                [numpy_helper.from_array(array, name) for array, name in zip(arrays, ("w", "w_scale"), strict=False)],
            )
        )
        for precision, arrays in tensors.items()
    }  # fmt: skip


def test_weights_are_the_same_everywhere(recipes: Any) -> None:
    weights = recipes.weights_of(net(recipes))
    # Drawn by a generator that NumPy never changes, in float64: no library's version or processor shows in them.
    known = hashlib.sha256(b"".join(weights[name].tobytes() for name in sorted(weights)))
    assert known.hexdigest().startswith("5282d9c2d898c2c6")
    assert abs(weights["2.weight"].std() - (2 / 288) ** 0.5) < 1e-3
    assert len({weight.tobytes() for weight in weights.values()}) >= len(weights) - 2  # biases are 0


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_whole_files_come_back_to_the_bit(recipes: Any, precision: str) -> None:
    weights = recipes.weights_of(net(recipes))
    model = files(weights)[precision]
    small = recipes.packed(model, weights)
    assert recipes.is_packed(small)
    assert not recipes.is_packed(model)
    assert small.ByteSize() < model.ByteSize() / 10
    again = recipes.unpacked(onnx.ModelProto.FromString(small.SerializeToString()), weights)
    assert again.SerializeToString() == model.SerializeToString()


def test_other_weights_are_found_out(recipes: Any) -> None:
    weights = recipes.weights_of(net(recipes))
    small = recipes.packed(files(weights)["int8"], weights)
    other = {name: weight.copy() for name, weight in weights.items()}
    other["2.weight"][0, 0, 0, 0] *= -1
    with pytest.raises(SnDeployError, match=r"weight 2.weight: isn't what the file was made of; make the files anew"):
        recipes.unpacked(small, other)
    with pytest.raises(SnDeployError, match="tensor w: comes of none of the net's weights"):
        recipes.packed(files(other)["fp32"], weights)
