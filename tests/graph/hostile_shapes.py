"""Small files whose shapes have no end. Run as a program, it infers the shapes of each within 1 GiB:

    python -m tests.graph.hostile_shapes [NAME ...] [--unguarded]

It prints a line for each, with what became of it; ``--unguarded`` asks onnx itself. A program of its own, since nothing
else ends one that has run out of memory.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import sys
from collections.abc import Callable
from typing import Any

import onnx
import onnx_ir as ir
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from sn_deploy.errors import SnDeployError
from sn_deploy.graph.inference import infer_shapes

MEMORY_GIB = 1
DOUBLINGS = 40

_node = helper.make_node


def _info(name: str, kind: int, shape: Any) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _model(
    nodes: list[NodeProto], x: ValueInfoProto, *, stated: tuple[ValueInfoProto, ...] = (), functions: Any = ()
) -> ModelProto:
    last = nodes[-1].output[0]
    kind = x.type.tensor_type.elem_type
    graph = helper.make_graph(nodes, "g", [x], [_info(last, kind, None)], value_info=list(stated))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
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
        long_vector, long_vector_by_sizes, long_integers, endless_sizes, endless_sizes_that_lie, endless_axes,
        endless_axes_in_a_branch, endless_axes_in_a_function, endless_calls, a_function_that_calls_itself,
    )
}  # fmt: skip


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(HOSTILE))
    parser.add_argument("--unguarded", action="store_true")
    arguments = parser.parse_args()
    limit = MEMORY_GIB << 30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for name in arguments.names:
        model = HOSTILE[name]()
        print(name, end=": ", flush=True)
        if arguments.unguarded:
            onnx.shape_inference.infer_shapes(model, data_prop=True)
            print("inferred")
            continue
        try:
            infer_shapes(ir.from_proto(model), "the file")
        except SnDeployError as error:
            print(error)
        else:
            print("inferred")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
