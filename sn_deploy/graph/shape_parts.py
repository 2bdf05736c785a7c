"""Parts of shapes by `Shape` and `Gather`, as torch writes `x.size(2)`, for tools that know no more of `Shape`.

The bounds of `Shape` came with opset 15. OpenVINO 2023.3 and TVM give the whole shape all the same, the first without a
word. A product over a shape, which is the number of positions in the functions' bodies, TVM and burn refuse
(docs/guides/interoperability.md).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from sn_deploy.graph.names import taken_by_nodes, taken_names, unused


def write_plain_shapes(model: ir.Model) -> None:
    """Puts `Shape` without bounds, `Gather` and `Mul` in the place of parts of shapes and of their products, where the
    rank is known. Changes ``model``.
    """
    taken = taken_names(model) | taken_by_nodes(model)
    for graph in model.graphs():
        for node in list(graph):
            if _is_product(node) and node.inputs[0] is not None:
                shape = node.inputs[0].producer()
                keepdims = node.attributes.get("keepdims")
                _write(graph, node, shape, taken, product=True, keepdims=keepdims is None or bool(keepdims.as_int()))
        for node in list(graph):
            if _is_needless(node):
                graph.remove(node, safe=True)
            else:
                _write(graph, node, node, taken, product=False, keepdims=True)


def _is_product(node: ir.Node) -> bool:
    """Whether a node multiplies all numbers of a vector."""
    idle = node.attributes.get("noop_with_empty_axes")
    return (
        node.op_identifier() == ("", "ReduceProd", "") and len(node.inputs) == 1 and (idle is None or not idle.as_int())
    )


def _write(
    graph: ir.Graph, node: ir.Node, shape: ir.Node | None, taken: set[str], *, product: bool, keepdims: bool
) -> None:
    """Writes anew what ``node`` makes of the part of a shape that ``shape`` gives, if it gives one."""
    positions = _positions(shape)
    if shape is None or not positions:
        return
    name = node.outputs[0].name or node.op_type

    def added(made: ir.Node, label: str) -> ir.Node:
        made.name = made.outputs[0].name = unused(label, taken)
        return made

    whole = added(ir.node("Shape", [shape.inputs[0]]), f"{name}_shape")
    made = [whole]

    def gather(index: list[int] | int, label: str) -> ir.Value:
        constant = added(ir.node("Constant", [], attributes={"value": ir.tensor(np.array(index))}), f"{label}_axis")
        part = added(ir.node("Gather", [whole.outputs[0], constant.outputs[0]], attributes={"axis": 0}), label)
        made.extend([constant, part])
        return part.outputs[0]

    if not product:
        gather(positions, f"{name}_part")
    else:
        total: ir.Value | None = None
        for axis in positions:
            extent = gather([axis] if keepdims else axis, f"{name}_extent_{axis}")
            if total is not None:
                made.append(added(ir.node("Mul", [total, extent]), f"{name}_up_to_{axis}"))
            total = made[-1].outputs[0]
    ir.convenience.replace_nodes_and_values(graph, node, [node], made, node.outputs, made[-1].outputs)


def _positions(node: ir.Node | None) -> list[int]:
    """The axes whose extents a `Shape` with bounds gives; none for another node, or where the rank isn't known."""
    if node is None or node.op_identifier() != ("", "Shape", "") or not {"start", "end"} & node.attributes.keys():
        return []
    value = node.inputs[0]
    if value is None or value.shape is None:
        return []
    bounds = [node.attributes[name].as_int() if name in node.attributes else None for name in ("start", "end")]
    return list(range(len(value.shape)))[slice(*bounds)]


def _is_needless(node: ir.Node) -> bool:
    (output, *_) = node.outputs
    return bool(_positions(node)) and not output.uses() and not output.is_graph_output()
