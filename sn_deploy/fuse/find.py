"""All SN layers of a model, and what only looks like one. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import onnx_ir as ir

from sn_deploy.fuse.facts import GraphFacts
from sn_deploy.fuse.inputs import SETTINGS
from sn_deploy.fuse.names import layer_name
from sn_deploy.fuse.read import OrdinaryError, ReadLayer, read_layer
from sn_deploy.fuse.region import Region, mixes_statistics, regions, roots
from sn_deploy.fuse.replace import the_same
from sn_deploy.fuse.report import NearMiss
from sn_deploy.fuse.sizes import Sizes
from sn_deploy.fuse.solve import NotSwitchNormError
from sn_deploy.graph import op
from sn_deploy.onnx_nodes import subgraphs


@dataclass(frozen=True)
class Found:
    """Layers in the order in which they run, each with its region, and near misses."""

    layers: list[tuple[ReadLayer, Region]]
    near_misses: list[NearMiss]


class _Graph:
    """One graph, and what is needed of the model to look at it."""

    def __init__(self, model: ir.Model, graph: ir.Graph, facts: GraphFacts) -> None:
        self.model, self.graph, self.facts = model, graph, facts

    @cached_property
    def sizes(self) -> list[Sizes]:
        """Sizes of the main graph's tensors; those of subgraphs aren't followed."""
        if self.graph is not self.model.graph:
            return []
        return [Sizes(self.model, self.facts, setting) for setting in range(SETTINGS)]


def find(model: ir.Model) -> Found:
    """The layers of the main graph and of its subgraphs."""
    found = Found([], [])
    for graph in _graphs(model, model.graph, None):
        _find(graph, found)
    return found


def _graphs(model: ir.Model, graph: ir.Graph, outer: GraphFacts | None) -> Iterator[_Graph]:
    facts = GraphFacts(graph, outer)
    yield _Graph(model, graph, facts)
    for node in graph:
        for inner in subgraphs(node):
            yield from _graphs(model, inner, facts)


def _find(graph: _Graph, found: Found) -> None:
    taken: set[ir.Node] = set()
    inside: set[ir.Value] = set()
    missed: set[ir.Value] = set()
    for root in roots(graph.graph, graph.facts):
        if root in taken:
            continue
        candidates = [region for region in regions(root, graph.facts, inside) if mixes_statistics(region, graph.facts)]
        if not candidates:
            continue
        layer, region = _first_layer(candidates, graph, len(found.layers))
        if isinstance(layer, ReadLayer):
            found.layers.append((layer, region))
            taken.update(region.nodes)
            inside.update(region.results[: region.results.index(layer.result)])
            inside.difference_update(the_same(layer.result))
        elif layer is not None and region.results[0] not in missed:
            missed.add(region.results[0])
            found.near_misses.append(NearMiss(_where(region), layer.reason))


def _first_layer(
    candidates: Sequence[Region], graph: _Graph, count: int
) -> tuple[ReadLayer | NotSwitchNormError | None, Region]:
    """The first region that is a layer; else the reason of the one that came furthest; None for another norm."""
    refused: tuple[NotSwitchNormError | None, Region] = (None, candidates[0])
    for region in candidates:
        name = layer_name(region) or f"{op.SWITCH_NORM}_{count}"
        sizes = graph.sizes if region.foreign_shapes else []
        try:
            return read_layer(region, graph.facts, graph.model.opset_imports[""], sizes, name), region
        except OrdinaryError:
            return None, region
        except NotSwitchNormError as error:
            if refused[0] is None or error.stage > refused[0].stage:
                refused = (error, region)
    return refused


def _where(region: Region) -> str:
    node = region.results[-1].producer()
    return (node.name if node is not None else None) or region.results[-1].name or region.root.op_type
