"""TensorRT's real ONNX parser on files of `convert-precision` and `quantize`: each convolution's and plugin's types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from sn_deploy.graph.layers import write_functions
from sn_deploy.graph.op import SWITCH_NORM_ADD_RELU, SWITCH_NORM_RELU
from sn_deploy.precision import convert_precision, quantize
from tests.optimise.nets import Net
from tests.tensorrt.conftest import Release

FLOATS = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
STORED = {"int8": "int8", "fp8": "float8"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three convolutions, two fused layers with a residual between them: all that the fake network has."""
    net = Net(8, (8, 8))
    first = net.norm(net.conv("x", 16), relu=True)
    second = net.norm(net.conv(first, 16), relu=True, residual=first)
    model = ir.from_proto(net.model(net.conv(second, 8)))
    model.opset_imports[""] = 20
    write_functions(model)
    path = tmp_path_factory.mktemp("precision") / "net.onnx"
    ir.save(model, path)
    return path


def layers_of(answer: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [layer for layer in answer["all"] if layer["kind"] == kind]


def types_of(layer: dict[str, Any]) -> list[str]:
    return [tensor["type"] for tensor in layer["inputs"]]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_converted_file_has_half_convolutions_and_plugins(
    release: Release, source: Path, tmp_path: Path, precision: str
) -> None:
    convert_precision(source, tmp_path / "half.onnx", precision=precision)
    answer = release.parse(tmp_path / "half.onnx")
    assert answer["parsed"], answer["errors"]
    half = FLOATS[precision]
    assert [plugin["op"] for plugin in answer["plugins"]] == [SWITCH_NORM_RELU, SWITCH_NORM_ADD_RELU]
    for plugin in answer["plugins"]:
        types = [tensor["type"] for tensor in plugin["inputs"]]
        assert types == [half, *["float32"] * 4, *[half] * (len(types) - 5)]
        assert plugin["output"]["type"] == half
    assert [layer["output"]["type"] for layer in layers_of(answer, "convolution")] == [half] * 3
    assert len(layers_of(answer, "cast")) == 2


@pytest.mark.parametrize("float_type", FLOATS)
@pytest.mark.parametrize("precision", STORED)
def test_a_quantized_file_has_quantized_convolutions(
    release: Release, source: Path, tmp_path: Path, precision: str, float_type: str
) -> None:
    quantize(source, tmp_path / "q.onnx", precision=precision, float_type=float_type)
    answer = release.parse(tmp_path / "q.onnx")
    assert answer["parsed"], answer["errors"]
    assert answer["errors"] == []
    stored, own = STORED[precision], FLOATS[float_type]
    quantized, dequantized = layers_of(answer, "quantize"), layers_of(answer, "dequantize")
    assert [layer["output"]["type"] for layer in quantized] == [stored] * 3
    assert [types_of(layer)[:2] for layer in quantized] == [[own, own]] * 3
    assert [types_of(layer)[:2] for layer in dequantized] == [[stored, own]] * 6
    # Weights by output channel (axis 0 of K, C, R, S), activations by one scale.
    assert sorted(len(layer["inputs"][1]["shape"]) for layer in dequantized) == [0, 0, 0, 1, 1, 1]
    assert {layer["axis"] for layer in dequantized if layer["inputs"][1]["shape"]} == {0}
    assert [types_of(layer) for layer in layers_of(answer, "convolution")] == [[own, own]] * 3
    assert len(answer["plugins"]) == 2
    for plugin in answer["plugins"]:
        assert {tensor["type"] for tensor in plugin["inputs"][1:5]} == {"float32"}
        assert plugin["output"]["type"] == own


def test_what_tensorrt_refuses_is_seen(release: Release, source: Path, tmp_path: Path) -> None:
    """The planted fault: TensorRT has no zero points, so one that isn't 0 stops its parser."""
    quantize(source, tmp_path / "q.onnx", precision="int8")
    model = onnx.load(tmp_path / "q.onnx")
    (zero,) = (tensor for tensor in model.graph.initializer if tensor.name == "x_zero")
    zero.CopyFrom(onnx.numpy_helper.from_array(np.array(3, np.int8), "x_zero"))
    onnx.save(model, tmp_path / "shifted.onnx")
    answer = release.parse(tmp_path / "shifted.onnx")
    assert not answer["parsed"]
    assert any("zero" in error for error in answer["errors"])
