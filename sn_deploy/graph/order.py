"""Whether the nodes of a model stand in the order in which they can run."""

from __future__ import annotations

import onnx_ir as ir


def first_out_of_order(model: ir.Model) -> tuple[ir.Node, ir.Value] | None:
    """The first node, subgraphs included, that reads a value before it is made, and the value; None where none does."""
    seen: set[ir.Node] = set()
    for node in model.graph.all_nodes():
        for value in node.inputs:
            producer = None if value is None else value.producer()
            if value is not None and producer is not None and producer not in seen:
                return node, value
        seen.add(node)
    return None
