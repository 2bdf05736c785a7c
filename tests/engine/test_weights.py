"""Which files' weights an engine takes: the hash of what it can't get from another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.trt.weights import structure_sha256

Change = Callable[[onnx.ModelProto], object]
SEED = 4


def quantized() -> onnx.ModelProto:
    """x, times a matrix in int8, in the middle of an If, times one in float32."""
    draw = np.random.default_rng(SEED)
    stored = numpy_helper.from_array(draw.integers(-9, 9, (64, 64)).astype(np.int8), "stored")
    inside = numpy_helper.from_array(draw.integers(-9, 9, (64, 64)).astype(np.int8), "inside")
    weights = [numpy_helper.from_array(draw.standard_normal((64, 64), np.float32), "w"), stored]
    weights += [numpy_helper.from_array(np.float32(0.1), "scale"), numpy_helper.from_array(np.bool_(True), "yes")]
    branch = helper.make_graph(
        [
            helper.make_node("Constant", [], ["c"], value=inside),
            helper.make_node("DequantizeLinear", ["c", "scale"], ["d"]),
        ],
        "branch",
        [],
        [helper.make_tensor_value_info("d", TensorProto.FLOAT, [64, 64])],
    )
    nodes = [
        helper.make_node("DequantizeLinear", ["stored", "scale"], ["q"]),
        helper.make_node("If", ["yes"], ["r"], then_branch=branch, else_branch=branch),
        helper.make_node("MatMul", ["x", "q"], ["a"]),
        helper.make_node("MatMul", ["a", "r"], ["b"]),
        helper.make_node("MatMul", ["b", "w"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 64]) for name in "xy"]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def written(model: onnx.ModelProto, folder: Path, data: str | None = "data.bin") -> Path:
    """The file, its larger tensors in another one of that name."""
    folder.mkdir()
    path = folder / "net.onnx"
    if data is None:
        onnx.save_model(model, path)
    else:
        onnx.save_model(
            model, path, save_as_external_data=True, location=data, size_threshold=100, convert_attribute=True
        )
        assert (folder / data).stat().st_size > 3 * 64 * 64
    return path


def initializer(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def replace(tensor: onnx.TensorProto) -> None:
    """By other values of the same shape and type."""
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 1, tensor.name))


def in_the_branch(model: onnx.ModelProto) -> onnx.TensorProto:
    made: onnx.TensorProto = model.graph.node[1].attribute[0].g.node[0].attribute[0].t
    return made


def test_where_the_data_lies_makes_no_difference(tmp_path: Path) -> None:
    hashes = {
        structure_sha256(written(quantized(), tmp_path / f"{index}", data))
        for index, data in enumerate(("data.bin", "later.data", None))
    }
    assert len(hashes) == 1


@pytest.mark.parametrize("data", ["data.bin", None], ids=["external", "inside"])
def test_other_float_weights_make_no_difference(tmp_path: Path, data: str | None) -> None:
    other = quantized()
    replace(initializer(other, "w"))
    first, second = written(quantized(), tmp_path / "first", data), written(other, tmp_path / "second", data)
    assert structure_sha256(first) == structure_sha256(second)


@pytest.mark.parametrize("data", ["data.bin", None], ids=["external", "inside"])
@pytest.mark.parametrize(
    "change", [lambda model: replace(initializer(model, "stored")), lambda model: replace(in_the_branch(model))]
)
def test_other_integers_are_another_structure(tmp_path: Path, data: str | None, change: Change) -> None:
    other = quantized()
    change(other)
    first, second = written(quantized(), tmp_path / "first", data), written(other, tmp_path / "second", data)
    assert first.read_bytes() == second.read_bytes() or data is None
    assert structure_sha256(first) != structure_sha256(second)


def test_floats_that_are_a_layers_settings_are_no_weights(tmp_path: Path) -> None:
    def net(scale: float, bound: float, weight: float, shared: float) -> Path:
        settings = {"scales": [1, 1, scale, scale], "bound": bound, "w": [[[[weight]]]], "shared": shared}
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["a"]),
            helper.make_node("Resize", ["a", "", "scales"], ["b"]),
            helper.make_node("Clip", ["b", "", "bound"], ["c"]),
            helper.make_node("Mul", ["c", "shared"], ["d"]),
            helper.make_node("Clip", ["d", "shared"], ["y"]),
        ]
        tensors = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in settings.items()]
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 8, 8]) for name in "xy"]
        graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], tensors)
        path = tmp_path / "net.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
        return path

    known = structure_sha256(net(1, 6, 2, 0))
    assert structure_sha256(net(1, 6, 3, 0)) == known
    for other in ((2, 6, 2, 0), (1, 5, 2, 0), (1, 6, 2, 1)):
        assert structure_sha256(net(*other)) != known


def test_data_that_is_cut_off_is_no_traceback(tmp_path: Path) -> None:
    path = written(quantized(), tmp_path / "net")
    data = path.with_name("data.bin")
    data.write_bytes(data.read_bytes()[:-100])
    with pytest.raises(SnDeployError, match=r"net\.onnx: weight '.*' begins at byte .* of data\.bin and has"):
        structure_sha256(path)
    data.unlink()
    with pytest.raises(SnDeployError, match=r"its external data data\.bin is missing"):
        structure_sha256(path)
