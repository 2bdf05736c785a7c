"""Half-precision graphs with parts in float32: the nodes that change, the casts between, and the numbers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from sn_deploy.errors import SnDeployError
from sn_deploy.graph.mixed import HALF_TYPES, can_widen, widen

Array = npt.NDArray[Any]

WEIGHT = np.float32([[300.25, 1.0001], [-7.1, 0.3]])
TEXT = """<ir_version: 8, opset_import: ["": 18]> g (float16[2,2] x) => (float16[2,2] y, float16[2,2] z)
    <float16[2,2] w> { a = MatMul(x, w)  b = MatMul(a, w)  c = Relu(b)  y = Add(c, a)  z = Identity(c) }"""


def model(text: str = TEXT, dtype: str = "float16", weight: Array = WEIGHT) -> ir.Model:
    proto = onnx.parser.parse_model(text.replace("float16", dtype))
    del proto.graph.initializer[:]
    if "w>" in text:
        array = ir.tensor(weight.astype(np.float16 if dtype == "float16" else "bfloat16"), name="w")
        proto.graph.initializer.append(ir.serde.serialize_tensor(array))
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto))


def widened(names: Collection[str], made: ir.Model | None = None, **options: Any) -> onnx.ModelProto:
    made = made or model()
    nodes = [node for node in made.graph if {value.name for value in node.outputs} & set(names)]
    widen(made, nodes, HALF_TYPES["float16"], **options)
    proto = ir.to_proto(made)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def run(proto: onnx.ModelProto, x: Array) -> list[Array]:
    with np.errstate(all="ignore"):
        return list(ReferenceEvaluator(proto).run(None, {"x": x}))


def operators(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


X = np.float16([[250, 3], [-1, 0.1]])


def test_a_part_is_cast_at_its_borders_and_not_inside() -> None:
    proto = widened(["b", "c"])
    assert operators(proto) == ["MatMul", "Cast", "MatMul", "Relu", "Cast", "Add", "Identity"]
    kinds = {one.name: one.type.tensor_type.elem_type for one in (*proto.graph.output, *proto.graph.value_info)}
    assert (kinds["b"], kinds["c"], kinds["y"], kinds["a"]) == (1, 1, 10, 10)
    # The half weight is read by the first product still.
    assert {one.name: one.data_type for one in proto.graph.initializer} == {"w": 10, "w/float32": 1}


def test_an_overflow_is_gone_where_it_began() -> None:
    text = """<ir_version: 8, opset_import: ["": 18]> g (float16[2,2] x) => (float16[2,2] y)
        <float16[2,2] w> { a = MatMul(x, w)  b = MatMul(a, w)  y = Softmax(b) }"""
    x = np.float16([[200, 1], [3, 4]])
    half, some, wide = (run(widened(names, model(text)), x)[0] for names in ([], ["b"], ["b", "y"]))
    assert not np.isfinite(half).all()
    assert not np.isfinite(some).all()  # cast back before the softmax
    np.testing.assert_array_equal(wide, np.float16([[1, 0], [1, 0]]))


def test_inputs_that_are_left_out_stay_so() -> None:
    text = """<ir_version: 8, opset_import: ["": 18]> g (float16[2,2] x) => (float16[2,2] y)
        { wide = Constant<value_float = 1.0>()  one = Cast<to = 10>(wide)  y = Clip(x, , one) }"""
    proto = widened(["y"], model(text))
    assert list(proto.graph.node[-2].input)[1] == ""
    np.testing.assert_array_equal(run(proto, X)[0], np.minimum(X, 1))


def test_everything_in_float32_is_the_float32_graph_between_casts() -> None:
    proto = widened(["a", "b", "c", "y", "z"], originals=lambda name: WEIGHT if name == "w" else None)
    assert operators(proto) == ["Cast", "MatMul", "MatMul", "Relu", "Add", "Cast", "Identity", "Cast"]
    assert [one.name for one in proto.graph.initializer] == ["w/float32"]
    a = X.astype(np.float32) @ WEIGHT
    c = np.maximum(a @ WEIGHT, 0)
    y, z = run(proto, X)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(y, (c + a).astype(np.float16), rtol=1e-3)
        np.testing.assert_array_equal(z, c.astype(np.float16))
    assert (y.dtype, z.dtype) == (np.float16, np.float16)


@pytest.mark.parametrize("other", [WEIGHT + 1, WEIGHT[:1], None])
def test_an_original_that_does_not_round_to_the_weight_is_another(other: Array | None) -> None:
    proto = widened(["a"], originals=lambda name: other)
    (wide,) = [onnx.numpy_helper.to_array(one) for one in proto.graph.initializer if one.name == "w/float32"]
    np.testing.assert_array_equal(wide, WEIGHT.astype(np.float16).astype(np.float32))


def test_types_in_attributes_follow() -> None:
    text = """<ir_version: 8, opset_import: ["": 18]> g (float[2,2] x) => (float16[2,2] y)
        { h = Cast<to = 10>(x)  one = Constant<value = float[1] {1.5}>()  y = Mul(h, one) }"""
    parsed = onnx.parser.parse_model(text)
    parsed.graph.node[1].attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(np.float16([1.5])))
    proto = widened(["h", "one", "y"], ir.from_proto(onnx.shape_inference.infer_shapes(parsed)))
    assert operators(proto) == ["Cast", "Constant", "Mul", "Cast"]
    x = np.float32([[1.0001, 2], [3, 4]])
    np.testing.assert_array_equal(run(proto, x)[0], (x * np.float32(1.5)).astype(np.float16))


def test_nodes_with_graphs_are_told_apart_and_unknown_types_refused() -> None:
    text = """<ir_version: 8, opset_import: ["": 18]> g (bool c, float16[2,2] x) => (float16[2,2] y)
        { y = If (c) <then_branch = t () => (float16[2,2] a) { a = Relu(x) },
                      else_branch = e () => (float16[2,2] b) { b = Neg(x) }> }"""
    assert [can_widen(node) for node in model(text).graph] == [False]
    unknown = ir.from_proto(onnx.parser.parse_model(TEXT.replace("<float16[2,2] w>", "").replace("w)", "x)")))
    with pytest.raises(SnDeployError, match="its type isn't known"):
        widen(unknown, list(unknown.graph), HALF_TYPES["float16"])
