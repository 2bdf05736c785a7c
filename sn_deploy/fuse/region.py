"""Regions: parts of a graph that could be one SN layer, found by structure alone.

Every normalisation takes a root. From each root (`Sqrt`, or `Pow` with an exponent of 1/2 or -1/2) the search goes
down to where all that the root feeds meets again, and up from there to where all that was met comes from one value, X:

    X ──┬── statistics ── mix ── root ──┐
        └───────────────────────────────┴── result ── layout, affine ── Y

Names and the order of the nodes in between don't matter. Each walk is bounded, so that the search takes a time
proportional to the size of the graph.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from sn_deploy.fuse.facts import GraphFacts
from sn_deploy.onnx_nodes import is_standard

# The published layers take 20 to 60 nodes, sizes and constants included.
_MOST_NODES: Final = 300
_MOST_LAYOUT_STEPS: Final = 6
_MOST_CORES: Final = 4

_LAYOUT: Final = frozenset(
    {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Cast", "CastLike", "Identity", "Dropout"}
)
_AFFINE: Final = frozenset({"Mul", "Add", "Sub", "Div"})
REDUCTIONS: Final = frozenset(
    {
        *("ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL2", "ReduceL1", "ReduceMax", "ReduceMin"),
        *("ReduceProd", "ReduceLogSum", "ReduceLogSumExp", "GlobalAveragePool", "GlobalMaxPool"),
    }
)
# What statistics, their mix and the normalisation are written with. All else ends a walk: it makes X, or reads Y.
_TRANSPARENT: Final = (
    _LAYOUT
    | _AFFINE
    | REDUCTIONS
    | {
        *("Sqrt", "Pow", "Reciprocal", "Neg", "Abs", "Sum", "Mean", "Max", "Min", "Clip", "Relu", "Expand", "Tile"),
        *("Concat", "Split", "Slice", "Gather", "Where", "Exp", "Log"),
    }
)


# Between them casts do nothing but round.
FLOATS: Final = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})


@dataclass(frozen=True, eq=False)
class Region:
    """A part of a graph with one way in and one way out.

    Attributes:
        root: the node that takes the root.
        radicand: what it takes the root of.
        sources: values that may be the layer's X, the innermost first: each is the one before, laid out otherwise.
        results: values that may be its Y, the innermost first: each is the one before, laid out or scaled otherwise.
        nodes: all that computes the last of ``results`` from the last of ``sources``, constants and sizes included, in
            an order in which they can run.
        foreign_shapes: the Shape nodes among them that read a tensor outside.
    """

    root: ir.Node
    radicand: ir.Value
    sources: tuple[ir.Value, ...]
    results: tuple[ir.Value, ...]
    nodes: tuple[ir.Node, ...]
    foreign_shapes: tuple[ir.Node, ...]


def roots(graph: ir.Graph, facts: GraphFacts) -> list[ir.Node]:
    """The nodes of the graph that take a root of data, in order."""
    return [node for node in graph if _is_root(node) and facts.data_inputs(node)]


def regions(root: ir.Node, facts: GraphFacts, inside: Collection[ir.Value] = ()) -> Iterator[Region]:
    """The parts of the graph that could be the layer of this root, the smallest first; none where nothing closes.

    Args:
        inside: values that go with layers that were found before, and so are no X of this one.
    """
    for meeting in _meetings(root, facts):
        found = list(_cores(meeting, root, facts))
        for core in found:
            sources = (core, *itertools.takewhile(lambda value: value not in inside, _layouts_above(core, facts)))
            results = (meeting, *_steps_below(meeting, sources, facts))
            nodes, foreign = _nodes_between(sources[-1], results[-1], facts)
            radicand = root.inputs[0]
            assert radicand is not None
            yield Region(root, radicand, sources, results, tuple(nodes), tuple(foreign))
        if found:
            return


def mixes_statistics(region: Region, facts: GraphFacts) -> bool:
    """Whether the region could mix statistics at all: of two kinds, or of one with a number for each channel.

    Instance, layer and group normalisation take their mean and their variance over the same axes of the same tensor,
    and nothing but eps stands with the variance under the root.
    """
    kinds = {_kind(node) for node in region.nodes if node.op_type in REDUCTIONS and facts.data_inputs(node)}
    return len(kinds) > 1 or bool(vectors_under_root(region, facts))


def vectors_under_root(region: Region, facts: GraphFacts) -> list[ir.Value]:
    """The constants of more than one number that the radicand is computed with, beside what was reduced: a bias of X
    itself stands under every root, that of a vector's length, too."""
    found, seen, waiting = [], {region.radicand}, [region.radicand]
    reduced = _reduced(region)
    while waiting:
        value = waiting.pop()
        producer = value.producer()
        if value in region.sources or producer is None or producer not in region.nodes:
            continue
        arithmetic = (producer.op_type in _AFFINE or producer.op_type == "Sum") and value in reduced
        for given in producer.inputs:
            if given is None or given in seen:
                continue
            seen.add(given)
            if facts.is_data(given):
                waiting.append(given)
            elif arithmetic and facts.is_constant(given) and _size(given) != 1:
                found.append(given)
    return found


def _reduced(region: Region) -> set[ir.Value]:
    """What the region computes from reductions."""
    found: set[ir.Value] = set()
    for node in region.nodes:
        if node.op_type in REDUCTIONS or any(value in found for value in node.inputs):
            found.update(node.outputs)
    return found


def _is_root(node: ir.Node) -> bool:
    if not is_standard(node):
        return False
    if node.op_type == "Sqrt":
        return True
    if node.op_type != "Pow" or len(node.inputs) != 2 or node.inputs[1] is None:
        return False
    exponent = ir.convenience.get_const_tensor(node.inputs[1])
    return exponent is not None and exponent.size == 1 and abs(float(exponent.numpy().ravel()[0])) == 0.5


def _is_transparent(node: ir.Node) -> bool:
    return is_standard(node) and node.op_type in _TRANSPARENT


def _size(value: ir.Value) -> int | None:
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        return int(tensor.size)
    shape = value.shape
    return int(np.prod(shape.numpy())) if shape is not None and shape.is_static() else None


def _kind(node: ir.Node) -> tuple[object, ...]:
    """What a reduction goes over: axes counted from the front, and the shape of what it reduces."""
    given = node.inputs[0]
    shape = None if given is None else given.shape
    rank = None if shape is None else len(shape)
    if node.op_type.startswith("Global"):
        axes: tuple[int, ...] | None = tuple(range(2, rank)) if rank is not None else (2,)
    else:
        axes = _axes(node)
    if axes is not None and rank is not None:
        axes = tuple(sorted(axis % rank for axis in axes))
    return axes, None if shape is None else tuple(str(dim) for dim in shape)


def _axes(node: ir.Node) -> tuple[int, ...] | None:
    attribute = node.attributes.get("axes")
    if attribute is not None:
        return tuple(attribute.as_ints())
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        tensor = ir.convenience.get_const_tensor(node.inputs[1])
        return None if tensor is None else tuple(int(axis) for axis in tensor.numpy().ravel())
    return ()


def _meetings(root: ir.Node, facts: GraphFacts) -> Iterator[ir.Value]:
    """The values through which all that the root feeds passes, from the root on."""
    waiting: list[int] = []
    readers: dict[int, ir.Node] = {}
    unread: dict[ir.Value, int] = {}  # value -> how many of its uses were not met yet

    def open_value(value: ir.Value) -> None:
        uses = _data_uses(value, facts)
        if uses:
            unread[value] = len(uses)
        for reader in uses:
            place = facts.position.get(reader, -1)  # a reader in a subgraph has no place here
            if place not in readers:
                readers[place] = reader
                heapq.heappush(waiting, place)

    open_value(root.outputs[0])
    for _ in range(_MOST_NODES):
        if len(unread) == 1:
            (value,) = unread
            if unread[value] == len(_data_uses(value, facts)):
                yield value
        if not waiting:
            return
        place = heapq.heappop(waiting)
        reader = readers[place]
        if place < 0 or not _is_transparent(reader):
            return
        for given in reader.inputs:
            if given in unread:
                unread[given] -= 1
                if not unread[given]:
                    del unread[given]
        for made in reader.outputs:
            open_value(made)
        if not unread and len(reader.outputs) == 1:
            yield reader.outputs[0]  # an output of the graph that nothing reads
            return


def _data_uses(value: ir.Value, facts: GraphFacts) -> list[ir.Node]:
    """The nodes that read a value, once for each use, without those that only ask for its shape."""
    return [use.node for use in value.uses() if not all(facts.is_size(made) for made in use.node.outputs)]


def _cores(meeting: ir.Value, root: ir.Node, facts: GraphFacts) -> Iterator[ir.Value]:
    """The values from which ``meeting`` is computed alone, and both directly and through statistics and the root.

    The nearest first. There is mostly one; where a layer subtracts a mean first, the difference is one, too.
    """
    order = itertools.count()
    waiting: list[tuple[int, int, ir.Value]] = [(-facts.place(meeting), next(order), meeting)]
    direct = {meeting: True}  # whether a path past statistics and root leads from the value to the meeting
    with_root = with_statistics = False
    cores = 0
    for _ in range(_MOST_NODES):
        if not waiting:
            return
        _, _, value = waiting[0]
        if len(waiting) == 1 and with_root and with_statistics and direct[value]:
            yield value
            cores += 1
            if cores == _MOST_CORES:
                return
        heapq.heappop(waiting)
        producer = value.producer()
        if producer is None or producer not in facts.position or not _is_transparent(producer):
            return  # a way in: the only one, or there are several
        with_root |= producer is root
        with_statistics |= producer.op_type in REDUCTIONS
        straight = direct[value] and producer is not root and producer.op_type not in REDUCTIONS
        for given in facts.data_inputs(producer):
            if given not in direct:
                heapq.heappush(waiting, (-facts.place(given), next(order), given))
            direct[given] = direct.get(given, False) or straight


def _layouts_above(core: ir.Value, facts: GraphFacts) -> Iterator[ir.Value]:
    """What the core is another layout of, from the core up."""
    value = core
    for _ in range(_MOST_LAYOUT_STEPS):
        producer = value.producer()
        if producer is None or producer not in facts.position or not _lays_out(producer):
            return
        data = facts.data_inputs(producer)
        if len(data) != 1 or producer.inputs[0] is not data[0]:
            return
        value = data[0]
        yield value


def _steps_below(meeting: ir.Value, sources: tuple[ir.Value, ...], facts: GraphFacts) -> Iterator[ir.Value]:
    """What becomes of the meeting by layout and constant factors and summands, as long as nothing else reads it."""
    value = meeting
    for _ in range(2 * _MOST_LAYOUT_STEPS):
        readers = _data_uses(value, facts)
        if value.is_graph_output() or len(readers) != 1:
            return
        (reader,) = readers
        if reader not in facts.position or not (_lays_out(reader) or _scales(reader)):
            return
        # CastLike reads X, too, for its type alone.
        others = [given for given in facts.data_inputs(reader) if given is not value]
        if reader.inputs[0] is not value and _lays_out(reader):
            return
        if others and not (reader.op_type == "CastLike" and others[0] in sources):
            return
        if list(reader.inputs).count(value) != 1:
            return
        value = reader.outputs[0]
        yield value


def _lays_out(node: ir.Node) -> bool:
    if not is_standard(node) or node.op_type not in _LAYOUT:
        return False
    # Of what is made integers and floating point again the layer sees no numbers that tell anything.
    return node.op_type != "Cast" or ("to" in node.attributes and node.attributes["to"].as_int() in FLOATS)


def _scales(node: ir.Node) -> bool:
    return is_standard(node) and node.op_type in _AFFINE


def _nodes_between(source: ir.Value, result: ir.Value, facts: GraphFacts) -> tuple[list[ir.Node], list[ir.Node]]:
    """The nodes that compute ``result`` from ``source``, in order, and the Shape nodes of tensors outside."""
    data_nodes, data_values = _data_nodes(source, result, facts)
    found = set(data_nodes)
    foreign: set[ir.Node] = set()
    waiting = [value for node in data_nodes for value in node.inputs if value is not None]
    while waiting:
        producer = waiting.pop().producer()
        if producer is None or producer in found or facts.is_data(producer.outputs[0]):
            continue
        found.add(producer)
        given = [value for value in producer.inputs if value is not None]
        if given and any(facts.is_data(value) for value in given):  # Shape or Size
            foreign.update([producer] if given[0] not in data_values else [])
        else:
            waiting.extend(given)
    # Nodes of outer graphs, which make constants alone, come first.
    order = sorted(found, key=lambda node: facts.position.get(node, -1))
    return order, sorted(foreign, key=lambda node: facts.position.get(node, -1))


def _data_nodes(source: ir.Value, result: ir.Value, facts: GraphFacts) -> tuple[list[ir.Node], set[ir.Value]]:
    nodes: set[ir.Node] = set()
    values, waiting = {source, result}, [result]
    while waiting:
        producer = waiting.pop().producer()
        if producer is None or producer in nodes:
            continue
        nodes.add(producer)
        values.update(producer.outputs)
        for given in facts.data_inputs(producer):
            if given not in values:
                values.add(given)
                waiting.append(given)
    return sorted(nodes, key=lambda node: facts.position[node]), values
