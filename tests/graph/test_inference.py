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
from sn_deploy.graph.inference import check_openable, infer_shapes
from sn_deploy.graph.inference_size import InferenceSize
from sn_deploy.inspection.onnx_file import layers_from_onnx
from sn_deploy.specialise.load import load
from tests import switch_norm_file
from tests.graph.hostile_shapes import HOSTILE, endless_axes

# What ONNX's own inference doesn't survive in 1 GiB: one of each kind. Calls without end take it hours, not memory.
DEADLY = ["long_vector", "long_vector_by_sizes", "by_sizes_that_lie", "an_old_expand", "endless_axes"]

# Vectors whose length comes out only while values are followed; of Range, onnx doesn't find it.
FOUND_LATE = [name for name in HOSTILE if name.startswith("by_")]

# Of these, what is hidden isn't all that stands in the way: it is counted, or the rank that is stated holds, or no
# length is found.
ALSO_COUNTED = {"by_a_constant_reshape", "by_sizes_that_lie", "by_range"}


def outcomes(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.graph.hostile_shapes", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_hostile_files_are_inferred_as_far_as_that_goes_or_refused() -> None:
    done = outcomes()
    assert done.returncode == 0, done.stdout + done.stderr
    found = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert list(found) == list(HOSTILE)
    vectors = {"long_vector", "long_vector_by_sizes", "long_integers", "endless_sizes", "endless_sizes_that_lie"}
    vectors |= set(FOUND_LATE)
    assert {name for name, outcome in found.items() if outcome == "inferred"} == vectors
    for name in found.keys() - vectors:
        assert "have no end: inferring its shapes would take gigabytes" in found[name], name


@pytest.mark.parametrize("name", DEADLY)
def test_without_the_guard_they_take_gigabytes(name: str) -> None:
    done = outcomes("--unguarded", name)
    assert done.returncode != 0
    assert "bad_alloc" in done.stderr, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["by_reshape", "by_gather", "by_the_body_of_a_scan", "by_a_function"])
def test_without_hiding_they_take_gigabytes(name: str) -> None:
    done = outcomes("--unhidden", name)
    assert done.returncode != 0
    assert f"{name} took" in done.stderr, done.stdout + done.stderr


def as_onnx_gets_it(model: ir.Model, monkeypatch: pytest.MonkeyPatch) -> ir.Model:
    """The model as inference is asked to follow the values of it."""
    asked: list[onnx.ModelProto] = []
    right = onnx.shape_inference.infer_shapes

    def watched(proto: onnx.ModelProto, **options: bool) -> onnx.ModelProto:
        if options["data_prop"]:
            asked.append(proto)
        return right(proto, **options)

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", watched)
    infer_shapes(model)
    (proto,) = asked
    return ir.from_proto(proto)


@pytest.mark.parametrize("name", [name for name in FOUND_LATE if name not in ALSO_COUNTED])
def test_what_reads_a_vector_of_any_length_is_hidden_and_comes_back(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ir.from_proto(HOSTILE[name]())
    before = nodes_of(model)
    seen = nodes_of(as_onnx_gets_it(model, monkeypatch))
    readers = {"Add", "Mul", "Cast", "Concat", "Slice", "Gather", "Squeeze", "Size", "ConstantOfShape"}
    replaced = [given[0] for given, got in zip(before, seen, strict=True) if given[0] != got[0]]
    assert replaced
    assert set(replaced) <= readers
    assert nodes_of(model) == before


def nodes_of(model: ir.Model) -> list[tuple[str, list[str]]]:
    """The operators of all nodes, and their attributes' names."""
    nodes = [*model.graph.all_nodes(), *(node for function in model.functions.values() for node in function)]
    return [(node.op_type, sorted(node.attributes)) for node in nodes]


def inferred(
    nodes: list[onnx.NodeProto], inputs: dict[str, tuple[int | str, ...]]
) -> dict[str, list[int | str | None]]:
    """The shapes that are found of what ``nodes`` make of ``inputs``, for which there are some constants."""
    constants = {"zero": 0, "one": 1, "minus": -1, "two": 2}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array([number]), name) for name, number in constants.items()]
        + [numpy_helper.from_array(np.array(number), f"{name}_0") for name, number in constants.items()],
    )
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10))
    infer_shapes(model)
    values = [value for node in model.graph for value in node.outputs]
    return {
        str(value.name): [dim if isinstance(dim, int) else dim.value for dim in value.shape]
        for value in values
        if value.shape is not None
    }


def test_sizes_that_exporters_compute_are_still_followed() -> None:
    # torch's: an Expand to sizes of which -1 stands for the axis that is there, and a view in whose rank no doubt is.
    node = helper.make_node
    found = inferred(
        [
            node("Shape", ["x"], ["s"]),
            *(node("Gather", ["s", f"{place}_0"], [f"n_{place}"], axis=0) for place in ("zero", "one")),
            *(node("Unsqueeze", [f"n_{place}", "zero"], [f"u_{place}"]) for place in ("zero", "one")),
            node("Concat", ["u_zero", "u_one", "minus"], ["sizes"], axis=0),
            node("Reshape", ["x", "sizes"], ["view"]),
            node("Add", ["view", "view"], ["sum"]),
            node("Shape", ["sizes"], ["rank"]),
            node("ConstantOfShape", ["rank"], ["ones"]),
            node("Mul", ["ones", "minus"], ["none"]),
            node("Equal", ["sizes", "none"], ["is_none"]),
            node("Where", ["is_none", "ones", "sizes"], ["wanted"]),
            node("Expand", ["view", "wanted"], ["y"]),
        ],
        {"x": (4, 3, 2048, 4096)},
    )
    assert found["view"] == found["sum"] == [4, 3, 2048 * 4096]
    assert found["ones"] == found["none"] == found["wanted"] == [3]
    assert len(found["y"]) == 3


def test_a_hidden_node_costs_no_shape_but_a_length() -> None:
    # The sums of a flat view stay as long as it is, with another operator in their place; what is taken from it isn't.
    node = helper.make_node
    found = inferred(
        [
            node("Sub", ["one", "two"], ["flat"]),
            node("Reshape", ["x", "flat"], ["v"]),
            node("Add", ["v", "v"], ["sum"]),
            node("Cast", ["sum"], ["whole"], to=TensorProto.INT64),
            node("Concat", ["sum", "v"], ["both"], axis=0),
            node("Relu", ["both"], ["y"]),
        ],
        {"x": (1 << 15, 1 << 15)},
    )
    assert found["v"] == found["sum"] == found["whole"] == [1 << 30]
    (length,) = found["both"]
    assert not isinstance(length, int)
    assert found["y"] == [length]


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


def test_attributes_that_a_function_is_called_with_are_no_danger() -> None:
    function = onnx.parser.parse_function(
        '<domain: "f", opset_import: ["": 17]> F <axis, to> (a, b) => (d)'
        "{ c = Concat <axis: int = @axis> (a, b) e = Relu (c) g = Add (e, e) d = Cast <to: int = @to> (g) }"
    )
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("F", ["x", "x"], ["y"], domain="f", axis=1, to=TensorProto.INT32),
            helper.make_node("Shape", ["y"], ["s"]),
        ],
        "g",
        [info("x", TensorProto.FLOAT, ("n", 3))],
        [info("s", TensorProto.INT64, None)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    model = ir.from_proto(helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=10))
    infer_shapes(model)
    y = model.graph[0].outputs[0]
    assert InferenceSize(model).unbounded
    assert (y.shape, y.dtype) == (ir.Shape(["n", 6]), ir.DataType.INT32)


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


@pytest.mark.parametrize("kind", ["Slice", "ReduceSum"])
def test_places_that_are_no_whole_numbers(kind: str) -> None:
    text = numpy_helper.from_array(np.array([b"x"], np.object_), "place")
    for place in (numpy_helper.from_array(np.array([np.nan], np.float32), "place"), text):
        inputs = ["sizes", "place", "place"] if kind == "Slice" else ["x", "place"]
        nodes = [
            helper.make_node("Constant", [], ["place"], value=place),
            helper.make_node("Shape", ["x"], ["sizes"]),
            helper.make_node(kind, inputs, ["y"], **({} if kind == "Slice" else {"keepdims": 0})),
        ]
        inferred(nodes, {"x": (2, 3)})


def test_functions_that_double_each_other_are_not_given_to_onnx_runtime(tmp_path: Path) -> None:
    # 17 functions of two calls each are 2^17 nodes, which ONNX Runtime takes minutes for.
    def net(count: int) -> onnx.ModelProto:
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("theirs", 1)]
        functions = []
        for index in range(count):
            domain, inner = ("theirs", f"F{index - 1}") if index else ("", "Relu")
            body = [helper.make_node(inner, [x], [y], domain=domain) for x, y in (("x", "t"), ("t", "y"))]
            functions.append(helper.make_function("theirs", f"F{index}", ["x"], ["y"], body, opsets))
        value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy"]
        graph = helper.make_graph(
            [helper.make_node(f"F{count - 1}", ["x"], ["y"], domain="theirs")], "g", value[:1], value[1:]
        )
        return helper.make_model(graph, functions=functions, opset_imports=opsets, ir_version=10)

    with pytest.raises(SnDeployError, match=r"many\.onnx: its nodes have no end"):
        check_openable(tmp_path / "many.onnx", net(17))
    check_openable(tmp_path / "some.onnx", net(8))
