"""Files that have SwitchNorm nodes already: what they compute stays, whatever bears the names of our functions."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.graph.function_body import MAX_OPSET, MIN_OPSET, function_body
from sn_deploy.graph.op import FLOAT_ATTRIBUTES, OP_TYPES
from sn_deploy.graph.own_functions import is_ours
from sn_deploy.runtime.ort import OrtSession
from tests import switch_norm_file
from tests.fuse.unseen import fuse

OPSET = 20
X = np.random.default_rng(3).standard_normal((2, 4, 8, 8)).astype(np.float32)


def net(function: onnx.FunctionProto) -> onnx.ModelProto:
    made = switch_norm_file.model([switch_norm_file.node("norm", "x", "y")])
    made.functions.append(function)
    return made


def outputs(path: Path) -> np.ndarray:
    with OrtSession(path, native=False) as session:
        return session.run({"x": X, "residual": X})["y"]


@pytest.mark.parametrize("op_type", OP_TYPES)
@pytest.mark.parametrize("ranks", [(2,), (3,), (4,), (5,), (2, 4), (3, 4), (2, 3, 4, 5)])
@pytest.mark.parametrize("opset", [MIN_OPSET, 18, MAX_OPSET])
@pytest.mark.parametrize("overload", ["", "mean_in_var_in", "constant"])
def test_ours_are_known(op_type: str, ranks: tuple[int, ...], opset: int, overload: str) -> None:
    for positions in (49, 1 << 20, None):
        function = function_body(opset, ranks, most_positions=positions, op_type=op_type, overload=overload)
        assert all(is_ours(function, rank) for rank in ranks)


def test_a_changed_one_is_not_ours() -> None:
    for change in ("op", "attribute", "input", "output", "default", "opset"):
        function = function_body(OPSET, {4})
        if change == "op":
            next(node for node in function.node if node.op_type == "Sqrt").op_type = "Abs"
        elif change == "attribute":
            next(node for node in function.node if node.output[0] == "half").attribute[0].f = 0.25
        elif change == "input":
            function.input[1], function.input[2] = function.input[2], function.input[1]
        elif change == "output":
            function.output[0] = "y"
        elif change == "default":
            function.attribute_proto.append(helper.make_attribute("mean_in", 0.5))
        else:
            function.opset_import[0].version = 13
        assert not is_ours(function), change


def test_ours_stays_a_layer(tmp_path: Path) -> None:
    onnx.save(net(function_body(OPSET, {4})), tmp_path / "net.onnx")
    assert fuse(tmp_path / "net.onnx", tmp_path / "fused.onnx").present == 1
    assert np.allclose(outputs(tmp_path / "net.onnx"), outputs(tmp_path / "fused.onnx"), atol=1e-6)


@pytest.mark.parametrize("count", range(len(FLOAT_ATTRIBUTES)))
def test_ours_stays_a_layer_whatever_it_leaves_out(count: int, tmp_path: Path) -> None:
    """Nodes that nothing in an overload reads were taken out first, so that it seemed to be another's."""
    for used in itertools.combinations(FLOAT_ATTRIBUTES, count):
        if "var_ln" in used:  # it needs all others
            continue
        overload = "_".join(used) or "constant"
        made = net(function_body(OPSET, {4}, overload=""))
        made.functions.append(function_body(OPSET, {4}, overload=overload))
        node = made.graph.node[0]
        node.overload = overload
        for attribute in node.attribute:
            if attribute.name in FLOAT_ATTRIBUTES and attribute.name not in used:
                attribute.f = 0.0
        onnx.save(made, tmp_path / "net.onnx")
        assert fuse(tmp_path / "net.onnx", tmp_path / "fused.onnx").present == 1, overload
        assert np.allclose(outputs(tmp_path / "net.onnx"), outputs(tmp_path / "fused.onnx"), atol=1e-6)


def test_another_function_of_our_name_is_no_layer(tmp_path: Path) -> None:
    names = ["X", "scale", "bias", "mean_offset", "var_offset"]
    body = [helper.make_node("Neg", ["X"], ["Y"])]
    lie = helper.make_function("sn_deploy", "SwitchNorm", names, ["Y"], body, [helper.make_opsetid("", OPSET)])
    onnx.save(net(lie), tmp_path / "net.onnx")
    assert np.array_equal(outputs(tmp_path / "net.onnx"), -X)
    with pytest.raises(CheckFailedError, match="has no SN layer"):
        fuse(tmp_path / "net.onnx", tmp_path / "fused.onnx")


def test_another_layer_of_our_name_is_fused_as_what_it_computes(tmp_path: Path) -> None:
    # An own body that an older version may have written: the variance's root in another way.
    other = function_body(OPSET, {4})
    place = next(index for index, node in enumerate(other.node) if node.op_type == "Sqrt")
    root = helper.make_node("Identity", other.node[place].output, ["deviation_again"])
    for node in other.node[place + 1 :]:
        for index, name in enumerate(node.input):
            if name == other.node[place].output[0]:
                node.input[index] = "deviation_again"
    other.node.insert(place + 1, root)
    assert not is_ours(other)
    onnx.save(net(other), tmp_path / "net.onnx")
    report = fuse(tmp_path / "net.onnx", tmp_path / "fused.onnx")
    assert (report.present, len(report.layers)) == (0, 1)
    assert np.allclose(outputs(tmp_path / "net.onnx"), outputs(tmp_path / "fused.onnx"), atol=1e-5)


def test_ours_for_another_rank_is_refused(tmp_path: Path) -> None:
    onnx.save(net(function_body(OPSET, {5})), tmp_path / "net.onnx")
    with pytest.raises(SnDeployError, match="computes something else for an input of rank 4"):
        fuse(tmp_path / "net.onnx", tmp_path / "fused.onnx")
