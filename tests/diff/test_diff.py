"""What differs is named, what doesn't is not, and a fault that is planted shows."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

from sn_deploy.diff import FileDiff, diff
from sn_deploy.errors import SnDeployError, SnDeployWarning
from sn_deploy.fuse import fuse
from sn_deploy.hashing import sha256_of_file
from sn_deploy.runtime.stamp import Stamp
from tests.fuse.test_files import net


def model(
    weight: float = 2.0, *, name: str = "w", output: str = "y", shape: tuple[object, ...] = (2, 3), op: str = "Mul"
) -> onnx.ModelProto:
    """y = x · w."""
    graph = helper.make_graph(
        [helper.make_node(op, ["x", name], [output], name="n")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.array([weight, 1, 1], np.float32), name)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def compared(folder: Path, before: onnx.ModelProto, after: onnx.ModelProto, **options: object) -> FileDiff:
    onnx.save(before, folder / "a.onnx")
    onnx.save(after, folder / "b.onnx")
    return diff(folder / "a.onnx", folder / "b.onnx", **options)  # type: ignore[arg-type]


def test_a_file_is_the_same_as_itself(tmp_path: Path) -> None:
    found = compared(tmp_path, model(), model())
    assert not found.different
    assert [found.properties, found.ops, found.inputs, found.outputs] == [{}, {}, {}, {}]
    assert found.weights.same == 1
    assert found.numerics is not None
    assert [(output.rel_l2, output.max_abs, output.cosine) for output in found.numerics] == [(0, 0, pytest.approx(1))]


def test_fused_files_compute_the_same_with_other_operators(tmp_path: Path) -> None:
    onnx.save(net(), tmp_path / "a.onnx")
    fuse(tmp_path / "a.onnx", tmp_path / "b.onnx")
    found = diff(tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert not found.different
    assert found.ops["sn_deploy::SwitchNormRelu"] == (0, 1)
    assert found.ops["Relu"] == (1, 0)
    assert "Conv" not in found.ops
    assert found.properties["functions"].after == "sn_deploy::SwitchNormRelu"
    assert found.weights.same == 1
    assert "sn.mean_offset" in found.weights.added


def test_another_weight_is_found_where_it_is(tmp_path: Path) -> None:
    found = compared(tmp_path, model(2.0), model(2.001))
    change = found.weights.changed["w"]
    assert change.max_abs == pytest.approx(1e-3, rel=1e-3)
    assert found.numerics is not None
    assert not found.numerics[0].same
    assert "output 'y' differs by" in found.different[0]
    assert not compared(tmp_path, model(2.0), model(2.001), tolerance=1e-2).different


def test_names_alone_are_no_difference(tmp_path: Path) -> None:
    found = compared(tmp_path, model(), model(name="v"))
    assert found.weights.renamed == {"w": "v"}
    assert [found.weights.added, found.weights.removed, found.different] == [{}, {}, ()]


def test_another_interface_is(tmp_path: Path) -> None:
    found = compared(tmp_path, model(), model(output="z"))
    assert found.different == ("output 'y' is gone", "output 'z' is new")
    assert found.numerics is not None
    assert (found.numerics[0].before, found.numerics[0].after) == ("y", "z")
    assert (
        "axis 0 of input 'x' is 2 in one and 5 in the other"
        in compared(tmp_path, model(), model(shape=(5, 3))).different
    )


def parsed(graph: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\n{graph}')


ONE = "g (float[2,3] x) => (float[2,3] y) { y = Relu(x) }"
GATHER = "g (int64[n] x) => (float[n,2] y) <float[2,2] w = {1,2,3,4}> { y = Gather(w, x) }"
BRANCHES = """g (float[2,3] x, bool[] c) => (float[2,3] y) {
    y = If(c) <then_branch = t () => (float[2,3] a) { a = Relu(x) },
               else_branch = e () => (float[2,3] b) { b = Neg(x) }> }"""


@pytest.mark.parametrize(
    ("before", "after", "different"),
    [
        (ONE, ONE.replace("(float[2,3] y) {", "(float[2,3] y, float[2,3] z) { z = Neg(x)"), "1 outputs and .* has 2"),
        (ONE, ONE.replace("[2,3]", "[2,3,1]"), "input 'x' has 2 axes in one and 3 in the other"),
        (
            ONE,
            "g (float[2,3] x) => (float[2] y) { y = ReduceMax <axes = [1], keepdims = 0> (x) }",
            r"output 'y' has shape \(2, 3\) in one and \(2,\) in the other",
        ),
        (GATHER, GATHER.replace("3,4", "3,5"), "output 'y' differs by 2.00e-01"),
        (GATHER, GATHER.replace("int64[n]", "int32[n]"), "input 'x' is int64 in one and int32 in the other"),
        (GATHER, GATHER, ""),
        (BRANCHES, BRANCHES, ""),
        (BRANCHES, BRANCHES.replace("Neg", "Exp"), "output 'y' differs by"),
    ],
)
def test_what_else_can_differ(tmp_path: Path, before: str, after: str, different: str) -> None:
    found = compared(
        tmp_path, parsed(before), parsed(after), inputs={"c": np.array(False)} if before is BRANCHES else {}
    )
    assert bool(found.different) == bool(different)
    assert re.search(different, " ".join(found.different))
    if "Exp" in after:
        assert found.ops == {"Exp": (0, 1), "Neg": (1, 0)}


def test_constants_are_weights(tmp_path: Path) -> None:
    text = "g (float[3] x) => (float[3] y) { c = Constant <value = float[3] {1, 2, 3}> () y = Mul(x, c) }"
    found = compared(tmp_path, parsed(text), parsed(text.replace("3}", "4}")), run=False)
    assert found.weights.changed["c"].max_abs == 1
    assert found.different == ("1 weights differ",)


def test_dynamic_axes_take_what_the_other_file_fixes(tmp_path: Path) -> None:
    found = compared(tmp_path, model(shape=("n", 3)), model(shape=(4, 3)))
    assert found.inputs_run == {"x": "4×3"}
    assert found.inputs["x"].before == "n×3 float32"
    assert not found.different
    assert compared(tmp_path, model(shape=("n", 3)), model(shape=("n", 3))).inputs_run == {"x": "2×3"}
    for axes, size in (((None, None, 3), "2×64×3"), (("n", "n", 3), "2×2×3"), (("n", "m", 3), "2×64×3")):
        assert compared(tmp_path, model(shape=axes), model(shape=axes)).inputs_run == {"x": size}


def test_weights_outside_lie_beside_their_file(tmp_path: Path) -> None:
    for folder, weight in (("a", 2.0), ("b", 2.5)):
        (tmp_path / folder).mkdir()
        onnx.save(model(weight), tmp_path / folder / "net.onnx", save_as_external_data=True, size_threshold=0)
    found = diff(tmp_path / "a" / "net.onnx", tmp_path / "b" / "net.onnx")
    assert found.weights.changed["w"].max_abs == 0.5
    assert "size" not in found.properties
    assert found.different


def test_inputs_can_be_given(tmp_path: Path) -> None:
    dynamic = model(shape=("n", 3))
    found = compared(tmp_path, dynamic, dynamic, inputs={"x": np.zeros((7, 3), np.float32)})
    assert found.inputs_run == {"x": "7×3"}
    with pytest.raises(SnDeployError, match="inputs z: is no input of the files"):
        compared(tmp_path, dynamic, dynamic, inputs={"z": np.zeros(3, np.float32)})


def test_without_a_run_the_graph_is_judged(tmp_path: Path) -> None:
    assert not compared(tmp_path, model(), model(), run=False).different
    assert compared(tmp_path, model(), model(2.5), run=False).different == ("1 weights differ",)
    found = compared(tmp_path, model(), model(op="Add"), run=False)
    assert found.different == ("2 operators have another number of nodes",)
    assert found.numerics is None
    changed, reordered = net(), net()
    next(one for node in changed.graph.node for one in node.attribute if one.name == "axes").ints[0] -= 1
    for each in reordered.graph.node:
        attributes = list(reversed(each.attribute))
        del each.attribute[:]
        each.attribute.extend(attributes)
    assert compared(tmp_path, net(), changed, run=False).different == ("nodes have other attributes: 1 ReduceMean",)
    assert not compared(tmp_path, net(), reordered, run=False).different


def test_a_weight_of_another_shape_or_type(tmp_path: Path) -> None:
    for array, what in (
        (np.ones((2, 3), np.float32), "3 float32 → 2×3 float32"),
        (np.ones(3, np.float64), "3 float32 → 3 float64"),
    ):
        other = model()
        other.graph.initializer[0].CopyFrom(numpy_helper.from_array(array, "w"))
        found = compared(tmp_path, model(1), other, run=False)
        assert found.different == ("1 weights differ",)
        assert found.weights.changed["w"].what == what
        assert found.weights.changed["w"].max_abs == (None if array.ndim > 1 else 0)


def test_values_that_are_not_finite_are_a_difference(tmp_path: Path) -> None:
    found = compared(tmp_path, model(), model(float("nan")))
    assert "NaN or infinite in one and not the same in the other" in found.different[0]


def test_numbers_that_are_nan_in_both_are_the_same(tmp_path: Path) -> None:
    # Log of a number below 0: of random input some are.
    half = """<ir_version: 8, opset_import: ["": 17]> g (float[4, 8] x) => (float[4, 8] y) { y = Log(x) }"""
    net_ = onnx.parser.parse_model(half)
    found = compared(tmp_path, net_, net_)
    assert not found.different
    assert found.numerics is not None
    assert (found.numerics[0].nonfinite, found.numerics[0].rel_l2) == (0, 0)
    other = onnx.parser.parse_model(half.replace("y = Log(x)", "z = Abs(x) y = Log(z)"))
    assert "NaN or infinite in one and not the same in the other" in compared(tmp_path, net_, other).different[0]
    nothing = onnx.parser.parse_model(half.replace("y = Log(x)", "z = Sub(x, x) y = Div(z, z)"))
    with pytest.raises(SnDeployError, match="infinite or NaN everywhere for this input, in both files"):
        compared(tmp_path, nothing, nothing)


def test_the_size_of_weights_that_are_packed(tmp_path: Path) -> None:
    without, packed = model(), model()
    packed.graph.initializer.append(helper.make_tensor("half", TensorProto.INT4, [6], bytes(3), raw=True))
    packed.graph.initializer.append(helper.make_tensor("text", TensorProto.STRING, [2], [b"ab", b"c"]))
    assert compared(tmp_path, without, packed, run=False).weights.added == {"half": 3, "text": 3}


def test_a_file_that_cannot_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SnDeployError, match="ONNX Runtime can't load it"):
        compared(tmp_path, model(), model(op="NoSuchOp"))


def test_a_file_whose_stand_in_would_run_is_not_compared(tmp_path: Path) -> None:
    # It says that it is the other one, optimised elsewhere: OrtSession then runs that one.
    onnx.save(model(), tmp_path / "a.onnx")
    other = model(weight=-7)
    stamp = Stamp("ort-cpu", "0.1", 8, "another", "a.onnx", sha256_of_file(tmp_path / "a.onnx"))
    helper.set_model_props(other, stamp.as_metadata())
    onnx.save(other, tmp_path / "b.onnx")
    with (
        pytest.warns(SnDeployWarning, match="runs instead"),
        pytest.raises(SnDeployError, match=r"a\.onnx would run in its place"),
    ):
        diff(tmp_path / "a.onnx", tmp_path / "b.onnx")


@pytest.mark.parametrize("source", ["", ".", "..", "a/..", "n" * 300, "a\0b"])
def test_a_stand_in_that_has_no_name(source: str, tmp_path: Path) -> None:
    onnx.save(model(), tmp_path / "a.onnx")
    other = model()
    helper.set_model_props(other, Stamp("ort-cpu", "0.1", 8, "another", source, "0" * 64).as_metadata())
    onnx.save(other, tmp_path / "b.onnx")
    with pytest.raises(SnDeployError, match="its metadata says that it is optimised, but not for what"):
        diff(tmp_path / "a.onnx", tmp_path / "b.onnx")


def scaled(factor: float, op: str, power: str) -> onnx.ModelProto:
    """y = op(x · factor · power) in float64."""
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("Mul", ["wide", "factor"], ["z"]),
        helper.make_node("Mul", ["z", "power"], ["product"]),
        helper.make_node(op, ["product"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 3])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)],
        [
            numpy_helper.from_array(np.array(value), name)
            for name, value in (("factor", factor), ("power", float(power)))
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_what_is_infinite_everywhere_is_not_the_same(tmp_path: Path) -> None:
    before, after = (scaled(factor, "Reciprocal", "0") for factor in (1.0, 5.0))
    for net_ in (before, after):
        net_.graph.node.append(helper.make_node("Abs", ["y"], ["positive"]))
        net_.graph.output[0].name = "positive"
    with pytest.raises(SnDeployError, match="infinite or NaN everywhere"):
        compared(tmp_path, before, after)


def test_what_has_no_elements_is_not_the_same(tmp_path: Path) -> None:
    nets = [model(), model(weight=3)]
    for net_ in nets:
        net_.graph.node[0].output[0] = "z"
        net_.graph.initializer.extend(
            numpy_helper.from_array(np.array([value], np.int64), name) for name, value in (("start", 9), ("end", 9))
        )
        net_.graph.node.append(helper.make_node("Slice", ["z", "start", "end"], ["y"]))
        net_.graph.output[0].type.tensor_type.ClearField("shape")
    with pytest.raises(SnDeployError, match="no output has an element"):
        compared(tmp_path, *nets)


def test_numbers_too_small_for_squares_differ(tmp_path: Path) -> None:
    assert compared(tmp_path, scaled(1.0, "Identity", "1e-200"), scaled(2.0, "Identity", "1e-200")).different
    assert not compared(tmp_path, scaled(1.0, "Identity", "1e-200"), scaled(1.0, "Identity", "1e-200")).different


def drawing(factor: float, *, seed: str = "", alone: bool = False) -> onnx.ModelProto:
    """One output that is drawn, and one that isn't."""
    text = f"z = RandomNormalLike <scale = {factor} {seed}> (x)"
    outputs = "float[2, 3] z" if alone else "float[2, 3] y, float[2, 3] z"
    return parsed(f"g (float[2, 3] x) => ({outputs}) {{ {'' if alone else 'y = Neg (x)'} {text} }}")


def test_outputs_that_are_drawn_are_named_and_not_compared(tmp_path: Path) -> None:
    """Two sessions of one process draw the same numbers, so that they seemed to be the same."""
    for factors in ((1.0, 1.0), (1.0, 2.0)):
        found = compared(tmp_path, *map(drawing, factors))
        assert (found.drawn, found.different) == (("z",), ())
        assert found.numerics is not None
        assert [output.before for output in found.numerics] == ["y"]
        assert "output 'z' is drawn anew in each run, and isn't compared" in str(found)
    with pytest.raises(SnDeployError, match="its output is drawn anew in each run, so nothing can be compared"):
        compared(tmp_path, drawing(1.0, alone=True), drawing(1.0, alone=True))


def test_outputs_that_are_drawn_with_a_seed_are_compared(tmp_path: Path) -> None:
    assert not compared(tmp_path, drawing(1.0, seed=", seed = 1.0"), drawing(1.0, seed=", seed = 1.0")).different
    assert compared(tmp_path, drawing(1.0, seed=", seed = 1.0"), drawing(2.0, seed=", seed = 1.0")).different
