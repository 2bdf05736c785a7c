"""Whether the nodes of a model stand in the order in which they can run."""

from __future__ import annotations

import onnx_ir as ir

from sn_deploy.errors import SnDeployError


def check_order(model: ir.Model, where: str) -> None:
    """Refuses nodes, subgraphs included, that read a value before it is made. ``where``: the file, for the error.

    Raises:
        SnDeployError: with the first such node.
    """
    seen: set[ir.Node] = set()
    for node in model.graph.all_nodes():
        for value in node.inputs:
            producer = None if value is None else value.producer()
            if value is not None and producer is not None and producer not in seen:
                raise SnDeployError(
                    f"its nodes are out of order: {node.op_type} {node.name!r} uses {value.name!r} before it is made",
                    where=where,
                    expected="nodes in topological order, as ONNX demands",
                    mend="export it again",
                )
        seen.add(node)
