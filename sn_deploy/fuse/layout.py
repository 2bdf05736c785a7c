"""Transposes around new nodes: moved past a ReLU to where their inverse is waiting, and gone with it.

tf2onnx leaves layers whose X is (N, C, H, W) and whose Y is (N, H, W, C); so much that a ReLU and a Transpose back to
the next convolution follow.
"""

from __future__ import annotations

import onnx_ir as ir

from sn_deploy.onnx_nodes import is_standard


def order_of(node: ir.Node | None) -> list[int] | None:
    """The permutation of a Transpose that states one; None for any other node."""
    if node is None or not is_standard(node) or node.op_type != "Transpose" or "perm" not in node.attributes:
        return None
    return list(node.attributes["perm"].as_ints())


def undoes(second: list[int], first: list[int]) -> bool:
    """Whether two transpositions, one after the other, change nothing."""
    return len(first) == len(second) and [first[axis] for axis in second] == list(range(len(first)))


def settle(transpose: ir.Node) -> None:
    """Moves a Transpose behind the ReLUs of its graph that alone read it, and lets its inverses have what it was made
    from."""
    while (relu := _only_reader(transpose)) is not None and relu.op_type == "Relu" and is_standard(relu):
        _swap(transpose, relu)
    given, made = transpose.inputs[0], transpose.outputs[0]
    order = order_of(transpose)
    assert given is not None
    for use in list(made.uses()):
        back = order_of(use.node)
        if order is not None and back is not None and undoes(back, order):
            _stand_in(given, use.node.outputs[0])


def _stand_in(given: ir.Value, result: ir.Value) -> None:
    """Lets ``given`` be read instead of ``result``; an output of the graph keeps its name."""
    if result.is_graph_output():
        if given.is_graph_output() or given.producer() is None:
            return
        given.name, result.name = result.name, None
    ir.convenience.replace_all_uses_with(result, given, replace_graph_outputs=True)


def _only_reader(node: ir.Node) -> ir.Node | None:
    """What alone reads the output of a node, in the same graph."""
    value = node.outputs[0]
    readers = [use.node for use in value.uses()]
    alone = len(readers) == 1 and not value.is_graph_output() and readers[0].graph is node.graph
    return readers[0] if alone else None


def _swap(transpose: ir.Node, relu: ir.Node) -> None:
    given, made, result = transpose.inputs[0], transpose.outputs[0], relu.outputs[0]
    graph = relu.graph
    assert given is not None
    assert isinstance(graph, ir.Graph)
    relu.replace_input_with(0, given)
    # What was read, and perhaps named as an output, is what comes last.
    made.name, result.name = result.name, f"{result.name}_channels_first"
    made.shape, result.shape, result.type = result.shape, given.shape, given.type
    ir.convenience.replace_all_uses_with(result, made, replace_graph_outputs=True)
    transpose.replace_input_with(0, result)
    graph.remove(transpose)
    graph.insert_after(relu, transpose)
