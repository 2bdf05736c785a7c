"""Constants beside the nodes of branches and loop bodies that read them, for the time of a conversion.

onnx's converter makes attributes of axes, and looks for these in the graph of the node alone; inlined layers have
theirs in the main graph, where all of them are one weight.
"""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from sn_deploy.graph.names import taken_by_nodes, taken_names, unused


def copy_into_bodies(model: ir.Model) -> bool:
    """Gives each node of a subgraph that reads integers of an initializer a Constant beside it. Changes ``model``.

    Returns:
        Whether there was one: then `lift_from_bodies` is called after the conversion.
    """
    taken, copied = taken_names(model) | taken_by_nodes(model), False
    for graph in model.graph.subgraphs():
        for node in list(graph):
            for index, value in enumerate(node.inputs):
                tensor = value.const_value if value is not None and value.is_initializer() else None
                if value is None or tensor is None or value.is_graph_input() or tensor.dtype != ir.DataType.INT64:
                    continue
                constant = ir.node("Constant", [], {"value": tensor})
                constant.name = constant.outputs[0].name = unused(f"{value.name}_here", taken)
                graph.insert_before(node, constant)
                node.replace_input_with(index, constant.outputs[0])
                copied = True
    return copied


def lift_from_bodies(model: ir.Model) -> None:
    """Makes one weight of the main graph of what is left of them, and drops the weights that are in attributes now.
    Changes ``model``."""
    for tidy in (
        common_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common_passes.LiftSubgraphInitializersToMainGraphPass(),
        common_passes.DeduplicateInitializersPass(),
        common_passes.RemoveUnusedNodesPass(),
    ):
        tidy(model)
