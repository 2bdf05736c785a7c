"""The SN layers of a portable file, as far as their place in another graph needs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from sn_deploy.graph import op
from sn_deploy.graph.layers import constant_parameters, switch_norm_nodes


@dataclass(frozen=True, eq=False)
class Layer:
    """One SwitchNorm node, of whatever form.

    Attributes:
        node: in the graph of the portable file.
        name: the node's, for people.
        tag: a name that no other node has, under which it is found again.
        attributes: as in `sn_deploy.graph.op`.
        parameters: its four (C,) constants; None where one of them is no constant.
        metadata: the node's metadata_props.
        made_by: the operators that make its input, and its residual.
        axes: of its input, each a number or a name; None where its rank isn't known.
        unfit: why it can't be on blocks, where the file shows that already.
    """

    node: ir.Node
    name: str
    tag: str
    attributes: Mapping[str, ir.Attr]
    parameters: tuple[ir.TensorProtocol, ...] | None
    metadata: Mapping[str, str]
    made_by: str
    axes: tuple[int | str, ...] | None
    unfit: str | None


def layers_of(model: ir.Model) -> tuple[Layer, ...]:
    """The layers of the graph and its subgraphs, in the order in which they run."""
    return tuple(_layer(node, f"sn_deploy.layer.{index}") for index, node in enumerate(switch_norm_nodes(model)))


def _layer(node: ir.Node, tag: str) -> Layer:
    parameters = _parameters(node)
    return Layer(
        node,
        node.name or str(node.outputs[0].name),
        tag,
        dict(node.attributes),
        parameters,
        dict(node.metadata_props),
        " and ".join(_maker(value) for value in (node.inputs[0], *node.inputs[1 + len(op.PARAMETERS) :])),
        _axes(node.inputs[0], tag),
        "its parameters are no constants" if parameters is None else _why_no_blocks(node.inputs[0]),
    )


def _maker(value: ir.Value | None) -> str:
    producer = None if value is None else value.producer()
    return "an input of the graph" if producer is None else producer.op_type


def _axes(x: ir.Value | None, tag: str) -> tuple[int | str, ...] | None:
    """An extent without a name gets one: what is equal has to be seen to be."""
    if x is None or x.shape is None:
        return None
    dims = [dim if isinstance(dim, int) else dim.value for dim in x.shape]
    return tuple(f"{tag}.axis_{axis}" if dim is None else dim for axis, dim in enumerate(dims))


def _parameters(node: ir.Node) -> tuple[ir.TensorProtocol, ...] | None:
    tensors = (constant_parameters(node) or {}).values()
    return tuple(tensors) if len({tuple(tensor.shape) for tensor in tensors}) == 1 else None


def _why_no_blocks(x: ir.Value | None) -> str | None:
    """ONNX Runtime has blocks of float32 images only."""
    if x is not None and x.dtype not in (None, ir.DataType.FLOAT):
        return f"its input is {x.dtype.name.lower()}, and blocks are float32"
    if x is not None and x.shape is not None and len(x.shape) != 4:
        return f"its input is of rank {len(x.shape)}, and blocks are of images, (N, C, H, W)"
    return None
