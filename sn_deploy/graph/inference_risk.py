"""Which nodes ONNX's shape inference is known to survive, and ONNX Runtime's with it, whatever a file says of them.

What networks are made of is safe, but for the size of an axis that falls below 0: of a convolution or a pooling whose
input is smaller than its kernel, of a Pad that takes away more than there is. Inference goes on with such sizes (ONNX
1.23), and a Slice of one ends the process.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import onnx
import onnx_ir as ir

from sn_deploy.graph.inference_rules import HIGHEST_RANK
from sn_deploy.onnx_nodes import is_standard

# Operators that inference has got through in whatever was drawn of them (tools/soak_inference.py), but for the two of
# `_CONDITIONS`.
HARMLESS: Final = frozenset({
    "Abs", "Add", "And", "ArgMax", "AveragePool", "BatchNormalization", "Cast", "CastLike", "Ceil", "Clip", "Concat",
    "Constant", "ConstantOfShape", "Conv", "ConvTranspose", "Cos", "DepthToSpace", "DequantizeLinear", "Div",
    "Dropout", "Elu", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor", "Gather", "GatherElements", "Gelu", "Gemm",
    "GlobalAveragePool", "GlobalMaxPool", "Greater", "GreaterOrEqual", "GroupNormalization", "HardSigmoid",
    "HardSwish", "Identity", "InstanceNormalization", "LRN", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual",
    "Log", "LogSoftmax", "LpPool", "MatMul", "Max", "MaxPool", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "NonZero",
    "Not", "Or", "PRelu", "Pad", "Pow", "QuantizeLinear", "RMSNormalization", "RandomUniformLike", "Range",
    "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Resize", "Round", "ScatterND", "Selu", "Shape",
    "Sigmoid", "Sign", "Sin", "Size", "Slice", "Softmax", "Softplus", "SpaceToDepth", "Split", "Sqrt", "Squeeze",
    "Sub", "Sum", "Swish", "Tanh", "Tile", "TopK", "Transpose", "Unsqueeze", "Upsample", "Where", "Xor",
})  # fmt: skip

Sizes = Sequence[int | None]


def is_risky(model: ir.Model) -> bool:
    """Whether ``model`` has nodes that inference isn't known to survive."""
    functions = (node for function in model.functions.values() for node in function.all_nodes())
    # Inference takes no heed of what is stated inside functions.
    return any(is_risky_node(node, _stated(node)) for node in model.graph.all_nodes()) or any(
        is_risky_node(node, [None] * len(node.inputs)) for node in functions
    )


def _stated(node: ir.Node) -> list[Sizes | None]:
    """The sizes of a node's inputs, as far as they are stated."""
    shapes = [None if value is None else value.shape for value in node.inputs]
    return [None if shape is None else [size if isinstance(size, int) else None for size in shape] for shape in shapes]


def is_risky_node(node: ir.Node, shapes: Sequence[Sizes | None]) -> bool:
    """Whether inference isn't known to survive a node whose inputs have ``shapes``, as far as these are known."""
    if not is_standard(node) or node.op_type not in HARMLESS:
        return ("" if is_standard(node) else node.domain, node.op_type) in _known()
    if not _is_axis(node.attributes.get("axis")):
        return True
    condition = _CONDITIONS.get(node.op_type)
    return condition is not None and not condition(node, shapes)


@lru_cache(maxsize=1)
def _known() -> frozenset[tuple[str, str]]:
    """Domains and names of the operators that onnx has, and that it infers shapes of."""
    return frozenset((schema.domain, schema.name) for schema in onnx.defs.get_all_schemas_with_history())


def _is_axis(attribute: ir.Attr | None) -> bool:
    """Whether an attribute is none, or a number that an axis can have: inference reads it as a number of 32 bits."""
    if attribute is None or attribute.type != ir.AttributeType.INT:
        return True
    return not attribute.is_ref() and -HIGHEST_RANK <= attribute.as_int() <= HIGHEST_RANK


def _is_safe_slice(node: ir.Node, shapes: Sequence[Sizes | None]) -> bool:
    """Whether all axes that a Slice takes a part of are known not to be shorter than 0."""
    value = node.inputs[0] if node.inputs else None
    if value is None or value.const_value is not None:
        return True
    producer = value.producer()
    if producer is not None and producer.op_type == "Shape" and is_standard(producer):
        return True  # a vector of as many numbers as the other has axes
    shape = shapes[0]
    if shape is None:
        return False
    axes = _axes(node)
    if axes is not None and all(-len(shape) <= axis < len(shape) for axis in axes):
        shape = [shape[axis] for axis in axes]
    return all(size is not None and size >= 0 for size in shape)


def _axes(node: ir.Node) -> list[int] | None:
    """The axes that a Slice names; None where it names none, or computes them."""
    attribute = node.attributes.get("axes")
    if attribute is not None and attribute.type == ir.AttributeType.INTS and not attribute.is_ref():
        return list(attribute.as_ints())
    named = node.inputs[3] if len(node.inputs) > 3 else None
    try:
        tensor = None if named is None else ir.convenience.get_const_tensor(named)
    except (ValueError, TypeError):  # a Constant of attributes that there aren't, or of another type
        return None
    if tensor is None or tensor.size > HIGHEST_RANK or not tensor.dtype.is_integer():
        return None
    return [int(axis) for axis in tensor.numpy().reshape(-1)]


def _is_safe_split(node: ir.Node, _: Sequence[Sizes | None]) -> bool:
    """Whether a Split that says into how many parts has as many outputs."""
    attribute = node.attributes.get("num_outputs")
    if attribute is None:
        return True
    is_number = attribute.type == ir.AttributeType.INT and not attribute.is_ref()
    return is_number and attribute.as_int() == len(node.outputs)


_CONDITIONS: Final = {"Slice": _is_safe_slice, "Split": _is_safe_split}
