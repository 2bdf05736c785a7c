"""A graph in half precision put into float32, so that two that are to compute the same can be held against each other.

Their weights are exact in float32, and no rounding to half is left: what differs beyond float32's own is a fault. And
ONNX Runtime's CPU provider runs it, which has no convolution of bfloat16.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir

HALF: Final = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
# Attributes that name the type of what is made.
TYPE_ATTRIBUTES: Final = frozenset({"to", "dtype", "output_dtype"})


def put_in_float32(model: ir.Model) -> None:
    """Makes all that is half float32: weights, constants, inputs, outputs, and what casts make. Changes ``model``."""
    holders: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for holder in holders:
        _widen_values(holder)
        for node in holder.all_nodes():
            for attribute in list(node.attributes.values()):
                _widen_attribute(node, attribute)


def _widen_values(holder: ir.Graph | ir.Function) -> None:
    graphs = [holder if isinstance(holder, ir.Graph) else holder.graph, *holder.subgraphs()]
    for graph in graphs:
        for value in graph.initializers.values():
            if value.const_value is not None and value.const_value.dtype in HALF:
                value.const_value = _widened(value.const_value)
        for value in (*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)):
            # Sequences and the like keep theirs: a graph that has them of half doesn't load, and isn't compared.
            if isinstance(value.type, ir.TensorType) and value.dtype in HALF:
                value.type = ir.TensorType(ir.DataType.FLOAT)


def _widen_attribute(node: ir.Node, attribute: ir.Attr) -> None:
    if attribute.is_ref():
        return
    if attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype in HALF:
        node.attributes[attribute.name] = ir.AttrTensor(attribute.name, _widened(attribute.as_tensor()))
    elif attribute.name in TYPE_ATTRIBUTES and attribute.type == ir.AttributeType.INT and attribute.as_int() in HALF:
        node.attributes[attribute.name] = ir.AttrInt64(attribute.name, ir.DataType.FLOAT.value)


def _widened(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.tensor(tensor.numpy().astype(np.float32), name=tensor.name)
