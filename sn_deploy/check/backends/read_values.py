"""Which values of an ONNX file its outputs are made of: what lies in it and isn't read says nothing about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import onnx

# Functions that call functions, and graphs in graphs, are followed so far; beyond it every input counts as read.
_DEEPEST: Final = 32

_Key = tuple[str, str, str]


def read_values(model: onnx.ModelProto) -> set[str]:
    """Names of the main graph's values that its outputs depend on, themselves among them.

    Subgraphs read of what is around them; a call of a local function reads those inputs that the function's outputs
    depend on. Whether a value that is read makes a difference isn't asked.
    """
    return _Reader(model.functions).read(model.graph.node, [value.name for value in model.graph.output], 0)


class _Reader:
    def __init__(self, functions: Iterable[onnx.FunctionProto]) -> None:
        self._functions: dict[_Key, onnx.FunctionProto] = {
            (one.domain, one.name, one.overload): one for one in functions
        }
        self._arguments: dict[_Key, set[str]] = {}

    def read(self, nodes: Sequence[onnx.NodeProto], outputs: Iterable[str], depth: int) -> set[str]:
        """What ``outputs`` depend on, of the nodes' own values and of what is around them."""
        producers = {name: node for node in nodes for name in node.output}
        found: set[str] = set()
        done: set[int] = set()
        pending = list(outputs)
        while pending:
            name = pending.pop()
            if not name or name in found:
                continue
            found.add(name)
            node = producers.get(name)
            if node is not None and id(node) not in done:
                done.add(id(node))
                pending.extend(self._read_by(node, depth))
        return found

    def _read_by(self, node: onnx.NodeProto, depth: int) -> Iterator[str]:
        key = (node.domain, node.op_type, node.overload)
        if key in self._functions and depth < _DEEPEST:
            wanted = self._arguments_of(key, depth + 1)
            formal = self._functions[key].input
            yield from (name for name, own in zip(node.input, formal, strict=False) if own in wanted)
        else:
            yield from node.input
        for attribute in node.attribute:
            for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                if depth < _DEEPEST:
                    yield from self.read(graph.node, [value.name for value in graph.output], depth + 1)
                else:
                    yield from (name for inner in graph.node for name in inner.input)

    def _arguments_of(self, key: _Key, depth: int) -> set[str]:
        if key not in self._arguments:
            function = self._functions[key]
            self._arguments[key] = set(function.input)  # where it calls itself, which the format forbids
            self._arguments[key] = self.read(function.node, function.output, depth)
        return self._arguments[key]
