"""float32 borders around a half-precision graph."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.reference
import onnx_ir as ir

from sn_deploy.graph.io_types import keep_float32_io


def test_half_borders_become_float32_and_the_rest_stays() -> None:
    # x is used twice; the integers have the names that the half-precision tensors would get.
    proto = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 20]>
        g (float16[N, 2] x, int64[1] x_half) => (float16[N, 2] y, float16[N, 2] x2, int64[1] y_half) {
            y = Add (x, x)
            x2 = Neg (x)
            y_half = Identity (x_half)
        }"""
    )
    model = ir.from_proto(proto)
    assert keep_float32_io(model) == ["x", "y", "x2"]
    changed = ir.to_proto(model)
    onnx.checker.check_model(changed, full_check=True)
    types = {value.name: value.type.tensor_type.elem_type for value in (*changed.graph.input, *changed.graph.output)}
    assert types == {"x": 1, "x_half": 7, "y": 1, "x2": 1, "y_half": 7}

    evaluator = onnx.reference.ReferenceEvaluator(changed)
    y, x2, _ = evaluator.run(None, {"x": np.array([[1, 2]], np.float32), "x_half": np.array([3])})
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, [[2, 4]])
    np.testing.assert_array_equal(x2, [[-1, -2]])


def test_what_was_half_before_may_stay_so() -> None:
    text = '<ir_version: 10, opset_import: ["": 20]> g (float16[2] x) => (float16[2] y, float16[2] z) { y, z = F (x) }'
    model = ir.from_proto(onnx.parser.parse_model(text.replace("F (x)", "Split <num_outputs = 2> (x)")))
    assert keep_float32_io(model, but={"x", "z"}) == ["y"]
    assert [value.dtype for value in (*model.graph.inputs, *model.graph.outputs)] == [10, 1, 10]


def test_an_output_that_is_an_input_has_its_name() -> None:
    text = '<ir_version: 10, opset_import: ["": 20]> g (float16[2] x) => (float16[2] x, float16[2] y) { y = Neg (x) }'
    model = ir.from_proto(onnx.parser.parse_model(text))
    assert keep_float32_io(model) == ["x", "y"]
    assert [(value.name, value.dtype) for value in model.graph.outputs] == [("x", 1), ("y", 1)]
    x = np.array([1, 2], np.float32)
    found = onnx.reference.ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": x})
    np.testing.assert_array_equal(found, [x, -x])


def test_a_float32_graph_is_left_alone() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]> g (float[2] x) => (float[2] y) { y = Neg (x) }'
    )
    model = ir.from_proto(proto)
    assert keep_float32_io(model) == []
    assert len(list(model.graph)) == 1
