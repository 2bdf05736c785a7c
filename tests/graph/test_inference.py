"""Shape inference: what can be known is found, and no small file makes it take gigabytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from sn_deploy.errors import SnDeployError
from sn_deploy.graph.inference import infer_shapes
from sn_deploy.graph.inference_size import InferenceSize
from sn_deploy.inspection.onnx_file import layers_from_onnx
from sn_deploy.specialise.load import load
from tests import switch_norm_file
from tests.graph.hostile_shapes import HOSTILE, endless_axes

# What ONNX's own inference doesn't survive in 1 GiB: one of each kind. Calls without end take it hours, not memory.
DEADLY = ["long_vector", "long_vector_by_sizes", "endless_axes"]


def outcomes(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.graph.hostile_shapes", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_hostile_files_are_inferred_as_far_as_that_goes_or_refused() -> None:
    done = outcomes()
    assert done.returncode == 0, done.stdout + done.stderr
    found = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert list(found) == list(HOSTILE)
    vectors = {"long_vector", "long_vector_by_sizes", "long_integers", "endless_sizes", "endless_sizes_that_lie"}
    assert {name for name, outcome in found.items() if outcome == "inferred"} == vectors
    for name in found.keys() - vectors:
        assert "have no end: inferring its shapes would take gigabytes" in found[name], name


@pytest.mark.parametrize("name", DEADLY)
def test_without_the_guard_they_take_gigabytes(name: str) -> None:
    done = outcomes("--unguarded", name)
    assert done.returncode != 0
    assert "bad_alloc" in done.stderr, done.stdout + done.stderr


def hostile_with_a_layer(path: Path) -> Path:
    """A file with a SwitchNorm node, and axes without end beside it."""
    model = switch_norm_file.model([switch_norm_file.node("sn", "x", "y")])
    hostile = endless_axes().graph
    for node in hostile.node:
        node.input[:] = ["i" if name == "x" else name for name in node.input]
    hostile.input[0].name = "i"
    model.graph.node.extend(hostile.node)
    model.graph.input.extend(hostile.input)
    model.graph.output.extend(hostile.output)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("reader", [load, layers_from_onnx])
def test_commands_refuse_them_with_the_name_of_the_file(reader: object, tmp_path: Path) -> None:
    path = hostile_with_a_layer(tmp_path / "in.onnx")
    assert callable(reader)
    with pytest.raises(SnDeployError, match=r"in\.onnx: its shapes have no end"):
        reader(path)


def test_sizes_behind_a_computed_reshape_are_found() -> None:
    value, node = helper.make_tensor_value_info, helper.make_node
    graph = helper.make_graph(
        [
            node("Shape", ["x"], ["s"]),
            node("Slice", ["s", "zero", "two"], ["front"]),
            node("Concat", ["front", "rest"], ["sizes"], axis=0),
            node("Reshape", ["x", "sizes"], ["y"]),
        ],
        "g",
        [value("x", TensorProto.FLOAT, ("n", 6, 5, 4))],
        [value("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array([number]), name) for name, number in (("zero", 0), ("two", 2), ("rest", 20))],
    )
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10))
    infer_shapes(model)
    (y,) = model.graph.outputs
    assert y.shape is not None
    assert [dim if isinstance(dim, int) else dim.value for dim in y.shape] == ["n", 6, 20]


@pytest.mark.parametrize("op_type", ["Squeeze", "Gather"])
def test_long_chains_that_add_an_axis_and_take_it_away_are_no_danger(op_type: str) -> None:
    # As decomposed layers do, over and over: what is counted must not add up.
    value, node = helper.make_tensor_value_info, helper.make_node
    nodes = []
    for index in range(1000):
        nodes.append(node("Unsqueeze", [f"h{index}", "axis"], [f"u{index}"]))
        nodes.append(node(op_type, [f"u{index}", "axis" if op_type == "Squeeze" else "place"], [f"h{index + 1}"]))
    graph = helper.make_graph(
        nodes,
        "g",
        [value("h0", TensorProto.FLOAT, (2, 3))],
        [value("h1000", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array([0]), "axis"), numpy_helper.from_array(np.array(0), "place")],
    )
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10))
    assert InferenceSize(model).axes <= 6 * 2000
    infer_shapes(model)
    assert model.graph.outputs[0].shape == ir.Shape([2, 3])
