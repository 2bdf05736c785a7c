"""Fusion of ReLU and residual: which nodes become one, which don't and why, and that the numbers stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from sn_deploy.compare.parity import compare
from sn_deploy.errors import SnDeployError
from sn_deploy.graph import epilogue, op
from sn_deploy.graph.epilogue import EpilogueFusion, fuse_epilogues
from sn_deploy.graph.layers import switch_norm_nodes
from sn_deploy.runtime.native import ort_library
from sn_deploy.runtime.ort import OrtSession
from tests.cases import DTYPES
from tests.graph.epilogue_models import DYNAMIC, SHAPE, finished, graph_of, lines_of, meaning, model_of, values_of
from tests.tolerances import TOLERANCES

# What is there -> what it becomes.
FUSED: dict[str, tuple[list[str], list[str]]] = {
    "ReLU": (["a = SN x", "y = Relu a"], ["y = SwitchNormRelu x"]),
    "Clip from 0": (["a = SN x", "y = Clip a zero"], ["y = SwitchNormRelu x"]),
    "Clip from 0, no upper end named": (["a = SN x", "y = Clip a zero -"], ["y = SwitchNormRelu x"]),
    "Clip from 0 to infinity": (["a = SN x", "y = Clip a zero inf"], ["y = SwitchNormRelu x"]),
    "Max with 0": (["a = SN x", "y = Max a zero"], ["y = SwitchNormRelu x"]),
    "Max of 0 and the layer": (["a = SN x", "y = Max zeros_1 a"], ["y = SwitchNormRelu x"]),
    "through Identity": (["a = SN x", "b = Identity a", "c = Identity b", "y = Relu c"], ["y = SwitchNormRelu x"]),
    "what is read after the ReLU is free": (
        ["a = SN x", "b = Relu a", "c = Neg b", "d = Identity b", "y = Add c d"],
        ["b = SwitchNormRelu x", "c = Neg b", "d = Identity b", "y = Add c d"],
    ),
    "residual": (["a = SN x", "s = Add a r", "y = Relu s"], ["y = SwitchNormAddRelu x r"]),
    "residual first": (["a = SN x", "s = Add r a", "y = Relu s"], ["y = SwitchNormAddRelu x r"]),
    "X is the residual": (["a = SN x", "s = Add a x", "y = Relu s"], ["y = SwitchNormAddRelu x x"]),
    "residual and Clip": (["a = SN x", "s = Add a r", "y = Clip s zero"], ["y = SwitchNormAddRelu x r"]),
    "residual through Identity": (
        ["a = SN x", "b = Identity a", "q = Identity r", "s = Add b q", "t = Identity s", "y = Relu t"],
        ["q = Identity r", "y = SwitchNormAddRelu x q"],
    ),
    "a residual made after the layer": (
        ["a = SN x", "q = Neg r", "s = Add a q", "y = Relu s"],
        ["q = Neg r", "y = SwitchNormAddRelu x q"],
    ),
    "both addends are layers": (
        ["a = SN x", "b = SN r", "s = Add a b", "y = Relu s"],
        ["a = SwitchNorm x", "y = SwitchNormAddRelu r a"],
    ),
    "both addends are layers, the last one first": (
        ["a = SN x", "b = SN r", "s = Add b a", "y = Relu s"],
        ["a = SwitchNorm x", "y = SwitchNormAddRelu r a"],
    ),
    "a residual block": (
        ["a = SN x", "b = Relu a", "c = SN b", "d = SN x", "s = Add c d", "e = Relu s", "f = SN e", "g = Relu f",
         "h = SN g", "t = Add h e", "y = Relu t"],
        ["b = SwitchNormRelu x", "c = SwitchNorm b", "e = SwitchNormAddRelu x c", "g = SwitchNormRelu e",
         "y = SwitchNormAddRelu g e"],
    ),
    "a second ReLU": (["a = SN x", "b = Relu a", "y = Relu b"], ["b = SwitchNormRelu x", "y = Relu b"]),
}  # fmt: skip

# What stays as it is -> outputs beside y, and why; no reason where nothing that could be fused is there.
APART: dict[str, tuple[list[str], tuple[str, ...], str | None]] = {
    "nothing follows": (["y = SN x"], (), None),
    "something else follows": (["a = SN x", "y = Neg a"], (), None),
    "an Add alone": (["a = SN x", "y = Add a r"], (), None),
    "ReLU6": (["a = SN x", "y = Clip a zero six"], (), None),
    "Clip from 1": (["a = SN x", "y = Clip a one"], (), None),
    "Clip without a lower end": (["a = SN x", "y = Clip a - inf"], (), None),
    "Max with 1": (["a = SN x", "y = Max a one"], (), None),
    "Max with another tensor": (["a = SN x", "y = Max a r"], (), None),
    "Max of three": (["a = SN x", "y = Max a r zero"], (), None),
    "LeakyReLU": (["a = SN x", "y = LeakyRelu a"], (), None),
    "an Add and LeakyReLU": (["a = SN x", "s = Add a r", "y = LeakyRelu s"], (), None),
    "the layer is an output": (["a = SN x", "y = Relu a"], ("a",), "'a' is an output of the graph"),
    "an Identity of it is an output": (
        ["a = SN x", "b = Identity a", "y = Relu b"], ("b",), "'b' is an output of the graph"
    ),
    "the layer is read twice": (["a = SN x", "b = Relu a", "y = Add a b"], (), "'a' is read 2 times"),
    "the layer is added to itself": (["a = SN x", "s = Add a a", "y = Relu s"], (), "'a' is read 2 times"),
    "the sum is an output": (["a = SN x", "s = Add a r", "y = Relu s"], ("s",), "'s' is an output of the graph"),
    "the sum is read twice": (["a = SN x", "s = Add a r", "b = Relu s", "y = Add b s"], (), "'s' is read 2 times"),
    "a broadcast residual": (
        ["a = SN x", "s = Add a row", "y = Relu s"], (), "the residual 'row' is 1×4×1×1 and X is 3×4×5×6"
    ),
    "a scalar residual": (
        ["a = SN x", "s = Add one a", "y = Relu s"], (), "the residual 'one' is a scalar and X is 3×4×5×6"
    ),
}  # fmt: skip


def run(model: ir.Model, inputs: dict[str, Any], *, native: bool = False) -> dict[str, Any]:
    with OrtSession(ir.to_proto(model).SerializeToString(), threads=1, native=native) as session:
        return session.run(inputs)


def check_numbers(model: ir.Model, lines: Sequence[str], outputs: Sequence[str], shape: Sequence[int] = SHAPE) -> None:
    """Asserts that a model still means what its lines do: by the function, and by the native operator where it is."""
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    dtype = {onnx_type: name for name, onnx_type in _TYPES.items()}[model.graph.inputs[0].dtype]  # type: ignore[index]
    inputs = values_of(dtype, shape)
    reference = meaning(lines, inputs, outputs)
    for native in (False, *([True] if ort_library() is not None else [])):
        got = run(model, inputs, native=native)
        for name, value in reference.items():
            assert compare(value, got[name]).rel_l2 < TOLERANCES[dtype].rel_l2, (name, native)


_TYPES = {"float32": ir.DataType.FLOAT, "float16": ir.DataType.FLOAT16, "bfloat16": ir.DataType.BFLOAT16}


@pytest.mark.parametrize("name", FUSED)
def test_what_is_fused(name: str) -> None:
    before, after = FUSED[name]
    model = model_of(before)
    report = fuse_epilogues(model)
    assert lines_of(model) == after
    assert [node.op_type for node in report.fused] == [
        line.split()[2] for line in after if "SwitchNormRelu" in line or "SwitchNormAddRelu" in line
    ]
    assert report.apart == {}
    check_numbers(model, before, ["y"])


@pytest.mark.parametrize("name", APART)
def test_what_is_left_apart(name: str) -> None:
    lines, more, reason = APART[name]
    model = model_of(lines, ("y", *more))
    before = ir.to_proto(model).SerializeToString()
    report = fuse_epilogues(model)
    assert report.fused == {}
    assert [why.split(", so")[0] for why in report.apart.values()] == ([] if reason is None else [reason])
    assert ir.to_proto(model).SerializeToString() == before
    check_numbers(model, lines, ["y", *more])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["ReLU", "residual", "both addends are layers"])
def test_every_precision_with_dynamic_axes(name: str, dtype: str) -> None:
    before, after = FUSED[name]
    model = model_of(before, dtype=dtype, shape=DYNAMIC)
    fuse_epilogues(model)
    assert lines_of(model) == after
    for shape in (SHAPE, (1, 4, 3, 9)):
        check_numbers(model, before, ["y"], shape)


@pytest.mark.parametrize("opset", [15, 17, 18, 24])
@pytest.mark.parametrize("name", FUSED)
def test_the_ends_of_the_opsets(name: str, opset: int) -> None:
    before, after = FUSED[name]
    model = model_of(before, opset=opset)
    fuse_epilogues(model)
    assert lines_of(model) == after
    check_numbers(model, before, ["y"])


@pytest.mark.parametrize("name", FUSED)
def test_a_second_call_changes_nothing(name: str) -> None:
    model = model_of(FUSED[name][0])
    fuse_epilogues(model)
    once = ir.to_proto(model).SerializeToString()
    assert fuse_epilogues(model) == EpilogueFusion({}, {})
    assert ir.to_proto(model).SerializeToString() == once


def test_names_metadata_and_attributes_are_the_layers() -> None:
    model = model_of(["a = SN x", "s = Add a r", "y = Relu s"])
    (before,) = switch_norm_nodes(model)
    report = fuse_epilogues(model)
    (fused,) = switch_norm_nodes(model)
    assert report.fused == {fused: ("s_node", "y_node")}
    assert (fused.name, fused.metadata_props) == (before.name, {op.METADATA_LAYER: "layer.a"})
    assert {name: value.value for name, value in fused.attributes.items()} == {
        name: value.value for name, value in before.attributes.items()
    }
    assert fused.attributes["plugin_namespace"].as_string() == ""
    assert [value.name for value in fused.inputs if value is not None] == [
        "x", "a.scale", "a.bias", "a.mean_offset", "a.var_offset", "r"
    ]  # fmt: skip


def test_the_file_holds_the_functions_that_it_uses() -> None:
    model = model_of(["a = SN x", "b = Relu a", "y = SN b"])
    assert [name for _, name, _ in model.functions] == ["SwitchNorm"]
    fuse_epilogues(model)
    assert [name for _, name, _ in model.functions] == ["SwitchNorm", "SwitchNormRelu"]
    alone = model_of(["a = SN x", "y = Relu a"])
    fuse_epilogues(alone)
    assert [name for _, name, _ in alone.functions] == ["SwitchNormRelu"]


# --- Shapes, types and constants that can't be trusted ------------------------------------------------------------

RESIDUAL = ["a = SN x", "s = Add a r", "y = Relu s"]


@pytest.mark.parametrize(
    ("shape", "residual_shape", "reason"),
    [
        (("N", 4, "H", "W"), ("M", 4, "H", "W"), "the residual 'r' is M×4×H×W and X is N×4×H×W"),
        (("N", 4, "H", "W"), (1, 4, "H", "W"), "the residual 'r' is 1×4×H×W and X is N×4×H×W"),
        ((1, 4, 5, 6), (3, 4, 5, 6), "the residual 'r' is 3×4×5×6 and X is 1×4×5×6"),
        ((None, 4, 5, 6), (None, 4, 5, 6), "the residual 'r' is ?×4×5×6 and X is ?×4×5×6"),
        ((3, 4, 5, 6), (4, 5, 6), "the residual 'r' is 4×5×6 and X is 3×4×5×6"),
    ],
)
def test_a_residual_that_may_be_broadcast_is_left(shape: Any, residual_shape: Any, reason: str) -> None:
    model = model_of(RESIDUAL, shape=shape, residual_shape=residual_shape)
    report = fuse_epilogues(model)
    assert list(report.apart.values()) == [f"{reason}, so the Add may broadcast"]
    assert lines_of(model) == ["a = SwitchNorm x", "s = Add a r", "y = Relu s"]


def test_a_residual_of_unknown_shape_is_left() -> None:
    model = model_of(["a = SN x", "q = Neg r", "s = Add a q", "y = Relu s"], unknown=["q"])
    assert list(fuse_epilogues(model).apart.values()) == ["the shape of 'q' isn't known, so the Add may broadcast"]


def test_a_residual_of_another_type_is_left() -> None:
    model = model_of(RESIDUAL)
    model.graph.inputs[1].dtype = ir.DataType.FLOAT16
    assert list(fuse_epilogues(model).apart.values()) == ["the residual 'r' is FLOAT16 and X is FLOAT"]


def test_a_bound_that_a_caller_can_give_is_no_constant() -> None:
    model = model_of(["a = SN x", "y = Clip a zero"])
    model.graph.inputs.append(model.graph.initializers["zero"])
    assert fuse_epilogues(model) == EpilogueFusion({}, {})


def test_a_bound_from_a_constant_node_is_one() -> None:
    graph = graph_of(["a = SN x", "y = Clip a low"])
    graph.node.insert(0, helper.make_node("Constant", [], ["low"], value_float=0.0))
    model = finished(graph)
    fuse_epilogues(model)
    assert lines_of(model)[1:] == ["y = SwitchNormRelu x"]


def test_a_cast_between_is_left() -> None:
    graph = graph_of(["a = SN x", "c = Identity a", "y = Relu c"])
    graph.node[1].CopyFrom(helper.make_node("Cast", ["a"], ["c"], to=TensorProto.FLOAT16))
    del graph.value_info[:], graph.output[:]
    graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT16, SHAPE))
    assert fuse_epilogues(finished(graph)) == EpilogueFusion({}, {})


# --- Subgraphs ----------------------------------------------------------------------------------------------------


def branching(then_lines: list[str], lines: list[str], then_reads_on: str = "y") -> ir.Model:
    """``y = condition ? then_lines : r`` after lines; the branch may read what is outside."""
    inner = graph_of(then_lines, ["inner"], name="then")
    other = graph_of(["other = Identity r"], ["other"], name="else")
    graph = graph_of(lines, ["y"])
    constants = list(inner.initializer)
    del inner.initializer[:]
    graph.initializer.extend([*constants, numpy_helper.from_array(np.array(True), "condition")])
    graph.node.append(helper.make_node("If", ["condition"], ["y"], name="if", then_branch=inner, else_branch=other))
    return finished(graph)


def test_a_subgraph_is_fused_within_itself() -> None:
    lines, inner = ["q = Neg r"], ["a = SN x", "s = Add a q", "inner = Relu s"]
    model = branching(inner, lines)
    report = fuse_epilogues(model)
    assert [node.op_type for node in model.graph.all_nodes()].count("SwitchNormAddRelu") == 1
    assert list(report.fused.values()) == [("s_node", "inner_node")]
    assert [name for _, name, _ in model.functions] == ["SwitchNormAddRelu"]
    check_numbers(model, [*lines, *inner, "y = Identity inner"], ["y"])


def test_nothing_is_fused_over_the_border_of_a_subgraph() -> None:
    lines, inner = ["a = SN x"], ["inner = Relu a"]
    model = branching(inner, lines)
    report = fuse_epilogues(model)
    assert report.fused == {}
    assert list(report.apart.values()) == ["'a' is read in another graph"]
    check_numbers(model, [*lines, *inner, "y = Identity inner"], ["y"])


def test_the_sum_may_not_cross_it_either() -> None:
    lines, inner = ["a = SN x", "s = Add a r"], ["inner = Relu s"]
    report = fuse_epilogues(branching(inner, lines))
    assert list(report.apart.values()) == ["'s' is read in another graph"]


# --- Faults -------------------------------------------------------------------------------------------------------


def test_nodes_out_of_order_are_refused() -> None:
    model = model_of(["a = SN x", "b = Neg r", "s = Add a b", "y = Relu s"])
    late = model.graph[1]
    model.graph.remove(late)
    model.graph.append(late)
    with pytest.raises(SnDeployError, match="nodes are out of order: Add 's_node' uses 'b' before"):
        fuse_epilogues(model)


def _all_pass() -> None:
    for before, after in FUSED.values():
        model = model_of(before)
        fuse_epilogues(model)
        check_numbers(model, before, ["y"])
        assert lines_of(model) == after
    for lines, more, _ in APART.values():
        model = model_of(lines, ("y", *more))
        before = lines_of(model)
        fuse_epilogues(model)
        assert lines_of(model) == before
        check_numbers(model, lines, ["y", *more])


def _other_residual(node: ir.Node, found: Any) -> ir.Node:
    spoiled = found if found.residual is None else epilogue.Epilogue(found.chain, node.inputs[0])
    return _HONEST["_replace"](node, spoiled)  # type: ignore[no-any-return]


def _too_early(node: ir.Node, found: Any) -> ir.Node:
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    fused: ir.Node = _HONEST["_replace"](node, found)
    if len(graph) > 1:
        graph.remove(fused)
        graph.insert_before(graph[0], fused)
    return fused


_HONEST = {name: getattr(epilogue, name) for name in ("_replace", "_is_relu")}
FAULTS: dict[str, tuple[str, Any]] = {
    "the residual is X": ("_replace", _other_residual),
    "the fused node stands before what it reads": ("_replace", _too_early),
    "needed tensors vanish": ("_why_needed", lambda value, graph: None if len(value.uses()) == 1 else "read twice"),
    "broadcasts are fused": ("_why_unlike", lambda x, residual: None),
    "any Clip is a ReLU": ("_is_relu", lambda node, index: node.op_type == "Clip" or _HONEST["_is_relu"](node, index)),
    "LeakyReLU is a ReLU": (
        "_is_relu",
        lambda node, index: node.op_type == "LeakyRelu" or _HONEST["_is_relu"](node, index),
    ),
    "any constant is 0": ("_is_constant", lambda value, number: value is not None and value.const_value is not None),
}


def test_the_cases_for_faults_pass_without_one() -> None:
    _all_pass()


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epilogue, *FAULTS[name])
    with pytest.raises((AssertionError, SnDeployError, ValueError, onnx.checker.ValidationError)):
        _all_pass()
