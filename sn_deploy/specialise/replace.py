"""The surgery: layers become what `forms.choose` says, and what was fused with them follows as nodes of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from sn_deploy.graph import op
from sn_deploy.graph.layers import write_functions
from sn_deploy.graph.names import taken_names
from sn_deploy.graph.weights import new_weight
from sn_deploy.specialise.fold import fold
from sn_deploy.specialise.forms import Choice, Form
from sn_deploy.specialise.layers import Layer


def replace(model: ir.Model, choices: Sequence[tuple[Layer, Choice]]) -> None:
    """Gives each layer its form, and the file the functions that it still needs. Changes ``model``.

    Raises:
        SnDeployError: a node whose X has no known rank, or an opset without a function body.
    """
    taken = taken_names(model)
    for layer, choice in choices:
        layer.node.overload = layer.overload
        if choice.form is Form.FOLDED:
            _put_in_place(layer, fold(layer, taken), [])
        elif choice.form is Form.INSTANCE_NORM:
            _put_instance_norm(layer, taken)
    common_passes.RemoveUnusedNodesPass()(model)
    write_functions(model)
    if not any(node.domain == op.DOMAIN for node in model.graph.all_nodes()):
        model.opset_imports.pop(op.DOMAIN, None)


def _put_instance_norm(layer: Layer, taken: set[str]) -> None:
    """y = (x - mean)/sqrt(var·k + eps)·scale + bias, var being biased and k = HW/(HW - ddof), is
    InstanceNormalization with eps/k and scale/sqrt(k)."""
    folded, positions = layer.folded, layer.positions
    assert positions is not None
    k = positions / (positions - folded.ddof)
    scale = folded.scale / np.sqrt(k)
    node = ir.node(
        "InstanceNormalization",
        [
            layer.node.inputs[0],
            new_weight(layer.node.graph, scale.astype(np.float32), f"{layer.name}.scale", taken),
            new_weight(layer.node.graph, folded.bias.astype(np.float32), f"{layer.name}.bias", taken),
        ],
        {"epsilon": float(folded.var_offset[0] / k)},
        name=layer.name,
    )
    _put_in_place(layer, node.outputs[0], [node])


def _put_in_place(layer: Layer, y: ir.Value, added: list[ir.Node]) -> None:
    """Lets ``y``, and what is fused with the layer, stand for its output; ``added`` makes y where that is new."""
    node, old = layer.node, layer.node.outputs[0]
    graph = node.graph
    assert graph is not None
    result = y
    for op_type, others in _epilogue(node):
        made = ir.node(op_type, [result, *others], name=f"{layer.name}.{op_type.lower()}")
        added.append(made)
        result = made.outputs[0]
    for each in added:
        each.outputs[0].shape, each.outputs[0].type = old.shape, old.type
        each.outputs[0].name = f"{each.name}.output"
    graph.insert_before(node, added)
    result.name, old.name = old.name, None
    result.shape = result.shape or old.shape
    ir.convenience.replace_all_uses_with(old, result, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _epilogue(node: ir.Node) -> list[tuple[str, list[ir.Value]]]:
    """Operators after the layer itself, each with what it reads besides."""
    if node.op_type == op.SWITCH_NORM_RELU:
        return [("Relu", [])]
    if node.op_type == op.SWITCH_NORM_ADD_RELU:
        residual = node.inputs[len(op.PARAMETERS) + 1]
        assert residual is not None
        return [("Add", [residual]), ("Relu", [])]
    return []
