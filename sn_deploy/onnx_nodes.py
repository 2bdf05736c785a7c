"""Nodes, protobuf's and onnx_ir's: which are the standard's, and which graphs they hold, as an If does its branches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import onnx
import onnx_ir as ir

# The standard goes by both names.
STANDARD_DOMAINS: Final = ("", "ai.onnx")


def is_standard(node: ir.Node | onnx.NodeProto) -> bool:
    """Whether the node is an operator of the ONNX standard itself."""
    return node.domain in STANDARD_DOMAINS


def subgraphs(node: ir.Node) -> list[ir.Graph]:
    """The graphs that a node holds, without those within them."""
    found: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
            found.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS and not attribute.is_ref():
            found.extend(attribute.as_graphs())
    return found


def proto_subgraphs(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    """The graphs that nodes hold, without those within them."""
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs


def proto_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes, each followed by those of the graphs that it holds, at any depth."""
    for node in nodes:
        yield node
        for graph in proto_subgraphs([node]):
            yield from proto_nodes(graph.node)
