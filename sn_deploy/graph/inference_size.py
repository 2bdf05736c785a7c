"""How much ONNX's shape inference would hold of a model: counted, and not inferred.

Where inference follows the values of shapes, it takes every vector of a known length that an operator on sizes reads
for a list of sizes. How long the lists can get is known before for what is made of constants and of the shapes of
tensors. Any other vector's length may come out only while values are followed (of a Reshape or an Expand to computed
sizes), and nothing bounds it then: nodes that would read such a vector are named, for `inference_hidden`.
"""

from __future__ import annotations

import dataclasses
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

# Of a vector whose length nothing bounds.
ANY_LENGTH: Final = 1 << 62

_STANDARD: Final = ("", "ai.onnx")

# More than any tensor of a network has.
_MOST_AXES_NAMED: Final = 64

# Operators that take the numbers of an input for the shape of what they make, and which input.
_SHAPE_READERS: Final = {"Reshape": 1, "Expand": 1, "ConstantOfShape": 0}

# Operators that aren't followed, and that make of vectors none that is longer; those that reduce are others.
_NO_LONGER: Final = frozenset(
    {"Abs", "And", "CastLike", "Ceil", "Div", "Equal", "Floor", "Greater", "Identity", "Less", "Max", "Min", "Mod"}
    | {"Neg", "Not", "Or", "Pow", "Sqrt", "Where"}
)

# Operators that are followed by their first input alone.
_READERS_OF_ONE: Final = frozenset({"Cast", "Squeeze", "Unsqueeze", "Size"})

# One axis more than what goes in.
_STACKING: Final = frozenset({"OneHot", "ConcatFromSequence", "Loop", "Scan"})


class EndlessError(Exception):
    """More than any network has; the text says of what."""


class InferenceSize:
    """What inference would hold, at most.

    A shape that the file states is what inference goes on with, even where it is wrong; not so inside functions. The
    values of shapes are followed whatever is stated.

    Attributes:
        axes: of all tensors.
        followed: numbers of all vectors whose values are followed, but for what ``unbounded`` reads.
        unbounded: nodes that read the numbers of a vector which may have any length, in the graph and in functions.
        has_sizes: whether some nodes compute sizes, so that there is something to follow.

    Raises:
        EndlessError: more axes, nodes or nested functions than any network has.
    """

    def __init__(self, model: ir.Model) -> None:
        self.axes, self.followed, self.has_sizes = 0, 0, False
        self.unbounded: set[ir.Node] = set()
        self._functions = model.functions
        self._counts: dict[ir.OperatorIdentifier, int] = {}
        if self._count(model.graph.all_nodes(), 0) > MOST_NODES:
            raise EndlessError("nodes")
        self._scope = _Scope(model.opset_imports)
        self._ranks: dict[ir.Value, int] = {}
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
            # An operator that ONNX knows is itself, even where a function has its name.
            if function is not None and _schema(node.domain, node.op_type, self._scope.opset(node.domain)) is None:
                self._call(node, function)
            else:
                self._take(node)
            if self.axes > MOST_AXES:
                raise EndlessError("shapes")

    def _call(self, node: ir.Node, function: ir.Function) -> None:
        outer, inner = self._scope, _Scope(function.opset_imports, in_function=True)
        for formal, given in zip(function.inputs, node.inputs, strict=False):
            if given is not None:
                self._ranks[formal] = self._rank(given)
                inner.note(formal, outer.held.get(given.name or "", 0), self._length(given))
        self._scope = inner
        self._walk(function)
        made = [(self._rank(formal), self._length(formal)) for formal in function.outputs]
        self._scope = outer
        for value, formal, (rank, length) in zip(node.outputs, function.outputs, made, strict=False):
            held = inner.held.get(formal.name or "", 0)
            self._set(value, rank, held, length)
        # What goes in and comes out is copied.
        self.followed += sum(inner.held.get(formal.name or "", 0) for formal in (*function.inputs, *function.outputs))

    def _take(self, node: ir.Node) -> None:
        """Counts what a node that is no function makes."""
        inputs = [value for value in node.inputs if value is not None]
        most = max((self._rank(value) for value in inputs), default=0)
        results: list[ir.Value] = []
        for graph in _graphs(node):
            for formal in graph.inputs:
                self._set(formal, most, 0, ANY_LENGTH)
            self._walk(graph)
            results += list(graph.outputs)
        ranks = [self._rank(value) for value in (*inputs, *results)]
        lengths = [self._length(value) for value in inputs]
        rank, held, found = max(ranks, default=0), 0, ANY_LENGTH
        if node.domain in _STANDARD:
            rank = _rank_from_inputs(node, ranks, [0 if length >= ANY_LENGTH else length for length in lengths])
            follows = _is_followed(node.op_type, max(self._scope.opset(domain) for domain in _STANDARD))
            read = self._read(node) if follows or node.op_type in _SHAPE_READERS else []
            numbers = [self._length(value) for value in read]
            if max(numbers, default=0) >= ANY_LENGTH:
                self.unbounded.add(node)
            elif follows and (read or node.op_type == "Shape"):
                # A list without numbers is one, too.
                held = max(_length_from_inputs(node, ranks, numbers), 1)
                self.followed += held + sum(numbers)
                # Of more axes than one, another can be the longer one.
                found = held if all(self._rank(value) <= 1 for value in read) else ANY_LENGTH
            elif node.op_type == "ConstantOfShape":
                found = self._length_by_shape(node)
            elif (tensor := _constant_made(node)) is not None:
                held = found = _count_numbers(tensor.shape)
            elif node.op_type in _NO_LONGER or node.op_type.startswith("Reduce"):
                found = max(lengths, default=0) if max(ranks, default=0) <= 1 else ANY_LENGTH
            if follows:
                self.has_sizes |= all(_is_integer(value) for value in inputs) or node.op_type in ("Shape", "Size")
        for value in node.outputs:
            self._set(value, rank, held, found)

    def _read(self, node: ir.Node) -> list[ir.Value]:
        """The inputs whose numbers inference looks at, if it knows how many they are."""
        if node.op_type in _SHAPE_READERS:
            place = _SHAPE_READERS[node.op_type]
            chosen = node.inputs[place : place + 1]
        elif node.op_type == "Shape" or (node.op_type in ("Concat", "Gather") and _int(node, "axis", 0) > 0):
            chosen = ()
        elif node.op_type == "Gather" and not any(
            self._length(value) for value in node.inputs[:1] if value is not None
        ):
            # Rows of a tensor: not looked at, wherever they are taken from.
            chosen = ()
        else:
            chosen = node.inputs[:1] if node.op_type in _READERS_OF_ONE else node.inputs
        return [value for value in chosen if value is not None]

    def _length_by_shape(self, node: ir.Node) -> int:
        """The length of a vector that is as long as another one's length says, as torch's exporters write it before an
        Expand; any for other sizes."""
        maker = None if not node.inputs or node.inputs[0] is None else node.inputs[0].producer()
        if maker is None or maker.op_type != "Shape" or maker.domain not in _STANDARD or not maker.inputs:
            return ANY_LENGTH
        sized = maker.inputs[0]
        return ANY_LENGTH if sized is None or self._rank(sized) != 1 else self._length(sized) or ANY_LENGTH

    def _set(self, value: ir.Value, rank: int, held: int, found: int) -> None:
        """Notes a value that a node makes.

        Args:
            rank: the axes that it can have by its node.
            held: the numbers of the list that it can come with.
            found: how long a vector it can be by its node.
        """
        shape = value.shape
        if self._scope.in_function or value.type is None:
            self._ranks[value] = rank if shape is None else max(rank, len(shape))
            length = max(held, found)
        else:
            self._ranks[value] = rank if shape is None else len(shape)
            is_stated = shape is not None and (len(shape) != 1 or isinstance(shape[0], int))
            length = max(held, _declared_length(value) if is_stated else found)
        # What was inferred is held beside what was stated.
        self.axes += rank
        self._scope.note(value, held, length)

    def _rank(self, value: ir.Value) -> int:
        return self._ranks[value] if value in self._ranks else 0 if value.shape is None else len(value.shape)

    def _length(self, value: ir.Value) -> int:
        return max(self._scope.lengths.get(value.name or "", 0), _declared_length(value))


@dataclasses.dataclass
class _Scope:
    """The graph with its branches, or one call of a function.

    Lists are kept by name, and a name of one branch may come again in another.

    Attributes:
        imports: the versions of operators.
        held: how many numbers the list of a value may have, by its name.
        lengths: how many numbers a value may be read as, by its name.
    """

    imports: Mapping[str, int]
    in_function: bool = False
    held: dict[str, int] = dataclasses.field(default_factory=dict)
    lengths: dict[str, int] = dataclasses.field(default_factory=dict)

    def opset(self, domain: str) -> int:
        """The version of the operators of a domain."""
        return self.imports.get(domain, self.imports.get("ai.onnx", 1) if domain == "" else 1)

    def note(self, value: ir.Value, held: int, length: int) -> None:
        name = value.name or ""
        self.held[name] = max(held, self.held.get(name, 0))
        self.lengths[name] = max(held, length, self.lengths.get(name, 0))


def _graphs(node: ir.Node) -> Iterator[ir.Graph]:
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
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
    if kind in ("Shape", "Size"):
        return int(kind == "Shape")
    if kind == "Unsqueeze":
        return most + _axes_added(node, lengths)
    if kind == "Squeeze" or (kind.startswith(("Reduce", "Arg")) and _int(node, "keepdims", 1) == 0):
        return max(most - _axes_taken(node, lengths), 0)
    if kind in ("Reshape", "ConstantOfShape"):
        return max(lengths[-1:], default=0)
    if kind == "Expand":
        return max(most, *lengths[-1:], 0)
    if kind == "Constant":
        tensor = _constant_made(node)
        return 0 if tensor is None else len(tensor.shape)
    return most + (kind in _STACKING)


def _length_from_inputs(node: ir.Node, ranks: Sequence[int], lengths: Sequence[int]) -> int:
    """How many numbers the outputs of an operator that is followed have, at most."""
    if node.op_type == "Concat":
        return sum(lengths)
    if node.op_type == "Shape":
        start, end = _int(node, "start", 0), _int(node, "end", max(ranks, default=0))
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
        if tensor is None or tensor.size != 1:
            return length
        numbers.append(int(tensor.numpy().item()))
    return len(range(length)[slice(*numbers)]) if len(numbers) > 1 and 0 not in numbers[2:] else length


def _axes_added(node: ir.Node, lengths: Sequence[int]) -> int:
    """How many axes a node adds, at most; named by an input in new opsets, by an attribute in old ones."""
    attribute = node.attributes.get("axes")
    if attribute is None:
        return lengths[1] if len(lengths) > 1 else 1
    if attribute.is_ref():
        return _MOST_AXES_NAMED
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
        if tensor is None or tensor.size > _MOST_AXES_NAMED:
            return min(1, *lengths[1:2]) if len(lengths) > 1 else 0
        axes = tensor.numpy().reshape(-1).tolist()
    return max(len({axis for axis in axes if axis >= 0}), len({axis for axis in axes if axis < 0}))


def _int(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    # One that a function is called with isn't known here.
    if attribute is None or attribute.type != ir.AttributeType.INT or attribute.is_ref():
        return default
    return attribute.as_int()


def _is_integer(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_integer()


def _constant(value: ir.Value) -> ir.TensorProtocol | None:
    """A constant's tensor; None for other values, and for Constant nodes of attributes that there aren't."""
    try:
        return ir.convenience.get_const_tensor(value)
    except ValueError:
        return None


def _constant_made(node: ir.Node) -> ir.TensorProtocol | None:
    return _constant(node.outputs[0]) if node.op_type == "Constant" and node.outputs else None


def _declared_length(value: ir.Value) -> int:
    """Of a vector or a single number, as it is stated or as an initializer is; 0 where it isn't known or the value is
    neither."""
    shapes = [value.shape, None if value.const_value is None else value.const_value.shape]
    return max((_count_numbers(shape) for shape in shapes if shape is not None), default=0)


def _count_numbers(shape: ir.ShapeProtocol) -> int:
    if len(shape) > 1:
        return 0
    size = shape[0] if len(shape) else 1
    # A vector without numbers is one that is looked at, too.
    return max(size, 1) if isinstance(size, int) else 0


def _is_followed(op_type: str, opset: int) -> bool:
    """Whether inference computes the values of what the operator makes, if these are the sizes of a shape."""
    schema = _schema("", op_type, opset)
    return schema is not None and bool(schema.has_data_propagation_function)


@lru_cache(maxsize=1024)
def _schema(domain: str, op_type: str, opset: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None
