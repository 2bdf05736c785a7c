"""What operators make in ONNX's shape inference, at most: how many axes, and how many numbers of a list of sizes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import onnx
import onnx_ir as ir

# Of a vector whose length nothing bounds; one that is stated is below it, whatever the file says.
ANY_LENGTH: Final = 1 << 62

# More than any tensor of a network has.
HIGHEST_RANK: Final = 64

# One axis more than what goes in.
_STACKING: Final = frozenset({"OneHot", "ConcatFromSequence", "Loop", "Scan"})


def rank_from_inputs(node: ir.Node, ranks: Sequence[int], lengths: Sequence[int]) -> int:
    """How many axes the outputs of a standard operator have, at most."""
    most = max(ranks, default=0)
    kind = node.op_type
    if kind in ("Gather", "GatherND"):
        return max(sum(ranks) - 1, 0)
    if kind in ("Shape", "Size"):
        return int(kind == "Shape")
    if kind == "Unsqueeze":
        # Not of the axes, a vector: a single number becomes a vector, and no matrix.
        return next(iter(ranks), 0) + _axes_added(node, lengths)
    if kind == "Squeeze" or (kind.startswith(("Reduce", "Arg")) and int_of(node, "keepdims", 1) == 0):
        return max(most - _axes_taken(node, lengths), 0)
    if kind in ("Reshape", "ConstantOfShape"):
        return max(lengths[-1:], default=0)
    if kind == "Expand":
        return max(most, *lengths[-1:], 0)
    if kind == "Constant":
        tensor = constant_made(node)
        return 0 if tensor is None else len(tensor.shape)
    return most + (kind in _STACKING)


def length_from_inputs(node: ir.Node, ranks: Sequence[int], lengths: Sequence[int]) -> int:
    """How many numbers the outputs of an operator that is followed have, at most."""
    if node.op_type == "Concat":
        return sum(lengths)
    if node.op_type == "Shape":
        start, end = int_of(node, "start", 0), int_of(node, "end", max(ranks, default=0))
        return len(range(max(ranks, default=0))[start:end])
    if node.op_type == "Size":
        return 1
    # Of more axes than one, numbers are taken from another axis than is looked at.
    if node.op_type == "Gather" and ranks[0] <= 1:
        return max(1, *lengths[1:2], 0)
    if node.op_type == "Slice" and ranks[0] <= 1:
        return _sliced(node, lengths[0])
    return max(lengths, default=0)


def _sliced(node: ir.Node, length: int) -> int:
    """How much of a vector a Slice leaves; all of it where that isn't constant."""
    numbers = []
    for value in (*node.inputs[1:3], *node.inputs[4:5]):
        tensor = None if value is None else _constant(value)
        if tensor is None or tensor.size != 1 or not tensor.dtype.is_integer():
            return length
        numbers.append(int(tensor.numpy().item()))
    return len(range(length)[slice(*numbers)]) if len(numbers) > 1 and 0 not in numbers[2:] else length


def _axes_added(node: ir.Node, lengths: Sequence[int]) -> int:
    """How many axes a node adds, at most; named by an input in new opsets, by an attribute in old ones."""
    attribute = node.attributes.get("axes")
    if attribute is None:
        return lengths[1] if len(lengths) > 1 else 1
    if attribute.is_ref():
        return HIGHEST_RANK
    return len(attribute.as_ints()) if attribute.type == ir.AttributeType.INTS else 1


def _axes_taken(node: ir.Node, lengths: Sequence[int]) -> int:
    """How many axes a node takes away, at least: one may be named several times, from the front and from the back."""
    attribute = node.attributes.get("axes", node.attributes.get("axis"))
    if attribute is not None and attribute.is_ref():
        return 0
    if attribute is not None:
        axes = list(attribute.as_ints()) if attribute.type == ir.AttributeType.INTS else [0]
    else:
        named = node.inputs[1] if len(node.inputs) > 1 else None
        tensor = None if named is None else _constant(named)
        if tensor is None or tensor.size > HIGHEST_RANK or not tensor.dtype.is_integer():
            return min(1, *lengths[1:2]) if len(lengths) > 1 else 0
        axes = tensor.numpy().reshape(-1).tolist()
    return max(len({axis for axis in axes if axis >= 0}), len({axis for axis in axes if axis < 0}))


def int_of(node: ir.Node, name: str, default: int) -> int:
    """An attribute that is a number; ``default`` where there is none, or one that a function is called with."""
    attribute = node.attributes.get(name)
    if attribute is None or attribute.type != ir.AttributeType.INT or attribute.is_ref():
        return default
    return attribute.as_int()


def is_integer(value: ir.Value) -> bool:
    """Whether a value is of integers, as far as its type is known."""
    return value.dtype is not None and value.dtype.is_integer()


def _constant(value: ir.Value) -> ir.TensorProtocol | None:
    """A constant's tensor; None for other values, and for Constant nodes of attributes that there aren't or of another
    type than their name says."""
    try:
        return ir.convenience.get_const_tensor(value)
    except (ValueError, TypeError):
        return None


def constant_made(node: ir.Node) -> ir.TensorProtocol | None:
    """The tensor of a Constant node; None of any other."""
    return _constant(node.outputs[0]) if node.op_type == "Constant" and node.outputs else None


def declared_length(value: ir.Value) -> int:
    """Of a vector or a single number, as it is stated or as an initializer is; 0 where it isn't known or the value is
    neither."""
    shapes = [value.shape, None if value.const_value is None else value.const_value.shape]
    return max((count_numbers(shape) for shape in shapes if shape is not None), default=0)


def count_numbers(shape: ir.ShapeProtocol) -> int:
    """The numbers of a vector or a single one; 0 where that isn't known, or of more axes."""
    if len(shape) > 1:
        return 0
    size = shape[0] if len(shape) else 1
    # A vector without numbers is one that is looked at, too.
    return min(max(size, 1), ANY_LENGTH - 1) if isinstance(size, int) else 0


def is_followed(op_type: str, opset: int) -> bool:
    """Whether inference computes the values of what the operator makes, if these are the sizes of a shape."""
    schema = schema_of("", op_type, opset)
    return schema is not None and bool(schema.has_data_propagation_function)


@lru_cache(maxsize=1024)
def schema_of(domain: str, op_type: str, opset: int) -> onnx.defs.OpSchema | None:
    """What onnx knows of an operator; None of others."""
    try:
        return onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None
