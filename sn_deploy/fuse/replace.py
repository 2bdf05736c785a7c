"""The surgery: a region's result comes from one SwitchNorm node, and what nothing needs any more goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from sn_deploy.fuse.layout import order_of, settle, undoes
from sn_deploy.fuse.read import ReadLayer
from sn_deploy.graph import op
from sn_deploy.graph.names import taken_names, unused


@dataclass(frozen=True)
class _Placed:
    """A new node, the Transposes made for its X and its Y, and the value that stands for the layer's result."""

    node: ir.Node
    before: ir.Node | None
    after: ir.Node | None
    result: ir.Value


def replace(model: ir.Model, layers: Sequence[ReadLayer]) -> list[ir.Node]:
    """Puts one SwitchNorm node in the place of each layer. Changes ``model``.

    A layer found again (a module called twice) gets ``#2`` and so on; each call has constants of its own.

    Returns:
        the nodes, in the order of ``layers``.
    """
    calls: Counter[str] = Counter()
    now: dict[ir.Value, ir.Value] = {}
    placed = []
    for layer in layers:
        name = layer.folded.name
        calls[name] += 1
        unique = name if calls[name] == 1 else f"{name}#{calls[name]}"
        placed.append(_place(layer, now.get(layer.source, layer.source), unique))
        # The next layer may read the value before casts of it to its own type, of which the result is the last.
        now |= dict.fromkeys(the_same(layer.result), placed[-1].result)
    for each in placed:
        if each.after is not None:
            settle(each.after)
    common_passes.RemoveUnusedNodesPass()(model)
    # Named last, when the names of what was replaced are free again.
    taken = _names(model, placed)
    for each in placed:
        _name(model, each, taken)
    return [each.node for each in placed]


def the_same(value: ir.Value) -> Iterator[ir.Value]:
    """The value, and what it is another name of: through Identity, and Cast to the type that it has."""
    same: ir.Value | None = value
    while same is not None:
        yield same
        producer = same.producer()
        if producer is None or producer.op_type not in ("Identity", "Cast"):
            return
        before = producer.inputs[0]
        same = before if before is not None and before.type is not None and before.type == same.type else None


def _place(layer: ReadLayer, x: ir.Value, name: str) -> _Placed:
    last = layer.result.producer()
    assert last is not None
    graph = last.graph
    assert isinstance(graph, ir.Graph)
    added: list[ir.Node] = []
    if layer.source_last:
        x = _transposed(x, _first(x), added)
    before = added[0] if added else None
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
    if layer.result_last:
        y = _transposed(y, _last(y), added)
    graph.insert_after(last, added)
    # An output of the graph keeps its name.
    y.name, layer.result.name = layer.result.name, None
    ir.convenience.replace_all_uses_with(layer.result, y, replace_graph_outputs=True)
    return _Placed(node, before, added[-1] if layer.result_last else None, y)


def _constant(array: np.ndarray) -> ir.Value:
    """A weight that is not yet one of the graph's."""
    tensor = ir.tensor(array)
    return ir.Value(shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)


def _names(model: ir.Model, placed: Sequence[_Placed]) -> set[str]:
    """The names that are taken: all but those of what was placed, unless they are a graph's outputs."""
    nodes = [node for each in placed for node in (each.node, each.before, each.after) if node is not None]
    return taken_names(model) - {node.outputs[0].name for node in nodes if not node.outputs[0].is_graph_output()}


def _name(model: ir.Model, placed: _Placed, taken: set[str]) -> None:
    """Names what was placed, and the weights and the values of it, after the layer."""
    name = placed.node.name or op.SWITCH_NORM
    for value, parameter in zip(placed.node.inputs[1:], op.PARAMETERS, strict=True):
        assert value is not None
        value.name = unused(f"{name}.{parameter}", taken)
        model.graph.register_initializer(value)
    for node, own in ((placed.before, f"{name}.before"), (placed.node, name), (placed.after, f"{name}.after")):
        if node is not None:
            node.name = own
            if not node.outputs[0].is_graph_output():
                node.outputs[0].name = unused(own, taken)


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
    before = order_of(producer)
    if producer is not None and before is not None and undoes(permutation, before):
        given = producer.inputs[0]
        assert given is not None
        return given
    node = ir.node("Transpose", [value], {"perm": permutation})
    made = node.outputs[0]
    made.type = value.type
    if value.shape is not None:
        made.shape = ir.Shape([value.shape[axis] for axis in permutation])
    added.append(node)
    return made
