"""What is read of an ONNX file before an engine is built of it, and what the parser gets in its place."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from sn_deploy.engine.model_file import read_model_file, without_functions
from sn_deploy.errors import SnDeployError
from tests.check.small_net import small_net


def test_the_functions_of_others_stay(tmp_path: Path) -> None:
    model = small_net()
    body = helper.make_node("Relu", ["x"], ["y"])
    opset = helper.make_opsetid("", 18)
    model.functions.append(helper.make_function("other", "Clip0", ["x"], ["y"], [body], [opset]))
    onnx.save(model, tmp_path / "net.onnx")
    left = onnx.load_from_string(without_functions(tmp_path / "net.onnx"))
    assert [(function.domain, function.name) for function in left.functions] == [("other", "Clip0")]
    assert [node.op_type for node in left.graph.node] == [node.op_type for node in model.graph.node]


def test_axes_of_any_size_as_some_exporters_write_them(tmp_path: Path) -> None:
    """Names, nothing, -1 and 0."""
    model = small_net()
    dims = model.graph.input[0].type.tensor_type.shape.dim
    for dim, size in zip(dims[1:], (-1, 0, 8), strict=True):
        dim.dim_value = size
    onnx.save(model, tmp_path / "net.onnx")
    (image,) = read_model_file(tmp_path / "net.onnx").inputs
    assert image.shape == ("batch", None, None, 8)


def test_sequences_are_no_inputs_and_outputs_of_engines(tmp_path: Path) -> None:
    split = helper.make_node("SplitToSequence", ["x"], ["y"], axis=0)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])
    y = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    model = helper.make_model(helper.make_graph([split], "g", [x], [y]), opset_imports=[helper.make_opsetid("", 18)])
    onnx.save(model, tmp_path / "parts.onnx")
    with pytest.raises(SnDeployError, match="y is no tensor"):
        read_model_file(tmp_path / "parts.onnx")
