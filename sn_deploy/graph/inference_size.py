"""How much ONNX's shape inference would hold of a model: counted, and not inferred.

Where inference follows the values of shapes, it takes every vector of a known length that an operator on sizes reads
for a list of sizes. How long the lists can get is known before for what is made of constants and of the shapes of
tensors. Any other vector's length may come out only while values are followed (of a Reshape or an Expand to computed
sizes), and nothing bounds it then: nodes that would read such a vector are named, for `inference_hidden`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final

import onnx_ir as ir

from sn_deploy.graph.inference_rules import (
    ANY_LENGTH,
    constant_made,
    count_numbers,
    declared_length,
    int_of,
    is_followed,
    is_integer,
    length_from_inputs,
    rank_from_inputs,
    schema_of,
)
from sn_deploy.onnx_nodes import STANDARD_DOMAINS, is_standard, subgraphs

# Of all tensors together, some 50 bytes each. Networks have a few a node.
MOST_AXES: Final = 1 << 24

# Nodes, those of a function counted wherever it is called.
MOST_NODES: Final = 1 << 21

# Of these, what functions may make of a file: ONNX Runtime takes minutes for 2^17 (1.5 s for 2^14), which twenty
# functions of two nodes each are. What a file holds itself, or calls some times, is its own business.
MOST_CALLED: Final = 1 << 14
MOST_TIMES: Final = 16

# Functions that call functions: inference goes into each other by recursion.
DEEPEST: Final = 64

# Operators that take the numbers of an input for the shape of what they make, and which input.
SHAPE_READERS: Final = {"Reshape": 1, "Expand": 1, "ConstantOfShape": 0}

# Operators that aren't followed, and that make of vectors none that is longer; those that reduce are others.
_NO_LONGER: Final = frozenset(
    {"Abs", "And", "CastLike", "Ceil", "Div", "Equal", "Floor", "Greater", "Identity", "Less", "Max", "Min", "Mod"}
    | {"Neg", "Not", "Or", "Pow", "Sqrt", "Where"}
)

# Operators that are followed by their first input alone.
_READERS_OF_ONE: Final = frozenset({"Cast", "Squeeze", "Unsqueeze", "Size"})


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
        nodes = self._count(model.graph.all_nodes(), 0)
        if nodes > MOST_NODES or (nodes > MOST_CALLED and nodes > MOST_TIMES * _held(model)):
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
            if function is not None and schema_of(node.domain, node.op_type, self._scope.opset(node.domain)) is None:
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
        for graph in subgraphs(node):
            for formal in graph.inputs:
                self._set(formal, most, 0, ANY_LENGTH)
            self._walk(graph)
            results += list(graph.outputs)
        ranks = [self._rank(value) for value in (*inputs, *results)]
        lengths = [self._length(value) for value in inputs]
        rank, held, found = max(ranks, default=0), 0, ANY_LENGTH
        if is_standard(node):
            rank = rank_from_inputs(node, ranks, [0 if length >= ANY_LENGTH else length for length in lengths])
            follows = is_followed(node.op_type, max(self._scope.opset(domain) for domain in STANDARD_DOMAINS))
            read = self._read(node) if follows or node.op_type in SHAPE_READERS else []
            numbers = [self._length(value) for value in read]
            if max(numbers, default=0) >= ANY_LENGTH:
                self.unbounded.add(node)
            elif follows and (read or node.op_type == "Shape"):
                # A list without numbers is one, too.
                held = min(max(length_from_inputs(node, ranks, numbers), 1), ANY_LENGTH - 1)
                self.followed += held + sum(numbers)
                # Of more axes than one, another can be the longer one.
                found = held if all(self._rank(value) <= 1 for value in read) else ANY_LENGTH
            elif node.op_type == "ConstantOfShape":
                found = self._length_by_shape(node)
            elif (tensor := constant_made(node)) is not None:
                held = found = count_numbers(tensor.shape)
            elif node.op_type in _NO_LONGER or node.op_type.startswith("Reduce"):
                found = max(lengths, default=0) if max(ranks, default=0) <= 1 else ANY_LENGTH
            if follows:
                self.has_sizes |= all(is_integer(value) for value in inputs) or node.op_type in ("Shape", "Size")
        for value in node.outputs:
            self._set(value, rank, held, found)

    def _read(self, node: ir.Node) -> list[ir.Value]:
        """The inputs whose numbers inference looks at, if it knows how many they are."""
        if node.op_type in SHAPE_READERS:
            place = SHAPE_READERS[node.op_type]
            chosen = node.inputs[place : place + 1]
        elif node.op_type == "Shape" or (node.op_type in ("Concat", "Gather") and int_of(node, "axis", 0) > 0):
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
        if maker is None or maker.op_type != "Shape" or not is_standard(maker) or not maker.inputs:
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
            length = max(held, declared_length(value) if is_stated else found)
        # What was inferred is held beside what was stated.
        self.axes += rank
        self._scope.note(value, held, length)

    def _rank(self, value: ir.Value) -> int:
        return self._ranks[value] if value in self._ranks else 0 if value.shape is None else len(value.shape)

    def _length(self, value: ir.Value) -> int:
        return max(self._scope.lengths.get(value.name or "", 0), declared_length(value))


def _held(model: ir.Model) -> int:
    """Nodes that the file holds."""
    in_functions = sum(1 for function in model.functions.values() for _ in function.all_nodes())
    return in_functions + sum(1 for _ in model.graph.all_nodes())


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
