"""Fusion of what follows a layer: SwitchNorm, then ReLU, or a residual Add, then ReLU, become one node.

One node reads and writes the activations once where two or three did, and a runtime's own fusions stop at an operator
that it doesn't know. In half precision it rounds once, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from sn_deploy.graph import op
from sn_deploy.graph.layers import switch_norm_nodes, write_functions
from sn_deploy.graph.order import check_order


@dataclass(frozen=True)
class EpilogueFusion:
    """What `fuse_epilogues` did.

    Attributes:
        fused: the new nodes -> names of the nodes that each of them took in, in the order in which they run.
        apart: SwitchNorm nodes that a ReLU, or an Add and a ReLU, does follow -> why they were left apart.
    """

    fused: Mapping[ir.Node, tuple[str, ...]]
    apart: Mapping[ir.Node, str]


@dataclass(frozen=True)
class Epilogue:
    """What follows a SwitchNorm node: the nodes of the chain up to the ReLU, and what the Add in it adds."""

    chain: tuple[ir.Node, ...]
    residual: ir.Value | None


def fuse_epilogues(model: ir.Model) -> EpilogueFusion:
    """Fuses SwitchNorm and what follows it into SwitchNormRelu and SwitchNormAddRelu. Changes ``model``.

    ReLU is Relu, Clip from 0 up without an upper end, or Max with 0; Identity nodes between don't matter. A node is
    left apart where the tensor that would vanish is an output of the graph, or is read by another node or in another
    graph, and where the residual isn't known to have X's shape and type (a broadcast is none). Where both addends come
    from SwitchNorm, the one that runs last is fused: the other's output is there by then. Subgraphs are fused within
    themselves. A fused node keeps the layer's name and metadata; the tensor that it writes keeps the ReLU's name. The
    file's functions follow. A second call changes nothing.

    Raises:
        SnDeployError: nodes of the model are out of order, or a fused form has no function body (see
            `sn_deploy.graph.layers.write_functions`).
    """
    check_order(model, "the model")
    fused: dict[ir.Node, tuple[str, ...]] = {}
    apart: dict[ir.Node, str] = {}
    for node in reversed(switch_norm_nodes(model)):
        found = epilogue_of(node) if node.op_type == op.SWITCH_NORM else None
        if isinstance(found, Epilogue):
            names = tuple(part.name or part.op_type for part in found.chain)
            fused[_replace(node, found)] = names
        elif found is not None:
            apart[node] = found
    if fused:
        write_functions(model)
        check_order(model, "the model")
    in_order = switch_norm_nodes(model)
    return EpilogueFusion(
        {node: fused[node] for node in in_order if node in fused},
        {node: apart[node] for node in in_order if node in apart},
    )


def epilogue_of(node: ir.Node) -> Epilogue | str | None:
    """What follows the node; a reason where something does that can't be fused; None where nothing does."""
    x, graph = node.inputs[0], node.graph
    before, value = _past_identities(node.outputs[0])
    relu = _relu_that_reads(value)
    if relu is not None:
        return _why_needed(value, graph) or Epilogue((*before, relu), None)
    for add in _readers(value):
        if (add.domain, add.op_type) != ("", "Add"):
            continue
        between, total = _past_identities(add.outputs[0])
        relu = _relu_that_reads(total)
        if relu is None:
            continue
        reason = _why_needed(value, graph) or _why_needed(total, graph)
        if reason is not None:
            return reason
        residual = add.inputs[1] if add.inputs[0] is value else add.inputs[0]
        assert x is not None
        assert residual is not None
        return _why_unlike(x, residual) or Epilogue((*before, add, *between, relu), residual)
    return None


def _replace(node: ir.Node, found: Epilogue) -> ir.Node:
    """Puts the fused node where the chain ends: there all that it reads has been made."""
    relu = found.chain[-1]
    assert relu.graph is not None
    fused = ir.Node(
        op.DOMAIN,
        op.SWITCH_NORM_RELU if found.residual is None else op.SWITCH_NORM_ADD_RELU,
        [*node.inputs, *([] if found.residual is None else [found.residual])],
        node.attributes,
        overload=node.overload,
        name=node.name,
        doc_string=node.doc_string,
        metadata_props=dict(node.metadata_props),
    )
    ir.convenience.replace_nodes_and_values(
        relu.graph, relu, [node, *found.chain], [fused], [relu.outputs[0]], [fused.outputs[0]]
    )
    return fused


def _readers(value: ir.Value) -> list[ir.Node]:
    return [use.node for use in value.uses()]


def _past_identities(value: ir.Value) -> tuple[list[ir.Node], ir.Value]:
    """The Identity nodes that follow, as long as nothing else reads what they do, and what the last one makes."""
    passed: list[ir.Node] = []
    graph = _graph_of(value)
    while _why_needed(value, graph) is None:
        (reader,) = _readers(value)
        if (reader.domain, reader.op_type) != ("", "Identity"):
            break
        passed.append(reader)
        value = reader.outputs[0]
    return passed, value


def _graph_of(value: ir.Value) -> ir.Graph | ir.Function | None:
    producer = value.producer()
    return None if producer is None else producer.graph


def _why_needed(value: ir.Value, graph: ir.Graph | ir.Function | None) -> str | None:
    """Why a value can't vanish between the one that makes it and the one that reads it; None where it can."""
    if value.is_graph_output():
        return f"{value.name!r} is an output of the graph"
    readers = _readers(value)
    if len(readers) != 1:
        return f"{value.name!r} is read {len(readers)} times"
    return None if readers[0].graph is graph else f"{value.name!r} is read in another graph"


def _why_unlike(x: ir.Value, residual: ir.Value) -> str | None:
    """Why a residual isn't known to be of X's shape and type; None where it is."""
    if residual is x:
        return None
    if residual.dtype is not None and x.dtype is not None and residual.dtype != x.dtype:
        return f"the residual {residual.name!r} is {residual.dtype.name} and X is {x.dtype.name}"
    if x.shape is None or residual.shape is None:
        return f"the shape of {(x if x.shape is None else residual).name!r} isn't known, so the Add may broadcast"
    known = [_known(dim) for dim in x.shape]
    if None in known or known != [_known(dim) for dim in residual.shape]:
        texts = f"the residual {residual.name!r} is {_text(residual.shape)} and X is {_text(x.shape)}"
        return f"{texts}, so the Add may broadcast"
    return None


def _text(shape: ir.Shape) -> str:
    return "×".join(str(_known(dim) or "?") for dim in shape) or "a scalar"


def _known(dim: int | ir.SymbolicDim) -> int | str | None:
    return dim if isinstance(dim, int) else dim.value


def _relu_that_reads(value: ir.Value) -> ir.Node | None:
    """A node that makes max(value, 0) of a value, and nothing else."""
    return next((use.node for use in value.uses() if _is_relu(use.node, use.idx)), None)


def _is_relu(node: ir.Node, index: int) -> bool:
    """Whether a node makes max(x, 0) of its input ``index``."""
    if node.domain != "":
        return False
    inputs = node.inputs
    if node.op_type == "Clip":
        low, high = (inputs[1], inputs[2]) if len(inputs) == 3 else (*inputs[1:], None, None)[:2]
        return index == 0 and _is_constant(low, 0) and (high is None or _is_constant(high, np.inf))
    if node.op_type == "Max":
        return len(inputs) == 2 and _is_constant(inputs[1 - index], 0)
    return node.op_type == "Relu"


def _is_constant(value: ir.Value | None, number: float) -> bool:
    """Whether a value is one constant number, which no caller of the model can give otherwise."""
    if value is None or value.is_graph_input():
        return False
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is None or tensor.shape.rank() > 1 or tensor.size != 1:
        return False
    return bool(np.all(tensor.numpy() == number))
