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
    taken = _names(model)
    nodes = []
    for layer in layers:
        name = layer.folded.name
        calls[name] += 1
        unique = name if calls[name] == 1 else f"{name}#{calls[name]}"
        nodes.append(_replace(model, layer, now.get(layer.source, layer.source), unique, taken, now))
    common_passes.RemoveUnusedNodesPass()(model)
    return nodes


def _names(model: ir.Model) -> set[str]:
    taken = {value.name or "" for node in model.graph.all_nodes() for value in node.outputs}
    taken.update(value.name or "" for value in (*model.graph.inputs, *model.graph.initializers.values()))
    return taken


def _replace(
    model: ir.Model, layer: ReadLayer, x: ir.Value, name: str, taken: set[str], now: dict[ir.Value, ir.Value]
) -> ir.Node:
    last = layer.result.producer()
    assert last is not None
    graph = last.graph
    assert isinstance(graph, ir.Graph)
    added: list[ir.Node] = []
    if layer.channels_last:
        x = _transposed(x, _first(x), taken, added)
    parameters = [
        _initializer(model, _unused(f"{name}.{parameter}", taken), value)
        for parameter, value in op.parameters_from_folded(layer.folded).items()
    ]
    node = ir.node(
        op.SWITCH_NORM,
        [x, *parameters],
        op.attributes_from_folded(layer.folded),
        domain=op.DOMAIN,
        name=name,
        metadata_props=op.metadata_from_folded(layer.folded),
    )
    added.append(node)
    y = node.outputs[0]
    y.shape, y.type = x.shape, x.type
    if layer.channels_last:
        y.name = _unused(name, taken)
        y = _transposed(y, _last(y), taken, added)
    y.shape = layer.result.shape if layer.source.shape is None else layer.source.shape
    y.type = layer.source.type
    graph.insert_after(last, added)
    y.name, layer.result.name = layer.result.name, _unused(f"{layer.result.name}_decomposed", taken)
    ir.convenience.replace_all_uses_with(layer.result, y, replace_graph_outputs=True)
    if not y.is_graph_output() and name not in taken:
        y.name = name
        taken.add(name)
    now[layer.result] = y
    return node


def _initializer(model: ir.Model, name: str, array: np.ndarray) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    model.graph.register_initializer(value)
    return value


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


def _transposed(value: ir.Value, permutation: list[int], taken: set[str], added: list[ir.Node]) -> ir.Value:
    """The value with its axes in another order: what it was transposed from, or a new Transpose."""
    producer = value.producer()
    if producer is not None and producer.op_type == "Transpose" and producer.domain == "":
        given, before = producer.inputs[0], producer.attributes.get("perm")
        if given is not None and before is not None:
            order = before.as_ints()
            if [order[axis] for axis in permutation] == sorted(order):
                return given
    node = ir.node("Transpose", [value], {"perm": permutation}, name=_unused(f"{value.name}_transpose", taken))
    made = node.outputs[0]
    made.name, made.type = _unused(f"{value.name}_transposed", taken), value.type
    if value.shape is not None:
        made.shape = ir.Shape([value.shape[axis] for axis in permutation])
    added.append(node)
    return made
