"""The surgery: a region's result comes from one SwitchNorm node, and what nothing needs any more goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from sn_deploy.fuse.read import ReadLayer
from sn_deploy.graph import op


def replace(model: ir.Model, layers: Sequence[ReadLayer]) -> list[ir.Node]:
    """Puts one SwitchNorm node in the place of each layer. Changes ``model``.

    A layer found again (a module called twice) gets ``#2`` and so on; each call has constants of its own.

    Returns:
        the nodes, in the order of ``layers``.
    """
    calls: Counter[str] = Counter()
    now: dict[ir.Value, ir.Value] = {}
    nodes = []
    for layer in layers:
        name = layer.folded.name
        calls[name] += 1
        unique = name if calls[name] == 1 else f"{name}#{calls[name]}"
        node, y = _inserted(layer, now.get(layer.source, layer.source), unique)
        now[layer.result] = y
        nodes.append(node)
    common_passes.RemoveUnusedNodesPass()(model)
    # Named last, when the names of what was replaced are free again.
    taken = _names(model)
    for node in nodes:
        _name(model, node, taken)
    return nodes


def _inserted(layer: ReadLayer, x: ir.Value, name: str) -> tuple[ir.Node, ir.Value]:
    """The new node, and the value that now stands for the layer's result."""
    last = layer.result.producer()
    assert last is not None
    graph = last.graph
    assert isinstance(graph, ir.Graph)
    added: list[ir.Node] = []
    if layer.channels_last:
        x = _transposed(x, _first(x), added)
    node = ir.node(
        op.SWITCH_NORM,
        [x, *(_constant(array) for array in op.parameters_from_folded(layer.folded).values())],
        op.attributes_from_folded(layer.folded),
        domain=op.DOMAIN,
        name=name,
        metadata_props=op.metadata_from_folded(layer.folded),
    )
    added.append(node)
    y = node.outputs[0]
    y.shape, y.type = x.shape, x.type
    if layer.channels_last:
        y = _transposed(y, _last(y), added)
    graph.insert_after(last, added)
    # An output of the graph keeps its name.
    y.name, layer.result.name = layer.result.name, None
    ir.convenience.replace_all_uses_with(layer.result, y, replace_graph_outputs=True)
    return node, y


def _constant(array: np.ndarray) -> ir.Value:
    """A weight that is not yet one of the graph's."""
    tensor = ir.tensor(array)
    return ir.Value(shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)


def _names(model: ir.Model) -> set[str]:
    taken = {value.name or "" for node in model.graph.all_nodes() for value in node.outputs}
    taken.update(value.name or "" for value in (*model.graph.inputs, *model.graph.initializers.values()))
    return taken


def _name(model: ir.Model, node: ir.Node, taken: set[str]) -> None:
    """Names the node's output and weights after it, and the Transposes around it."""
    for value, parameter in zip(node.inputs[1:], op.PARAMETERS, strict=True):
        assert value is not None
        value.name = _unused(f"{node.name}.{parameter}", taken)
        model.graph.register_initializer(value)
    x, y = node.inputs[0], node.outputs[0]
    before = [] if x is None or x.producer() is None else [x.producer()]
    for place, neighbours in (("before", before), ("after", [use.node for use in y.uses()])):
        for neighbour in neighbours:
            if neighbour is not None and neighbour.op_type == "Transpose" and neighbour.name is None:
                neighbour.name = f"{node.name}_transpose_{place}"
                value = neighbour.outputs[0]
                value.name = value.name or _unused(f"{node.name}.{place}", taken)
    if not y.is_graph_output():
        y.name = _unused(node.name or op.SWITCH_NORM, taken)


def _unused(name: str, taken: set[str]) -> str:
    unique, count = name, 1
    while unique in taken:
        count += 1
        unique = f"{name}_{count}"
    taken.add(unique)
    return unique


def _first(value: ir.Value) -> list[int]:
    """The permutation that moves the channels from the last axis to axis 1."""
    rank = _rank(value)
    return [0, rank - 1, *range(1, rank - 1)]


def _last(value: ir.Value) -> list[int]:
    """The permutation that moves the channels from axis 1 to the last axis."""
    rank = _rank(value)
    return [0, *range(2, rank), 1]


def _rank(value: ir.Value) -> int:
    assert value.shape is not None
    return len(value.shape)


def _transposed(value: ir.Value, permutation: list[int], added: list[ir.Node]) -> ir.Value:
    """The value with its axes in another order: what it was transposed from, or a new Transpose."""
    producer = value.producer()
    if producer is not None and producer.op_type == "Transpose" and producer.domain == "":
        given, before = producer.inputs[0], producer.attributes.get("perm")
        if given is not None and before is not None:
            order = before.as_ints()
            if [order[axis] for axis in permutation] == sorted(order):
                return given
    node = ir.node("Transpose", [value], {"perm": permutation})
    made = node.outputs[0]
    made.type = value.type
    if value.shape is not None:
        made.shape = ir.Shape([value.shape[axis] for axis in permutation])
    added.append(node)
    return made
