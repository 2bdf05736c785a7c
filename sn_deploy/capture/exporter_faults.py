"""Faults of torch's exporter, set right in the graph that it gives: it would be no valid ONNX."""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

from sn_deploy.graph.in_float32 import HALF

_WITH_WEIGHTS: Final = ("Conv", "ConvTranspose", "Gemm")


def mend_(model: ir.Model) -> None:
    """Changes ``model`` in place."""
    for node in list(model.graph.all_nodes()):
        if node.domain == "" and node.op_type == "Squeeze":
            _drop_if_idle(node)
        elif node.domain == "" and node.op_type in _WITH_WEIGHTS:
            _settle_weights(node)


def _drop_if_idle(node: ir.Node) -> None:
    """``x.squeeze(dim)`` of a side that isn't 1 is x in torch; the exporter writes a Squeeze, which ONNX refuses."""
    x, y = node.inputs[0], node.outputs[0]
    if x is None or x.shape is None or y.shape is None or len(x.shape) != len(y.shape):
        return
    if y.is_graph_output():
        node.op_type = "Identity"
        node.resize_inputs(1)
        return
    y.replace_all_uses_with(x)
    assert node.graph is not None
    node.graph.remove(node, safe=True)


def _settle_weights(node: ir.Node) -> None:
    """A batch norm that is folded into a convolution of bfloat16 leaves weights of float32 beside its input."""
    x = node.inputs[0]
    if x is None or x.dtype is None or x.dtype not in HALF:
        return
    for value in node.inputs[1:]:
        if value is not None and value.is_initializer() and value.dtype == ir.DataType.FLOAT:
            assert value.const_value is not None
            value.const_value = ir.tensor(value.const_value.numpy().astype(x.dtype.numpy()), name=value.name)
            value.dtype = x.dtype
