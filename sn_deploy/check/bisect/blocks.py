"""A graph cut into blocks: each SN layer with what leads to it from the layers before, and what is left at the end."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx_ir as ir

from sn_deploy.check.layers.onnx_points import LayerInFile
from sn_deploy.check.layers.tensors import FORMS
from sn_deploy.fuse.load import load
from sn_deploy.graph.mixed import HALF_TYPES, Originals, can_widen, widen

# The block of what no layer needs: the classifier, say.
BEHIND: Final = "behind the last layer"


@dataclass(frozen=True)
class Blocks:
    """The blocks of a file.

    Attributes:
        path: the file.
        half: ``float16`` or ``bfloat16``.
        places: block -> places of its nodes in the graph, in the order in which the blocks run.
        left_out: names of nodes that can't be computed in another type, because they hold graphs.
    """

    path: Path
    half: str
    places: Mapping[str, Collection[int]]
    left_out: tuple[str, ...]

    def mixed(self, kept: Collection[str], originals: Originals) -> ir.Model:
        """The file's model with these blocks in float32.

        Raises:
            SnDeployError: the type of a tensor isn't known.
        """
        model = load(self.path).model
        wanted = {place for name in kept for place in self.places[name]}
        widen(
            model,
            [node for place, node in enumerate(model.graph) if place in wanted],
            HALF_TYPES[self.half],
            originals,
        )
        return model


def cut(path: Path, half: str, layers: Mapping[str, LayerInFile]) -> Blocks:
    """The blocks of a file.

    Args:
        half: the type that it computes in.
        layers: those that it has.

    Raises:
        SnDeployError: the file can't be read.
    """
    model = load(path).model
    places = {node: place for place, node in enumerate(model.graph)}
    made = {value.name: node for node in model.graph for value in node.outputs}
    ends: dict[str, ir.Node] = {}
    for name, layer in layers.items():
        form = next(form for form in FORMS if form in layer.points)
        ends[name] = made[layer.points[form].output.name]
    found: dict[str, list[int]] = {}
    taken: set[ir.Node] = set()
    for name in sorted(ends, key=lambda name: places[ends[name]]):
        found[name] = [places[node] for node in _leading_to(ends[name], taken, places)]
    found[BEHIND] = [place for node, place in places.items() if node not in taken]
    nodes = list(places)
    left_out = tuple(node.name or node.op_type for node in nodes if not can_widen(node))
    wide = {name: [place for place in own if can_widen(nodes[place])] for name, own in found.items()}
    return Blocks(path, half, {name: own for name, own in wide.items() if own}, left_out)


def _leading_to(end: ir.Node, taken: set[ir.Node], places: Mapping[ir.Node, int]) -> list[ir.Node]:
    """The node and all that it needs and nobody has taken yet; taken now."""
    own, waiting = [], [end]
    while waiting:
        node = waiting.pop()
        if node in taken or node not in places:
            continue
        taken.add(node)
        own.append(node)
        for value in node.inputs:
            producer = None if value is None else value.producer()
            if producer is not None:
                waiting.append(producer)
    return own
