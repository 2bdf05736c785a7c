"""Arithmetic on sizes that can be done once and for all is done, and nothing else changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper, parser

from sn_deploy.fuse.tidy import tidy
from sn_deploy.runtime.ort import OrtSession

HEAD = '<ir_version: 10, opset_import: ["" : 18]>'


def tidied(text: str, weights: Mapping[str, np.ndarray] = {}) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The model that the text is, with ``weights``, and the same after `tidy`."""
    before = parser.parse_model(f"{HEAD}\n{text}")
    before.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    onnx.checker.check_model(before, full_check=True)
    model = ir.from_proto(before)
    tidy(model)
    after = ir.to_proto(model)
    onnx.checker.check_model(after, full_check=True)
    again = ir.from_proto(after)
    tidy(again)
    assert ir.to_proto(again) == after, "a second run changes nothing"
    return before, after


def ops(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def assert_same(folder: Path, before: onnx.ModelProto, after: onnx.ModelProto, *shapes: tuple[int, ...]) -> None:
    """Both give the same bits for ``x`` of each of the shapes."""
    for shape in shapes:
        x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        results = []
        for name, model in (("before", before), ("after", after)):
            onnx.save(model, folder / f"{name}.onnx")
            with OrtSession(folder / f"{name}.onnx", native=False) as session:
                results.append(session.run({"x": x}))
        assert list(results[0]) == list(results[1])
        for name, value in results[0].items():
            np.testing.assert_array_equal(results[1][name], value, err_msg=f"{name} of {shape}")


FLATTENED = """g (float[n, 6, 5, 4] x) => (float[a, b] y)
    <int64 place = {0}, int64[1] axes = {0}, int64[1] rest = {-1}> {
        s = Shape(x)
        n = Gather<axis = 0>(s, place)
        u = Unsqueeze(n, axes)
        sizes = Concat<axis = 0>(u, rest)
        y = Reshape(x, sizes)
    }"""


def test_a_view_that_keeps_the_batch(tmp_path: Path) -> None:
    before, after = tidied(FLATTENED)
    assert ops(after) == ["Reshape"]
    (sizes,) = after.graph.initializer
    assert numpy_helper.to_array(sizes).tolist() == [0, -1]
    assert_same(tmp_path, before, after, (1, 6, 5, 4), (3, 6, 5, 4))


@pytest.mark.parametrize("rest", [-1, 0])
def test_a_zero_that_is_a_size_keeps_its_meaning(rest: int, tmp_path: Path) -> None:
    text = FLATTENED.replace("[n, 6, 5, 4]", "[n, m, 5, 4]").replace("Reshape(", "Reshape<allowzero = 1>(")
    before, after = tidied(text.replace("rest = {-1}", f"rest = {{{rest}}}"))
    (node,) = (node for node in after.graph.node if node.op_type == "Reshape")
    assert [attribute.name for attribute in node.attribute] == ([] if rest else ["allowzero"])
    assert ("Shape" in ops(after)) == (rest == 0)
    assert_same(tmp_path, before, after, *([(1, 6, 5, 4), (3, 2, 5, 4)] if rest else [(2, 0, 5, 4)]))


def test_static_sizes_become_constants(tmp_path: Path) -> None:
    before, after = tidied(FLATTENED.replace("[n, 6", "[2, 6"))
    assert ops(after) == ["Reshape"]
    assert numpy_helper.to_array(after.graph.initializer[0]).tolist() == [2, -1]
    assert_same(tmp_path, before, after, (2, 6, 5, 4))


def test_arithmetic_on_constants(tmp_path: Path) -> None:
    text = """g (float[2, 6, 5, 4] x) => (float[a, b, c] y)
        <int64[1] two = {2}, int64[1] three = {3}, int64[1] rest = {-1}, int64 zero = {0}, int64[1] axes = {0}> {
            six = Mul(two, three)
            scalar = Squeeze(two, axes)
            again = Unsqueeze(scalar, axes)
            sizes = Concat<axis = 0>(again, six, rest)
            y = Reshape(x, sizes)
        }"""
    before, after = tidied(text)
    assert ops(after) == ["Reshape"]
    assert [tensor.name for tensor in after.graph.initializer] == ["sizes"]
    assert_same(tmp_path, before, after, (2, 6, 5, 4))


def test_the_size_of_another_axis_is_not_taken_for_the_batch(tmp_path: Path) -> None:
    text = FLATTENED.replace("[n, 6, 5, 4]", "[n, m, 5, 4]").replace("place = {0}", "place = {1}")
    before, after = tidied(text)
    # Two unknown sizes, one of them stated to be whatever is left: nothing that a Reshape could find by itself.
    assert ops(after) == ops(before)
    assert_same(tmp_path, before, after, (2, 6, 5, 4))


def test_one_unknown_size_is_what_is_left(tmp_path: Path) -> None:
    text = FLATTENED.replace("[n, 6, 5, 4]", "[n, m, 5, 4]").replace("place = {0}", "place = {1}")
    before, after = tidied(text.replace("rest = {-1}", "rest = {20}"))
    assert ops(after) == ["Reshape"]
    assert numpy_helper.to_array(after.graph.initializer[0]).tolist() == [-1, 20]
    assert_same(tmp_path, before, after, (1, 6, 5, 4), (1, 3, 5, 4))


def test_sizes_of_another_tensor_with_the_same_axes(tmp_path: Path) -> None:
    text = """g (float[n, c, 5, 4] x) => (float[a, b, d] y)
        <int64[1] zero = {0}, int64[1] two = {2}, int64[1] rest = {-1}> {
            s = Shape(x)
            front = Slice(s, zero, two)
            sizes = Concat<axis = 0>(front, rest)
            h = Relu(x)
            y = Reshape(h, sizes)
        }"""
    before, after = tidied(text)
    assert ops(after) == ["Relu", "Reshape"]
    assert_same(tmp_path, before, after, (2, 3, 5, 4), (1, 7, 5, 4))


def test_sizes_that_a_file_states_of_what_it_makes_are_not_believed(tmp_path: Path) -> None:
    # As files are whose inputs were made dynamic by hand afterwards.
    model = parser.parse_model(f"{HEAD}\n{FLATTENED}")
    model.graph.node.insert(0, onnx.helper.make_node("Neg", ["x"], ["h"]))
    for node in model.graph.node[1:]:
        node.input[:] = ["h" if name == "x" else name for name in node.input]
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("h", onnx.TensorProto.FLOAT, (1, 6, 5, 4)))
    after = ir.from_proto(model)
    tidy(after)
    written = ir.to_proto(after)
    assert ops(written) == ["Neg", "Reshape"]
    # ONNX Runtime itself would believe them, and make one sample of three.
    del written.graph.value_info[:], model.graph.value_info[:]
    assert_same(tmp_path, model, written, (1, 6, 5, 4), (3, 6, 5, 4))


def test_what_callers_may_change_and_what_is_an_output_stay(tmp_path: Path) -> None:
    text = """g (float[2, 6, 5, 4] x, int64[1] given) => (float[a, b, c] y, int64[1] six)
        <int64[1] given = {2}, int64[1] two = {2}, int64[1] three = {3}, int64[1] rest = {-1}> {
            six = Mul(two, three)
            mine = Mul(given, two)
            some = Concat<axis = 0>(two, mine, rest)
            y = Reshape(x, some)
        }"""
    before, after = tidied(text)
    assert ops(after) == ops(before)
    assert_same(tmp_path, before, after, (2, 6, 5, 4))


def test_what_an_output_is_computed_from_may_be_read_elsewhere(tmp_path: Path) -> None:
    text = """g (float[2, 6, 5, 4] x) => (float[a, b] y, int64[2] twice)
        <int64[2] some = {1, 39}, int64[2] more = {1, 1}, int64[2] two = {2, 2}> {
            sizes = Add(some, more)
            twice = Mul(sizes, two)
            y = Reshape(x, sizes)
        }"""
    before, after = tidied(text.replace("{1, 39}", "{5, 39}"))
    assert ops(after) == ["Mul", "Reshape"]
    assert_same(tmp_path, before, after, (2, 6, 5, 4))


def test_a_name_that_the_graph_has_is_left_to_it(tmp_path: Path) -> None:
    model = parser.parse_model(f"{HEAD}\n{FLATTENED}")
    model.graph.node.append(onnx.helper.make_node("Neg", ["y"], ["y.sizes"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("y.sizes", onnx.TensorProto.FLOAT, ("a", "b")))
    after = ir.from_proto(model)
    tidy(after)
    onnx.checker.check_model(ir.to_proto(after), full_check=True)
    assert_same(tmp_path, model, ir.to_proto(after), (3, 6, 5, 4))


def test_weights_and_float_arithmetic_stay_as_they_are(tmp_path: Path) -> None:
    text = """g (float[2, 3] x) => (float[2, 3] y) {
            k = Mul(a, b)
            y = Mul(x, k)
        }"""
    weights = {name: np.array([0.1, 0.7, 1 / 3], np.float32) for name in ("a", "b")}
    before, after = tidied(text, weights)
    assert ops(after) == ["Mul", "Mul"]
    assert list(after.graph.initializer) == list(before.graph.initializer)
    assert_same(tmp_path, before, after, (2, 3))


def test_large_results_are_not_computed() -> None:
    text = """g (float[2, 3] x) => (int64[p, q] y, float[2, 3] z) {
            y = Add(row, column)
            z = Neg(x)
        }"""
    weights = {"row": np.ones((1, 2048), np.int64), "column": np.ones((2048, 1), np.int64)}
    before, after = tidied(text, weights)
    assert ops(after) == ops(before)


@pytest.mark.parametrize("outside", [True, False])
def test_branches_keep_what_they_compute(outside: bool, tmp_path: Path) -> None:
    chain = """s{0} = Shape(x)
        n{0} = Gather<axis = 0>(s{0}, place)
        u{0} = Unsqueeze(n{0}, axes)
        sizes{0} = Concat<axis = 0>(u{0}, rest)"""
    text = f"""g (float[n, 6, 5, 4] x) => (float[a, b] y)
        <int64 place = {{0}}, int64[1] axes = {{0}}, int64[1] rest = {{-1}}, float ten = {{10}}> {{
            {chain.format("") if outside else ""}
            m = ReduceMax<keepdims = 0>(x)
            large = Greater(m, ten)
            y = If(large) <
                then_branch = t () => (float[a, b] p) {{
                    {"" if outside else chain.format("_t")}
                    p = Reshape(x, {"sizes" if outside else "sizes_t"}) }},
                else_branch = e () => (float[a, b] q) {{
                    h = Neg(x)
                    {"" if outside else chain.format("_e")}
                    q = Reshape(h, {"sizes" if outside else "sizes_e"}) }}
            >
        }}"""
    before, after = tidied(text)
    inner = [node.op_type for attribute in after.graph.node[-1].attribute for node in attribute.g.node]
    assert sorted(inner) == ["Neg", "Reshape", "Reshape"]
    assert "Shape" not in ops(after)
    assert_same(tmp_path, before, after, (1, 6, 5, 4), (3, 6, 5, 4))


def test_a_loop_whose_tensor_grows(tmp_path: Path) -> None:
    text = """g (float[1, 4] x) => (float[p, q] y)
        <int64 three = {3}, bool go = {1}, int64[1] rest = {-1}, int64 zero = {0}, int64[1] axes = {0}> {
            y = Loop(three, go, x) <body = b (int64 i, bool c, float[r, t] h) => (bool d, float[v, w] k) {
                d = Identity(c)
                twice = Concat<axis = 0>(h, h)
                s = Shape(twice)
                n = Gather<axis = 0>(s, zero)
                u = Unsqueeze(n, axes)
                sizes = Concat<axis = 0>(u, rest)
                k = Reshape(twice, sizes)
            }>
        }"""
    before, after = tidied(text)
    assert_same(tmp_path, before, after, (1, 4))
