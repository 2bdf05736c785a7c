"""Where an ONNX file has its SN layers, whoever wrote it: as nodes of ours, fused or not, on blocks, or decomposed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from sn_deploy.check.layers.tensors import TappedLayer
from sn_deploy.errors import SnDeployError
from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.fuse.find import find
from sn_deploy.fuse.load import load
from sn_deploy.fuse.replace import replace
from sn_deploy.fuse.run import infer_new_shapes
from sn_deploy.graph import op
from sn_deploy.graph.epilogue import Epilogue, epilogue_of
from sn_deploy.graph.layers import folded_from_node, switch_norm_nodes, write_functions


@dataclass(frozen=True)
class TensorRef:
    """A tensor of the file.

    Attributes:
        name: in the main graph.
        channels_last: it is (N, *spatial, C).
        blocked_channels: C, where it is on blocks of channels.
    """

    name: str
    channels_last: bool = False
    blocked_channels: int | None = None


@dataclass(frozen=True)
class Point:
    """Where a layer's output is, and what was added to it on the way."""

    output: TensorRef
    residual: TensorRef | None = None

    @property
    def tensors(self) -> tuple[TensorRef, ...]:
        """Both, where there are two."""
        return (self.output,) if self.residual is None else (self.output, self.residual)


@dataclass(frozen=True)
class LayerInFile:
    """One layer.

    Attributes:
        x: what it reads.
        points: form of `sn_deploy.check.layers.tensors.FORMS` -> where it is.
    """

    layer: TappedLayer
    x: TensorRef
    points: dict[str, Point]

    @property
    def tensors(self) -> Iterator[TensorRef]:
        """All that are needed."""
        yield self.x
        for point in self.points.values():
            yield from point.tensors


@dataclass(frozen=True)
class LayersInFile:
    """Name -> layer, in the order in which they run, and what can't be looked into, with the reasons."""

    layers: Mapping[str, LayerInFile]
    notes: Sequence[str]


def layers_in_file(path: Path) -> LayersInFile:
    """The SN layers of an ONNX file.

    Raises:
        SnDeployError: no ONNX file, or one whose graph can't be followed.
    """
    model = load(path).model
    found = find(model)
    # The names of the file: replacing layers changes some.
    read = [
        _Read(
            layer.folded,
            TensorRef(str(layer.source.name), layer.source_last),
            TensorRef(str(layer.result.name), layer.result_last),
        )
        for layer, _ in found.layers
    ]
    nodes = replace(model, [layer for layer, _ in found.layers])
    if nodes:
        write_functions(model)
        infer_new_shapes(model)
    by_node = dict(zip(nodes, read, strict=True))
    renamed = {node.outputs[0]: str(one.y.name) for node, one in by_node.items()}
    # Transposes are moved about in such a graph, and what is called by a name isn't what the file calls so.
    as_written = not any(one.x.channels_last or one.y.channels_last for one in read)
    layers: dict[str, LayerInFile] = {}
    notes = [f"{miss.node} looks like an SN layer and isn't compared: {miss.reason}" for miss in found.near_misses]
    for node, name in _named_nodes(model):
        if node.graph is not model.graph:
            notes.append(f"layer {name} isn't compared: it is in a subgraph")
            continue
        try:
            layers[name] = _from_decomposed(by_node[node], name) if node in by_node else _from_node(node, name)
        except SnDeployError as error:
            notes.append(f"layer {name} isn't compared: {error.what}")
            continue
        if as_written:
            layers[name].points.update(_behind(node, renamed))
    return LayersInFile(layers, notes)


@dataclass(frozen=True)
class _Read:
    """A decomposed layer: its meaning, X and Y."""

    folded: FoldedSwitchNorm
    x: TensorRef
    y: TensorRef


def _named_nodes(model: ir.Model) -> Iterator[tuple[ir.Node, str]]:
    """Our nodes, plain and on blocks, with the names of their layers."""
    calls: Counter[str] = Counter()
    ours = set(switch_norm_nodes(model))
    for node in model.graph.all_nodes():
        if node in ours or (node.domain == op.BLOCKED_DOMAIN and node.op_type in op.OP_TYPES):
            layer = node.metadata_props.get(op.METADATA_LAYER) or node.name or str(node.outputs[0].name)
            calls[layer] += 1
            yield node, layer if calls[layer] == 1 else f"{layer}#{calls[layer]}"


def _from_decomposed(read: _Read, name: str) -> LayerInFile:
    return LayerInFile(TappedLayer(name, read.folded, False), read.x, {op.SWITCH_NORM: Point(read.y)})


def _from_node(node: ir.Node, name: str) -> LayerInFile:
    folded = folded_from_node(node, name)
    blocked = folded.channels if node.domain == op.BLOCKED_DOMAIN else None

    def reference(value: ir.Value | None) -> TensorRef:
        assert value is not None
        return TensorRef(str(value.name), blocked_channels=blocked)

    has_residual = node.op_type == op.SWITCH_NORM_ADD_RELU
    residual = reference(node.inputs[1 + len(op.PARAMETERS)]) if has_residual else None
    points = {node.op_type: Point(reference(node.outputs[0]), residual)}
    return LayerInFile(TappedLayer(name, folded, True), reference(node.inputs[0]), points)


def _behind(node: ir.Node, renamed: Mapping[ir.Value, str]) -> dict[str, Point]:
    """The point after the ReLU, or the residual and the ReLU, that follow a plain node and could be fused with it.

    Args:
        renamed: values that the file knows under another name -> that name.
    """
    if (node.domain, node.op_type) != (op.DOMAIN, op.SWITCH_NORM):
        return {}
    epilogue = epilogue_of(node)
    if not isinstance(epilogue, Epilogue):
        return {}
    output = TensorRef(str(epilogue.chain[-1].outputs[0].name))
    if epilogue.residual is None:
        return {op.SWITCH_NORM_RELU: Point(output)}
    residual = renamed.get(epilogue.residual, str(epilogue.residual.name))
    return {op.SWITCH_NORM_ADD_RELU: Point(output, TensorRef(residual))}
