"""Two files with their branches chosen the other way: input alone decides which one of an If runs, and the other would
never be compared.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import onnx_ir as ir

from sn_deploy.errors import CheckFailedError
from sn_deploy.graph.names import taken_by_nodes, taken_names, unused
from sn_deploy.onnx_file import read_model
from sn_deploy.onnx_nodes import subgraphs

# What these make of data is known without it, as a rule: the other branch may be one that no data leads to.
_OF_SHAPES: Final = frozenset({"Shape", "Size"})


def chosen_otherwise(first: Path, second: Path, folder: Path) -> list[tuple[Path, Path]]:
    """Copies of both files in which If nodes that both have, and that decide by data, decide the other way.

    All do in the first pair of copies. Where one stands in a branch of another, there are two pairs more, in which
    every second of these levels does, so that of two levels all four ways run.

    Args:
        first, second: files that are to compute the same; an If is known by what it makes.
        folder: where the copies are written, with their external data.

    Returns:
        The pairs of copies; none where the files share no such node.

    Raises:
        SnDeployError: a file can't be read.
    """
    models, found = [], []
    for path in (first, second):
        models.append(read_model(path))
        found.append(_deciding(models[-1]))
        if not found[-1]:  # as in most files: the other one needs no reading
            return []
    shared = found[0].keys() & found[1].keys()
    if not shared:
        return []
    levels = _levels({name: found[0][name] for name in shared})
    ways = [{0, 1}, {0}, {1}] if any(levels.values()) else [{0, 1}]
    pairs = [[folder / f"otherwise{number}{place}.onnx" for place in range(2)] for number in range(len(ways))]
    for place, (model, nodes) in enumerate(zip(models, found, strict=True)):
        taken = taken_names(model) | taken_by_nodes(model)
        conditions = {name: (nodes[name].inputs[0], _turned(nodes[name], taken)) for name in shared}
        for turning, pair in zip(ways, pairs, strict=True):
            for name in shared:
                nodes[name].replace_input_with(0, conditions[name][levels[name] % 2 in turning])
            ir.save(model, pair[place], external_data=f"{pair[place].name}.data")
    return [(one, other) for one, other in pairs]


def told(what: str) -> str:
    """A difference between such copies."""
    return f"with its branches chosen the other way, {what}"


@contextlib.contextmanager
def telling() -> Iterator[None]:
    """A check that fails within it is one of such copies."""
    try:
        yield
    except CheckFailedError as error:
        raise error.but(what=told(error.what)) from error


def _deciding(model: ir.Model) -> dict[str, ir.Node]:
    """The If nodes that decide by data, by the name of their first output; two branches may have one name each."""
    nodes = [node for node in model.graph.all_nodes() if node.op_identifier() == ("", "If", "") and node.outputs]
    names = Counter(node.outputs[0].name for node in nodes)
    found = {node.outputs[0].name: node for node in nodes if _is_of_data(node.inputs[0])}
    return {name: node for name, node in found.items() if name and names[name] == 1}


def _is_of_data(condition: ir.Value | None) -> bool:
    """Whether an input of the graph reaches the value, and not by its shape alone."""
    waiting, seen = [condition], set[ir.Value]()
    while waiting:
        value = waiting.pop()
        if value is None or value in seen:
            continue
        seen.add(value)
        node = value.producer()
        if node is None:
            if value.is_graph_input() and not value.is_initializer():
                return True
        elif node.domain or node.op_type not in _OF_SHAPES:
            waiting.extend(node.inputs)
    return False


def _levels(nodes: Mapping[str, ir.Node]) -> dict[str, int]:
    """In how many of the others' branches each node stands."""
    inner: Counter[ir.Node] = Counter()
    for node in nodes.values():
        for graph in subgraphs(node):
            inner.update(graph.all_nodes())
    return {name: inner[node] for name, node in nodes.items()}


def _turned(node: ir.Node, taken: set[str]) -> ir.Value:
    """The opposite of what the node decides by, made beside it."""
    condition, graph = node.inputs[0], node.graph
    assert condition is not None
    assert isinstance(graph, ir.Graph)
    name = unused(f"{condition.name}_otherwise", taken)
    turned = ir.node("Not", [condition], name=name)
    turned.outputs[0].name = name
    graph.insert_before(node, turned)
    return turned.outputs[0]
