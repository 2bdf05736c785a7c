"""Which of a file's tensors TensorRT keeps as weights, so that a refitter can replace them.

Its parser takes other numbers when it reads the file, as settings of a layer: the scales of a Resize, the bounds of a
Clip. They are in the engine for good, though they are initializers like any other.
"""

from __future__ import annotations

from typing import Final

import onnx

from sn_deploy.onnx_nodes import is_standard, proto_nodes

# The types that the refitter replaces; of all others the values decide what is computed.
_TYPES: Final = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16})
_SWITCH_NORM: Final = "SwitchNorm"  # how the names of all of them begin
# Operator -> the first input that is a weight, if it is a constant, and those behind it. What isn't here isn't known to
# keep its constants as weights.
_FIRST_WEIGHT: Final = {
    **dict.fromkeys(("Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "PRelu"), 1),
    **dict.fromkeys(("LayerNormalization", "GroupNormalization", "LSTM", "GRU", "RNN", _SWITCH_NORM), 1),
    **dict.fromkeys(("MatMul", "Gemm", "Add", "Sub", "Mul", "Div", "Identity", "Transpose"), 0),
}


def replaceable(graph: onnx.GraphProto) -> set[str]:
    """The names of those initializers of a graph that every node which reads them has as a weight."""
    names = {tensor.name for tensor in graph.initializer if tensor.data_type in _TYPES}
    for node in proto_nodes(graph.node):  # those of inner graphs read what is outside by its name
        first = _first_weight(node)
        names.difference_update(name for place, name in enumerate(node.input) if first is None or place < first)
    return names.difference(output.name for output in graph.output)


def _first_weight(node: onnx.NodeProto) -> int | None:
    if node.op_type.startswith(_SWITCH_NORM):
        return _FIRST_WEIGHT[_SWITCH_NORM]
    return _FIRST_WEIGHT.get(node.op_type) if is_standard(node) else None
