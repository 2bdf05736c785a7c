"""What is known of the values of a graph before any region of it is looked at: constants, sizes, and the order.

A *constant* is computed from weights alone. A *size* is computed from shapes alone (``Shape`` and what follows from
it): it changes with the extents of the inputs and not with their content. All else is *data*.
"""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

from sn_deploy.graph.random_nodes import draws
from sn_deploy.onnx_nodes import is_standard, subgraphs

_SIZE_OPS: Final = frozenset({"Shape", "Size"})


class GraphFacts:
    """The facts of one graph, taken once, in one pass; values of outer graphs are known where ``outer`` knows them.

    Attributes:
        position: node -> its place in the graph's order.
    """

    def __init__(self, graph: ir.Graph, outer: GraphFacts | None = None) -> None:
        self.position: dict[ir.Node, int] = {}
        self._constants: set[ir.Value] = set()
        self._sizes: set[ir.Value] = set()
        self._outer = outer
        for place, node in enumerate(graph):
            self.position[node] = place
            self._classify(node)

    def _classify(self, node: ir.Node) -> None:
        if not is_standard(node) or subgraphs(node) or draws(node):
            return
        inputs = [value for value in node.inputs if value is not None]
        if node.op_type == "Constant" or (inputs and all(self.is_constant(value) for value in inputs)):
            self._constants.update(node.outputs)
        elif node.op_type in _SIZE_OPS or (inputs and all(not self.is_data(value) for value in inputs)):
            self._sizes.update(node.outputs)

    def is_constant(self, value: ir.Value) -> bool:
        """Computed from weights alone. A weight that is an input, too, may be given another value: it is data."""
        if value.is_initializer():
            return not value.is_graph_input()
        return value in self._constants or (self._outer is not None and self._outer.is_constant(value))

    def is_size(self, value: ir.Value) -> bool:
        """Computed from shapes, and perhaps constants, alone."""
        return value in self._sizes or (self._outer is not None and self._outer.is_size(value))

    def is_data(self, value: ir.Value) -> bool:
        """Neither a constant nor a size."""
        return not self.is_constant(value) and not self.is_size(value)

    def data_inputs(self, node: ir.Node) -> list[ir.Value]:
        """The inputs that are data, each once."""
        return list(dict.fromkeys(value for value in node.inputs if value is not None and self.is_data(value)))

    def place(self, value: ir.Value) -> int:
        """The position of the node that makes the value; -1 for what this graph is given."""
        producer = value.producer()
        return -1 if producer is None else self.position.get(producer, -1)
