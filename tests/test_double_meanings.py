"""ONNX files that say a thing twice: some readers take the first, some the last, so a proof may be of another net."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from sn_deploy.errors import SnDeployError
from sn_deploy.onnx_file import read_model
from tests import switch_norm_file


def plain() -> onnx.ModelProto:
    return switch_norm_file.model([switch_norm_file.node("norm", "x", "y")])


def weight(net: onnx.ModelProto, *, same: bool) -> None:
    twice = numpy_helper.from_array(np.full(4, 1 if same else 2, np.float32), "scale")
    net.graph.initializer.append(twice)


def attribute(net: onnx.ModelProto, *, same: bool) -> None:
    net.graph.node[0].attribute.append(helper.make_attribute("ddof", 1 if same else 0))


def opset(net: onnx.ModelProto, *, same: bool) -> None:
    net.opset_import.append(helper.make_opsetid("ai.onnx", 20 if same else 13))


def function(net: onnx.ModelProto, *, same: bool) -> None:
    for op_type in ("Relu", "Relu" if same else "Neg"):
        body = [helper.make_node(op_type, ["x"], ["y"])]
        net.functions.append(helper.make_function("theirs", "F", ["x"], ["y"], body, [helper.make_opsetid("", 20)]))


def weight_of_a_branch(net: onnx.ModelProto, *, same: bool) -> None:
    tensors = [numpy_helper.from_array(np.array(value), "t") for value in (1.0, 1.0 if same else 2.0)]
    value = helper.make_tensor_value_info("t", onnx.TensorProto.DOUBLE, [])
    branch = helper.make_graph([], "branch", [], [value], tensors)
    net.graph.initializer.append(numpy_helper.from_array(np.array(True), "c"))
    net.graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=branch, else_branch=branch))


EACH = [weight, attribute, opset, function, weight_of_a_branch]


@pytest.mark.parametrize("double", EACH)
def test_refused_where_they_differ(double: Callable[..., None], tmp_path: Path) -> None:
    net = plain()
    double(net, same=False)
    onnx.save(net, tmp_path / "net.onnx")
    with pytest.raises(SnDeployError, match="twice, and not the same"):
        read_model(tmp_path / "net.onnx")


def test_functions_that_a_tool_left_without_overloads_are_told_as_such(tmp_path: Path) -> None:
    net = plain()
    function(net, same=False)
    onnx.save(net, tmp_path / "net.onnx")
    with pytest.raises(SnDeployError, match=r"knows no overloads, give that what sn-deploy inline makes"):
        read_model(tmp_path / "net.onnx")


def test_what_stands_between_two_functions_that_are_the_same_is_nobodys(tmp_path: Path) -> None:
    net = plain()
    function(net, same=False)
    net.functions.append(net.functions[0])
    onnx.save(net, tmp_path / "net.onnx")
    (kept,) = read_model(tmp_path / "net.onnx").functions.values()
    assert [node.op_type for node in kept] == ["Relu"]
    net.functions.append(net.functions[1])
    onnx.save(net, tmp_path / "net.onnx")
    with pytest.raises(SnDeployError, match="twice, and not the same"):
        read_model(tmp_path / "net.onnx")


@pytest.mark.parametrize("double", [weight, attribute, opset, function])
def test_read_where_they_are_the_same(double: Callable[..., None], tmp_path: Path) -> None:
    net = plain()
    double(net, same=True)
    onnx.save(net, tmp_path / "net.onnx")
    read_model(tmp_path / "net.onnx")


def test_a_weight_that_is_dense_and_sparse(tmp_path: Path) -> None:
    net = plain()
    sparse = net.graph.sparse_initializer.add(dims=[4])
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "scale"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.zeros(1, np.int64)))
    onnx.save(net, tmp_path / "net.onnx")
    with pytest.raises(SnDeployError, match="'scale' twice"):
        read_model(tmp_path / "net.onnx")
