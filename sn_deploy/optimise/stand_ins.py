"""SwitchNorm in ONNX Runtime's blocked layout, by nodes that stand in for it while ONNX Runtime chooses the layout.

ONNX Runtime runs convolutions, pools and what lies between them on blocks of channels, and reorders a tensor where
another operator reads it; SwitchNorm, which it doesn't know, is one. So for the time of its layout pass each layer is a
product of its input with itself, or with its residual: an elementwise operator, which that pass carries over blocks
wherever it can. Then the layers take their places again, as operators on blocks where the pass left them blocks.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import numpy as np
import onnx_ir as ir

from sn_deploy.graph import op
from sn_deploy.graph.names import taken_names
from sn_deploy.optimise.layers import Layer
from sn_deploy.runtime.ort import NCHWC_DOMAIN

BLOCK_SIZES: Final = (8, 16)

# What ONNX Runtime may do to a product of a tensor with itself, or with another, and not to a layer.
DISABLED_OPTIMIZERS: Final = ("CommonSubexpressionElimination", "TransposeOptimizer")


def put_stand_ins(layers: Collection[Layer], on_blocks: Collection[str]) -> None:
    """Replaces the layers with these tags by stand-ins, and tags the other nodes. Changes the layers' model."""
    for layer in layers:
        if layer.tag not in on_blocks:
            layer.node.name = layer.tag
            continue
        inputs = layer.node.inputs
        other = inputs[1 + len(op.PARAMETERS)] if layer.node.op_type == op.SWITCH_NORM_ADD_RELU else inputs[0]
        _replace(layer.node, ir.Node("", "Mul", [inputs[0], other], name=layer.tag))


def found_on_blocks(model: ir.Model, tags: Collection[str]) -> set[str]:
    """The tags of those stand-ins that ONNX Runtime has on blocks, in the graph that it made."""
    blocked: set[ir.Value] = set()
    found: set[str] = set()
    for node in model.graph.all_nodes():
        reads = [value in blocked for value in node.inputs if value is not None]
        if node.domain == NCHWC_DOMAIN and node.op_type == "ReorderOutput":
            continue
        # ONNX Runtime's blocked operators make blocks, even of an image; others do where they read some.
        if node.domain == NCHWC_DOMAIN or any(reads):
            blocked.update(node.outputs)
        if node.name in tags and (node.domain, node.op_type) == ("", "Mul") and all(reads):
            found.add(str(node.name))
    return found


def put_layers(model: ir.Model, layers: Collection[Layer], block_size: int, version: str) -> None:
    """Gives the layers their places back: stand-ins become operators on blocks, tagged nodes are named again.

    Args:
        model: the graph that ONNX Runtime made. Changed.
        layers: those of the portable file.
        block_size: channels in a block.
        version: of the ONNX Runtime that made the graph.
    """
    tagged = {layer.tag: layer for layer in layers}
    constants = _Constants(model)
    for node in list(model.graph.all_nodes()):
        layer = tagged.get(str(node.name))
        if layer is None:
            continue
        if node.domain == op.DOMAIN:
            node.name = layer.name
            node.metadata_props.update(layer.metadata)
        else:
            new = _blocked_node(node, layer, block_size, version, constants)
            _replace(node, new)
            _state_shapes(new, layer, block_size)


def _blocked_node(stand_in: ir.Node, layer: Layer, block_size: int, version: str, constants: _Constants) -> ir.Node:
    assert isinstance(stand_in.graph, ir.Graph)
    assert layer.parameters is not None
    names = zip(op.PARAMETERS, layer.parameters, strict=True)
    parameters = [constants.put(stand_in.graph, f"{layer.name}.{name}", tensor) for name, tensor in names]
    residual = [stand_in.inputs[1]] if layer.node.op_type == op.SWITCH_NORM_ADD_RELU else []
    attributes = [value for name, value in layer.attributes.items() if name != "plugin_namespace"]
    return ir.Node(
        op.BLOCKED_DOMAIN,
        layer.node.op_type,
        [stand_in.inputs[0], *parameters, *residual],
        [*attributes, ir.AttrInt64("block_size", block_size), ir.AttrString("onnxruntime", version)],
        name=layer.name,
        metadata_props=dict(layer.metadata),
    )


def _state_shapes(node: ir.Node, layer: Layer, block_size: int) -> None:
    """ONNX Runtime writes Y over X only where it sees that they have one shape."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    if layer.axes is None or layer.parameters is None:
        return
    if x.shape is None:
        stored = -(-layer.parameters[0].size // block_size) * block_size
        x.shape, x.type = ir.Shape([layer.axes[0], stored, *layer.axes[2:]]), ir.TensorType(ir.DataType.FLOAT)
    y.shape, y.type = x.shape, x.type


class _Constants:
    """Puts the parameters back, for which ONNX Runtime had no use and which it has dropped; each once in a graph."""

    def __init__(self, model: ir.Model) -> None:
        self._names = taken_names(model)
        self._put: dict[tuple[ir.Graph, bytes], ir.Value] = {}

    def put(self, graph: ir.Graph, name: str, tensor: ir.TensorProtocol) -> ir.Value:
        """The constant's value in ``graph``."""
        array = np.asarray(tensor.numpy(), np.float32)
        key = (graph, array.tobytes())
        if key not in self._put:
            free, copies = name, 1
            while free in self._names:
                copies += 1
                free = f"{name}#{copies}"
            self._names.add(free)
            value = ir.Value(
                name=free,
                shape=ir.Shape(array.shape),
                type=ir.TensorType(ir.DataType.FLOAT),
                const_value=ir.tensor(array, name=free),
            )
            graph.register_initializer(value)
            self._put[key] = value
        return self._put[key]


def _replace(node: ir.Node, new: ir.Node) -> None:
    assert node.graph is not None
    ir.convenience.replace_nodes_and_values(node.graph, node, [node], [new], [node.outputs[0]], [new.outputs[0]])
