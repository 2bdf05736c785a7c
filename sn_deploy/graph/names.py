"""Names of values, or of nodes, that nothing else in a model has."""

from __future__ import annotations

import onnx_ir as ir


def taken_names(model: ir.Model) -> set[str]:
    """The names of all values: inputs, weights, and what nodes make, in subgraphs too."""
    graphs = list(model.graphs())
    given = [value for graph in graphs for value in (*graph.inputs, *graph.initializers.values())]
    made = [value for graph in graphs for node in graph for value in node.outputs]
    return {value.name for value in (*given, *made) if value.name}


def taken_by_nodes(model: ir.Model) -> set[str]:
    """The names of all nodes, in subgraphs too; none is there where they have none."""
    return {node.name for node in model.graph.all_nodes() if node.name}


def unused(name: str, taken: set[str]) -> str:
    """The name, or that and a number where it is taken; it is taken from now on."""
    unique, count = name, 1
    while unique in taken:
        count += 1
        unique = f"{name}_{count}"
    taken.add(unique)
    return unique
