"""How much ONNX's shape inference would hold of a model: counted, and not inferred."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Final

import onnx
import onnx_ir as ir

# Of all tensors together, some 50 bytes each. Networks have a few a node.
MOST_AXES: Final = 1 << 24

# Nodes, those of a function counted wherever it is called.
MOST_NODES: Final = 1 << 21

# Functions that call functions: inference goes into each other by recursion.
DEEPEST: Final = 64

_STANDARD: Final = ("", "ai.onnx")

# One axis more than what goes in.
_STACKING: Final = frozenset({"OneHot", "ConcatFromSequence", "Loop", "Scan"})


class EndlessError(Exception):
    """More than any network has; the text says of what."""


class InferenceSize:
    """What inference would hold, at most.

    A shape that the file states is what inference goes on with, even where it is wrong. The values of shapes are
    followed whatever is stated.

    Attributes:
        axes: of all tensors.
        followed: numbers of all vectors whose values are followed.
        has_sizes: whether some nodes compute sizes, so that there is something to follow.

    Raises:
        EndlessError: more axes, nodes or nested functions than any network has.
    """

    def __init__(self, model: ir.Model) -> None:
        self.axes, self.followed, self.has_sizes = 0, 0, False
        self._functions = model.functions
        self._counts: dict[ir.OperatorIdentifier, int] = {}
        if self._count(model.graph.all_nodes(), 0) > MOST_NODES:
            raise EndlessError("nodes")
        self._opsets: Mapping[str, int] = model.opset_imports
        self._ranks: dict[ir.Value, int] = {}
        self._lengths: dict[ir.Value, int] = {}
        self._walk(model.graph)

    def _count(self, nodes: Iterable[ir.Node], depth: int) -> int:
        """The number of nodes, those of a function counted wherever it is called."""
        if depth >= DEEPEST:
            raise EndlessError("functions")
        total = 0
        for node in nodes:
            name = node.op_identifier()
            if name in self._functions and name not in self._counts:
                self._counts[name] = self._count(self._functions[name].all_nodes(), depth + 1)
            total += self._counts.get(name, 1)
        return total

    def _walk(self, nodes: Iterable[ir.Node]) -> None:
        for node in nodes:
            function = self._functions.get(node.op_identifier())
            if function is not None:
                self._call(node, function)
            else:
                self._take(node)
            if self.axes > MOST_AXES:
                raise EndlessError("shapes")

    def _call(self, node: ir.Node, function: ir.Function) -> None:
        for formal, given in zip(function.inputs, node.inputs, strict=False):
            if given is not None:
                self._ranks[formal], self._lengths[formal] = self._rank(given), self._length(given)
        self._walk(function)
        for made, formal in zip(node.outputs, function.outputs, strict=False):
            self._set(made, self._rank(formal), self._length(formal))

    def _take(self, node: ir.Node) -> None:
        """Counts what a node that is no function makes."""
        results: list[ir.Value] = []
        for graph in _graphs(node):
            self._walk(graph)
            results += list(graph.outputs)
        inputs = [value for value in node.inputs if value is not None]
        ranks = [self._rank(value) for value in (*inputs, *results)]
        lengths = [self._length(value) for value in inputs]
        rank, length = max(ranks, default=0), 0
        if node.domain in _STANDARD:
            rank = _rank_from_inputs(node, ranks, lengths)
            if _is_followed(node.op_type, self._opsets.get("", 1)):
                length = _length_from_inputs(node, ranks, lengths)
                self.followed += length + sum(lengths)
                self.has_sizes |= all(_is_integer(value) for value in inputs) or node.op_type in ("Shape", "Size")
        for value in node.outputs:
            self._set(value, rank, length)

    def _set(self, value: ir.Value, rank: int, length: int) -> None:
        self._ranks[value] = rank if value.shape is None else len(value.shape)
        self._lengths[value] = max(length, _declared_length(value))
        # What was inferred is held beside what was stated.
        self.axes += rank

    def _rank(self, value: ir.Value) -> int:
        return self._ranks[value] if value in self._ranks else 0 if value.shape is None else len(value.shape)

    def _length(self, value: ir.Value) -> int:
        return self._lengths[value] if value in self._lengths else _declared_length(value)


def _graphs(node: ir.Node) -> Iterator[ir.Graph]:
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def _rank_from_inputs(node: ir.Node, ranks: Sequence[int], lengths: Sequence[int]) -> int:
    """How many axes the outputs of a standard operator have, at most."""
    most = max(ranks, default=0)
    kind = node.op_type
    if kind in ("Gather", "GatherND"):
        return max(sum(ranks) - 1, 0)
    if kind == "Unsqueeze":
        return most + _axes(node, lengths, 1)
    if kind == "Squeeze" or (kind.startswith(("Reduce", "Arg")) and _int(node, "keepdims", 1) == 0):
        return max(most - _axes(node, lengths, 0), 0)
    if kind in ("Reshape", "ConstantOfShape"):
        return max(lengths[-1:], default=0)
    if kind == "Expand":
        return max(most, *lengths[-1:], 0)
    if kind == "Constant":
        return _constant_rank(node)
    return most + (kind in _STACKING)


def _length_from_inputs(node: ir.Node, ranks: Sequence[int], lengths: Sequence[int]) -> int:
    """How many numbers the outputs of an operator that is followed have, at most."""
    if node.op_type == "Concat":
        return sum(lengths)
    if node.op_type == "Shape":
        start, end = _int(node, "start", 0), _int(node, "end", max(ranks, default=0))
        return len(range(max(ranks, default=0))[start:end])
    if node.op_type == "Gather":
        return max(1, *lengths[1:2])
    if node.op_type == "Slice":
        return _sliced(node, lengths[0] if lengths else 0)
    return max(lengths, default=0)


def _sliced(node: ir.Node, length: int) -> int:
    """How much of a vector a Slice leaves; all of it where that isn't constant."""
    numbers = []
    for value in (*node.inputs[1:3], *node.inputs[4:5]):
        tensor = None if value is None else _constant(value)
        if tensor is None or tensor.size != 1:
            return length
        numbers.append(int(tensor.numpy().item()))
    return len(range(length)[slice(*numbers)]) if len(numbers) > 1 and 0 not in numbers[2:] else length


def _axes(node: ir.Node, lengths: Sequence[int], default: int) -> int:
    """The number of axes that a node takes away or adds; as an input in new opsets, as an attribute in old ones."""
    attribute = node.attributes.get("axes", node.attributes.get("axis"))
    if attribute is None:
        return lengths[1] if len(lengths) > 1 else default
    return len(attribute.as_ints()) if attribute.type == ir.AttributeType.INTS else 1


def _int(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None or attribute.type != ir.AttributeType.INT else attribute.as_int()


def _is_integer(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_integer()


def _constant(value: ir.Value) -> ir.TensorProtocol | None:
    """A constant's tensor; None for other values, and for Constant nodes of attributes that there aren't."""
    try:
        return ir.convenience.get_const_tensor(value)
    except ValueError:
        return None


def _constant_rank(node: ir.Node) -> int:
    tensor = _constant(node.outputs[0]) if node.outputs else None
    return 0 if tensor is None else len(tensor.shape)


def _declared_length(value: ir.Value) -> int:
    """Of a vector, as it is stated or as its constant is; 0 where it isn't known or the value is none."""
    tensor = _constant(value) if value.shape is None else None
    shape = value.shape if tensor is None else tensor.shape
    if shape is None or len(shape) != 1:
        return 0
    size = shape[0]
    return max(size, 0) if isinstance(size, int) else 0


@lru_cache(maxsize=1024)
def _is_followed(op_type: str, opset: int) -> bool:
    """Whether inference computes the values of what the operator makes, if these are the sizes of a shape."""
    try:
        return bool(onnx.defs.get_schema(op_type, opset, "").has_data_propagation_function)
    except onnx.defs.SchemaError:
        return False
