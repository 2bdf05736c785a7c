"""Small files whose shapes have no end. Run as a program, it infers the shapes of each within 1 GiB:

    python -m tests.graph.hostile_shapes [NAME ...] [--unguarded | --unhidden]

It prints a line for each, with what became of it, and ends where one took much memory; ``--unguarded`` asks onnx
itself, ``--unhidden`` hides nothing from it. A program of its own, since nothing else ends one that has run out of
memory.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from sn_deploy.errors import SnDeployError
from sn_deploy.graph import inference

MEMORY_GIB = 1
# What the program takes by itself is some 90 MiB. Memory that runs out doesn't show: inference is given up then.
MOST_MIB = 256
DOUBLINGS = 40

_node = helper.make_node


def _info(name: str, kind: int, shape: Any) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _model(
    nodes: list[NodeProto],
    x: ValueInfoProto,
    *,
    stated: tuple[ValueInfoProto, ...] = (),
    functions: Any = (),
    opset: int = 17,
) -> ModelProto:
    last = nodes[-1].output[0]
    kind = x.type.tensor_type.elem_type
    graph = helper.make_graph(nodes, "g", [x], [_info(last, kind, None)], value_info=list(stated))
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("f", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=10)


def _doubled(op_type: str, first: str, **attributes: Any) -> list[NodeProto]:
    """Each node reads the one before twice."""
    names = [first, *(f"d{index}" for index in range(DOUBLINGS))]
    return [_node(op_type, [a, a], [b], **attributes) for a, b in itertools.pairwise(names)]


def long_vector() -> ModelProto:
    """A vector that is declared long, and subtracted from itself: 2^30 numbers, if they were sizes."""
    return _model(
        [_node("Sub", ["x", "x"], ["d"]), _node("Sqrt", ["d"], ["y"])], _info("x", TensorProto.FLOAT, [1 << 30])
    )


def long_vector_by_sizes() -> ModelProto:
    """A vector that is long once computed sizes are followed, and would be followed itself."""
    nodes = [
        _node("Shape", ["x"], ["s"], start=0, end=1),
        _node("Reshape", ["x", "s"], ["v"]),
        _node("Mul", ["v", "v"], ["y"]),
    ]
    return _model(nodes, _info("x", TensorProto.FLOAT, [1 << 30, 1]))


def long_integers() -> ModelProto:
    return _model([_node("Add", ["x", "x"], ["y"])], _info("x", TensorProto.INT64, [1 << 30]))


def _found_late(makers: list[NodeProto], *, stated: tuple[ValueInfoProto, ...] = (), functions: Any = ()) -> ModelProto:
    """A long vector ``v`` that ``makers`` make by the sizes ``long`` ([2^30]), ``flat`` ([-1]) or ``row`` ([1, 2^30]),
    all computed, or of ``x`` (2^10, 2^10, 2^10): known to be long only while sizes are followed. Then it is read as
    sizes itself."""
    nodes = [
        _node("Constant", [], ["half"], value_ints=[1 << 29]),
        _node("Add", ["half", "half"], ["long"]),
        _node("Constant", [], ["one"], value_ints=[1]),
        _node("Constant", [], ["two"], value_ints=[2]),
        _node("Constant", [], ["zero"], value_ints=[0]),
        _node("Constant", [], ["nought"], value_int=0),
        _node("Sub", ["one", "two"], ["flat"]),
        _node("Concat", ["one", "long"], ["row"], axis=0),
        *makers,
        _node("Add", ["v", "v"], ["w"]),
        _node("Mul", ["w", "one"], ["y"]),
    ]
    x = _info("x", TensorProto.INT64, [1 << 10, 1 << 10, 1 << 10])
    return _model(nodes, x, stated=stated, functions=functions)


def by_constant_of_shape() -> ModelProto:
    return _found_late([_node("ConstantOfShape", ["long"], ["v"])])


def by_reshape() -> ModelProto:
    return _found_late([_node("Reshape", ["x", "flat"], ["v"])])


def by_a_constant_reshape() -> ModelProto:
    nodes = [_node("Constant", [], ["all"], value_ints=[-1]), _node("Reshape", ["x", "all"], ["v"])]
    return _found_late(nodes)


def by_expand() -> ModelProto:
    return _found_late([_node("Expand", ["one", "long"], ["v"])])


def by_tile() -> ModelProto:
    nodes = [_node("ConstantOfShape", ["long"], ["u"]), _node("Tile", ["u", "two"], ["v"])]
    return _found_late(nodes)


def by_range() -> ModelProto:
    nodes = [
        _node("Squeeze", ["long"], ["limit"]),
        _node("Constant", [], ["step"], value_int=1),
        _node("Range", ["nought", "limit", "step"], ["v"]),
    ]
    return _found_late(nodes)


def by_cast() -> ModelProto:
    nodes = [
        _node("ConstantOfShape", ["long"], ["u"]),
        _node("Cast", ["u"], ["v"], to=TensorProto.INT32),
    ]
    return _found_late(nodes)


def by_concat() -> ModelProto:
    nodes = [_node("ConstantOfShape", ["long"], ["u"]), _node("Concat", ["u", "u"], ["v"], axis=0)]
    return _found_late(nodes)


def by_slice() -> ModelProto:
    nodes = [
        _node("ConstantOfShape", ["long"], ["u"]),
        _node("Constant", [], ["end"], value_ints=[1 << 62]),
        _node("Slice", ["u", "zero", "end"], ["v"]),
    ]
    return _found_late(nodes)


def by_gather() -> ModelProto:
    """A row of what has two axes."""
    return _found_late([_node("ConstantOfShape", ["row"], ["u"]), _node("Gather", ["u", "nought"], ["v"])])


def by_squeeze() -> ModelProto:
    return _found_late([_node("Expand", ["one", "row"], ["u"]), _node("Squeeze", ["u", "zero"], ["v"])])


def by_size() -> ModelProto:
    return _found_late([_node("ConstantOfShape", ["long"], ["u"]), _node("Size", ["u"], ["v"])])


def by_an_operator_in_between() -> ModelProto:
    return _found_late([_node("ConstantOfShape", ["long"], ["u"]), _node("Neg", ["u"], ["v"])])


def by_sizes_of_a_vector() -> ModelProto:
    """As exporters write it, only that the vector is long."""
    nodes = [
        _node("ConstantOfShape", ["long"], ["u"]),
        _node("Shape", ["u"], ["size"]),
        _node("ConstantOfShape", ["size"], ["v"]),
    ]
    return _found_late(nodes)


def by_sizes_that_lie() -> ModelProto:
    """One number where two are stated, so that two axes are what can be seen of the result."""
    nodes = [
        _node("Squeeze", ["long", "place"], ["size"]),
        _node("Expand", ["one", "size"], ["v"]),
    ]
    model = _found_late(nodes, stated=(_info("size", TensorProto.INT64, [2]),))
    model.graph.input.append(_info("place", TensorProto.INT64, None))
    return model


def by_a_branch() -> ModelProto:
    inner = [_node("ConstantOfShape", ["long"], ["u"]), _node("Add", ["u", "u"], ["t"])]
    branches = [helper.make_graph(inner, name, [], [_info("t", TensorProto.FLOAT, None)]) for name in ("a", "b")]
    nodes = [
        _node("Cast", ["one"], ["c"], to=TensorProto.BOOL),
        _node("If", ["c"], ["v"], then_branch=branches[0], else_branch=branches[1]),
    ]
    return _found_late(nodes)


def by_the_body_of_a_scan() -> ModelProto:
    body = helper.make_graph(
        [_node("Add", ["a", "a"], ["t"]), _node("Mul", ["t", "t"], ["b"])],
        "body",
        [_info("a", TensorProto.FLOAT, None)],
        [_info("b", TensorProto.FLOAT, None)],
    )
    nodes = [_node("ConstantOfShape", ["row"], ["u"]), _node("Scan", ["u"], ["v"], num_scan_inputs=1, body=body)]
    return _found_late(nodes)


def by_a_function() -> ModelProto:
    """What it states of its own values is nothing that inference goes by."""
    opsets = [helper.make_opsetid("", 17)]
    body = [
        _node("ConstantOfShape", ["a"], ["u"]),
        _node("Add", ["u", "u"], ["t"]),
        _node("Cast", ["t"], ["b"], to=TensorProto.INT64),
        _node("Add", ["b", "b"], ["c"]),
    ]
    function = helper.make_function("f", "F", ["a"], ["c"], body, opsets)
    function.value_info.extend(_info(name, TensorProto.FLOAT, [2]) for name in ("u", "t"))
    return _found_late([_node("F", ["long"], ["v"], domain="f")], functions=[function])


def by_a_function_of_another_opset() -> ModelProto:
    """The file's own is one that isn't followed."""
    function = by_a_function().functions[0]
    function.node.insert(0, _node("Add", ["h", "h"], ["a"]))
    function.input[0] = "h"
    nodes = [_node("Constant", [], ["h"], value_ints=[1 << 29]), _node("F", ["h"], ["y"], domain="f")]
    model = _model(nodes, _info("x", TensorProto.INT64, [2]), functions=[function])
    model.opset_import[0].version = 12
    model.graph.node.insert(0, _node("Shape", ["x"], ["s"]))
    return model


def by_a_function_named_as_an_operator() -> ModelProto:
    """The operator is what ONNX goes by."""
    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function("", "Neg", ["a"], ["b"], [_node("Shape", ["a"], ["b"])], opsets)
    return _found_late([_node("ConstantOfShape", ["long"], ["u"]), _node("Neg", ["u"], ["v"])], functions=[function])


def _constant(name: str, numbers: list[int]) -> NodeProto:
    return _node("Constant", [], [name], value=helper.make_tensor(name, TensorProto.INT64, [len(numbers)], numbers))


def an_old_expand() -> ModelProto:
    """It takes the length of the vector for a rank, whose numbers needn't be followed for that."""
    nodes = [
        _constant("one", [1]),
        _constant("times", [1 << 26]),
        _node("Tile", ["one", "times"], ["long"]),
        _node("Expand", ["x", "long"], ["y"]),
    ]
    return _model(nodes, _info("x", TensorProto.FLOAT, [2]), opset=12)


def an_old_expand_that_lies() -> ModelProto:
    """The vector's length is stated, and is no length at all."""
    nodes = [_constant("one", [1]), _node("Neg", ["one"], ["long"]), _node("Expand", ["x", "long"], ["y"])]
    stated = (_info("long", TensorProto.INT64, [1 << 62]),)
    return _model(nodes, _info("x", TensorProto.FLOAT, [2]), stated=stated, opset=12)


def endless_sizes() -> ModelProto:
    """The sizes of a tensor, twice as many with each node."""
    nodes = [_node("Shape", ["x"], ["s"]), *_doubled("Concat", "s", axis=0)]
    return _model(nodes, _info("x", TensorProto.INT64, [2, 3]))


def endless_sizes_that_lie() -> ModelProto:
    """The same, each stated to be of two numbers."""
    model = endless_sizes()
    made = [name for node in model.graph.node for name in node.output]
    model.graph.value_info.extend(_info(name, TensorProto.INT64, [2]) for name in made[:-1])
    return model


def endless_axes() -> ModelProto:
    """Twice as many axes with each node."""
    return _model(_doubled("Gather", "x"), _info("x", TensorProto.INT64, [2, 2]))


def endless_axes_in_a_branch() -> ModelProto:
    inner = _doubled("Gather", "x")
    last = inner[-1].output[0]
    branches = [helper.make_graph(inner, name, [], [_info(last, TensorProto.INT64, None)]) for name in ("a", "b")]
    nodes = [
        _node("ReduceMax", ["x"], ["m"], keepdims=0),
        _node("Cast", ["m"], ["c"], to=TensorProto.BOOL),
        _node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    return _model(nodes, _info("x", TensorProto.INT64, [2, 2]))


def endless_axes_in_a_function() -> ModelProto:
    body = _doubled("Gather", "a")
    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function("f", "F", ["a"], [body[-1].output[0]], body, opsets)
    return _model([_node("F", ["x"], ["y"], domain="f")], _info("x", TensorProto.INT64, [2, 2]), functions=[function])


def endless_calls() -> ModelProto:
    """Functions each of which calls the next twice."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    functions = []
    for index in range(DOUBLINGS):
        body = [_node(f"F{index + 1}", ["a"], ["b"], domain="f"), _node(f"F{index + 1}", ["b"], ["c"], domain="f")]
        if index == DOUBLINGS - 1:
            body = [_node("Neg", ["a"], ["b"]), _node("Neg", ["b"], ["c"])]
        functions.append(helper.make_function("f", f"F{index}", ["a"], ["c"], body, opsets))
    return _model([_node("F0", ["x"], ["y"], domain="f")], _info("x", TensorProto.FLOAT, [2, 2]), functions=functions)


def a_function_that_calls_itself() -> ModelProto:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    function = helper.make_function("f", "F", ["a"], ["b"], [_node("F", ["a"], ["b"], domain="f")], opsets)
    return _model([_node("F", ["x"], ["y"], domain="f")], _info("x", TensorProto.FLOAT, [2, 2]), functions=[function])


HOSTILE: dict[str, Callable[[], ModelProto]] = {
    make.__name__: make
    for make in (
        long_vector, long_vector_by_sizes, long_integers, by_constant_of_shape, by_reshape, by_a_constant_reshape,
        by_expand, by_tile, by_range, by_cast, by_concat, by_slice, by_gather, by_squeeze, by_size,
        by_an_operator_in_between, by_sizes_of_a_vector, by_sizes_that_lie, by_a_branch, by_the_body_of_a_scan,
        by_a_function, by_a_function_of_another_opset, by_a_function_named_as_an_operator,
        an_old_expand, an_old_expand_that_lies, endless_sizes, endless_sizes_that_lie, endless_axes,
        endless_axes_in_a_branch, endless_axes_in_a_function, endless_calls, a_function_that_calls_itself,
    )
}  # fmt: skip


def peak_mib() -> int:
    """The most memory that this program has had. What `resource` tells counts the one that started it, too."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) >> 10


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(HOSTILE))
    parser.add_argument("--unguarded", action="store_true")
    parser.add_argument("--unhidden", action="store_true")
    arguments = parser.parse_args()
    limit = MEMORY_GIB << 30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    if arguments.unhidden:
        vars(inference)["hidden_nodes"] = lambda _model, _nodes: contextlib.nullcontext()
        vars(inference)["check_inferable"] = lambda _model, _where, **_options: None
    for name in arguments.names:
        model = HOSTILE[name]()
        print(name, end=": ", flush=True)
        if arguments.unguarded:
            onnx.shape_inference.infer_shapes(model, data_prop=True)
            print("inferred")
            continue
        try:
            inference.infer_shapes(ir.from_proto(model), "the file")
        except SnDeployError as error:
            print(error)
        else:
            print("inferred")
        sys.stdout.flush()
        peak = peak_mib()
        if peak > MOST_MIB:
            sys.exit(f"{name} took {peak} MiB")


if __name__ == "__main__":
    main()
