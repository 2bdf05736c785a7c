"""Parts of shapes without the bounds of `Shape`: the same numbers, in onnx's reference evaluator."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from sn_deploy.graph.shape_parts import write_plain_shapes

_BODIES = {
    "part": "r = Shape <start = 1, end = 3> (x)",
    "negative": "r = Shape <start = -2> (x)",
    "end": "r = Shape <end = -1> (x)",
    "product": "s = Shape <start = 2> (x)  r = ReduceProd <keepdims = 0> (s)",
    "kept axis": "s = Shape <start = 1> (x)  r = ReduceProd (s)",
    "both": "s = Shape <start = 2> (x)  p = ReduceProd (s)  r = Concat <axis = 0> (s, p)",
    "one axis": "s = Shape <start = 3> (x)  r = ReduceProd <keepdims = 0> (s)",
    "branch": """c = Constant <value = bool {1}> ()
        r = If (c) <then_branch = a () => (t) { t = Shape <start = 2> (x) }, else_branch = b () => (e) {
            e = Shape <start = 1, end = 3> (x) }>""",
}


def net(body: str, x: str = "float[n, 3, h, w]") -> onnx.ModelProto:
    text = f'<ir_version: 8, opset_import: ["": 18]> g ({x} x) => (int64[k] r) {{ {body} }}'
    return onnx.parser.parse_model(text.replace("int64[k] r", "int64 r") if "keepdims = 0" in body else text)


def rewritten(model: onnx.ModelProto) -> onnx.ModelProto:
    read = ir.from_proto(model)
    write_plain_shapes(read)
    return ir.to_proto(read)


@pytest.mark.parametrize("body", _BODIES.values(), ids=_BODIES)
def test_the_same_without_bounds(body: str) -> None:
    before = net(body)
    after = rewritten(before)
    onnx.checker.check_model(after)
    nodes = list(ir.from_proto(after).graph.all_nodes())
    assert not any(node.attributes for node in nodes if node.op_type == "Shape")
    assert not any(node.op_type == "ReduceProd" for node in nodes)
    for shape in ((2, 3, 5, 7), (0, 3, 1, 4)):
        x = {"x": np.zeros(shape, np.float32)}
        (wanted,), (found,) = (ReferenceEvaluator(model).run(None, x) for model in (before, after))
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)


def test_a_product_of_no_axes_is_none() -> None:
    before = net("s = Shape <start = 1> (x)  r = ReduceProd <noop_with_empty_axes = 1> (s)")
    x = {"x": np.zeros((2, 3, 5, 7), np.float32)}
    for model in (before, rewritten(before)):
        assert ReferenceEvaluator(model).run(None, x)[0].tolist() == [3, 5, 7]


def test_names_that_the_graph_has_are_left_to_it() -> None:
    before = net("r = Shape <start = 1> (x)  r_shape = Neg (x)  r_part = Abs (r_shape)")
    after = rewritten(before)
    onnx.checker.check_model(after)
    assert not any(node.attributes for node in ir.from_proto(after).graph if node.op_type == "Shape")


@pytest.mark.parametrize(
    ("body", "x"),
    [
        ("r = Shape (x)", "float[n, 3, h, w]"),
        ("r = Shape <start = 1> (x)", "float"),
        ("s = Shape <start = 3> (x)  r = ReduceProd (s)", "float[n, 3, 4]"),
        ("s = Shape (x)  r = ReduceProd (s)", "float[n, 3, 4]"),
    ],
    ids=["without bounds", "unknown rank", "an empty part", "of the whole shape"],
)
def test_the_rest_stays(body: str, x: str) -> None:
    before = net(body, x)
    if x == "float":
        before.graph.input[0].type.tensor_type.ClearField("shape")
    after = rewritten(before)
    assert [node.op_type for node in after.graph.node] == [node.op_type for node in before.graph.node]
