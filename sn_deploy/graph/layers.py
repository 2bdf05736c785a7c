"""The SwitchNorm nodes of a graph: given their functions, their names, and what the file says about itself."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import onnx_ir as ir

import sn_deploy
from sn_deploy.errors import SnDeployError
from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.graph import op
from sn_deploy.graph.function_body import function_body
from sn_deploy.graph.names import taken_names
from sn_deploy.graph.overloads import ALL, GENERAL, check_overload

# The ranks of an X of which nothing is known, such as what a Loop hands on: with these a body takes all others, too.
_ANY_RANK: Final = (2, 3)


def switch_norm_nodes(model: ir.Model) -> list[ir.Node]:
    """The nodes of our operators in the graph and its subgraphs, in the order in which they run."""
    return [node for node in model.graph.all_nodes() if node.domain == op.DOMAIN and node.op_type in op.OP_TYPES]


def needed_nodes(model: ir.Model, where: str, *, mend: str) -> list[ir.Node]:
    """As `switch_norm_nodes`, of a file that has to have some.

    Args:
        where: the file.
        mend: what to do with one that has none.

    Raises:
        SnDeployError: it has none.
    """
    nodes = switch_norm_nodes(model)
    if not nodes:
        raise SnDeployError(
            f"has no SwitchNorm node among its {count_nodes(model)} nodes",
            where=where,
            expected="a file written by `sn-deploy export` without --inline, or by `sn-deploy fuse`",
            mend=mend,
        )
    return nodes


def check_nodes(model: ir.Model, where: str) -> None:
    """Refuses nodes of our operators without what the operators read or make.

    Raises:
        SnDeployError: with the first such node.
    """
    for node in switch_norm_nodes(model):
        wanted = op.input_names(node.op_type)
        if len(node.inputs) != len(wanted) or None in node.inputs or len(node.outputs) != 1 or not node.outputs[0].name:
            raise SnDeployError(
                f"has {sum(value is not None for value in node.inputs)} inputs and {len(node.outputs)} outputs",
                where=f"{where}, node {node.name}",
                expected=f"{node.op_type} of {', '.join(wanted)}, with one output",
                mend="export it again",
            )
        _check_function(model, node, where)


def _check_function(model: ir.Model, node: ir.Node, where: str) -> None:
    """Refuses a node with a weight that its function declares and doesn't read.

    Tools that know no overloads (onnx-graphsurgeon) leave one function of a name, maybe that of another layer. Ours
    declare all weights, whatever they read; one of somebody else's under our name says nothing of them.
    """
    function = model.functions.get(node.op_identifier())
    if function is None:
        return
    read = {attribute.ref_attr_name for inner in function.all_nodes() for attribute in inner.attributes.values()}
    for name in op.FLOAT_ATTRIBUTES:
        given = node.attributes.get(name)
        if name not in function.attributes or name in read or given is None or given.is_ref():
            continue
        if given.value:
            raise SnDeployError(
                f"has a weight of {given.value:.3g} for {name}, which its function {node.op_type} leaves out",
                where=f"{where}, node {node.name}",
                expected="the function that was written for it; a tool has lost the overloads of sn-deploy specialise",
                mend="give that tool what sn-deploy inline makes of the file that it was given",
            )


def constant_parameters(node: ir.Node) -> dict[str, ir.TensorProtocol] | None:
    """The parameters of a node of our operators, or of their blocked forms; None where one of them is no constant."""
    tensors = {}
    for name, value in zip(op.PARAMETERS, node.inputs[1:], strict=False):
        tensor = None if value is None or value.is_graph_input() else ir.convenience.get_const_tensor(value)
        if tensor is None:
            return None
        tensors[name] = tensor
    return tensors if len(tensors) == len(op.PARAMETERS) else None


def folded_from_node(node: ir.Node, name: str) -> FoldedSwitchNorm:
    """The meaning of a node of our operators, or of their blocked forms.

    Args:
        name: of the layer.

    Raises:
        SnDeployError: its parameters aren't constant, or it breaks the operator's contract.
    """
    tensors = constant_parameters(node)
    if tensors is None:
        raise SnDeployError("its parameters are no constants", where=f"node {name}")
    weights = {key: number_of(node, key, f"node {name}") for key in op.FLOAT_ATTRIBUTES}
    arrays: dict[str, Any] = {key: np.asarray(tensor.numpy(), dtype=np.float64) for key, tensor in tensors.items()}
    return FoldedSwitchNorm(
        name=name,
        **arrays | weights,
        mean_bn=_share_of_bn(node, op.METADATA_MEAN_BN, 1.0 - weights["mean_in"] - weights["mean_ln"]),
        var_bn=_share_of_bn(node, op.METADATA_VAR_BN, 1.0 - weights["var_in"] - weights["var_ln"]),
        ddof=int(number_of(node, "ddof", f"node {name}", ir.AttributeType.INT)),
    )


def number_of(node: ir.Node, key: str, where: str, kind: ir.AttributeType = ir.AttributeType.FLOAT) -> float:
    """The number in an attribute that the operator demands.

    Raises:
        SnDeployError: there is none, or one of another kind.
    """
    attribute = node.attributes.get(key)
    if attribute is None or attribute.type != kind:
        met = "is missing" if attribute is None else f"is of type {attribute.type.name}"
        wanted = "a float" if kind == ir.AttributeType.FLOAT else "an int"
        raise SnDeployError(f"attribute {key} {met}", where=where, expected=wanted, mend="export it again")
    return float(attribute.value)


def _share_of_bn(node: ir.Node, key: str, default: float) -> float:
    """As the node's metadata has it, if it does."""
    try:
        return float(node.metadata_props[key])
    except (KeyError, ValueError):
        return default


def count_nodes(model: ir.Model) -> int:
    """The number of nodes of the graph and its subgraphs; a function counts where it is called, not by its body."""
    return sum(1 for _ in model.graph.all_nodes())


def complete(model: ir.Model) -> None:
    """Makes a captured graph a file of ours: functions, names and provenance. Changes ``model``.

    Raises:
        SnDeployError: an opset without a function body.
    """
    _drop_exporter_metadata(model)
    _name_layers(model)
    write_functions(model)
    model.producer_name, model.producer_version = "sn-deploy", sn_deploy.__version__


def _drop_exporter_metadata(model: ir.Model) -> None:
    # torch writes the stack trace of each node into the file: the paths of the machine it was exported on, and a
    # third of a small file's size.
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        for key in [key for key in node.metadata_props if not key.startswith("sn_deploy.")]:
            del node.metadata_props[key]
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def _name_layers(model: ir.Model) -> None:
    """Names each node, and the tensor that it writes, after its layer; a layer called again gets ``#2`` and so on."""
    calls: Counter[str] = Counter()
    taken = taken_names(model)
    for node in switch_norm_nodes(model):
        layer = node.metadata_props.get(op.METADATA_LAYER) or op.SWITCH_NORM
        calls[layer] += 1
        name = layer if calls[layer] == 1 else f"{layer}#{calls[layer]}"
        node.name = name
        output = node.outputs[0]
        if not output.is_graph_output() and name not in taken:
            output.name = name
            taken.add(name)


def write_functions(model: ir.Model) -> None:
    """Gives the file a function for each of our operators that it uses, and for no other. Changes ``model``.

    The general one of an operator comes first, whatever overloads its nodes ask for, and last, as the overload `ALL`:
    that is the one which a runtime takes that doesn't know overloads. Nodes that need it ask for the latter where there
    are others.

    Raises:
        SnDeployError: an overload that isn't ours or leaves out what the node uses, or an opset without a function
            body.
    """
    for name in [name for name in model.functions if name[0] == op.DOMAIN]:
        del model.functions[name]
    shapes: dict[tuple[str, str], list[ir.Shape | None]] = {}
    nodes = switch_norm_nodes(model)
    with_overloads = {node.op_type for node in nodes if node.overload not in (GENERAL, ALL)}
    for node in nodes:
        x = node.inputs[0]
        assert x is not None
        check_overload(node)
        overloads = {GENERAL}
        if node.op_type in with_overloads:
            node.overload = node.overload or ALL
            overloads |= {node.overload, ALL}
        elif node.overload == ALL:
            node.overload = GENERAL
        for overload in overloads:
            shapes.setdefault((node.op_type, overload), []).append(x.shape)
    for (op_type, overload), own in sorted(shapes.items(), key=lambda item: (item[0][0], item[0][1] == ALL, item[0])):
        ranks = {rank for shape in own for rank in (_ANY_RANK if shape is None else (len(shape),))}
        positions = _most_positions(own)
        opset = model.opset_imports[""]
        proto = function_body(opset, ranks, most_positions=positions, op_type=op_type, overload=overload)
        body = ir.serde.deserialize_function(proto)
        model.functions[body.identifier()] = body
    if shapes:
        model.opset_imports[op.DOMAIN] = op.VERSION


def _most_positions(shapes: Sequence[ir.Shape | None]) -> int | None:
    """The largest HW; None where one is dynamic."""
    extents = [(None,) if shape is None else shape[2:] for shape in shapes]
    if not all(isinstance(axis, int) for axes in extents for axis in axes):
        return None
    return max(math.prod(axis for axis in axes if isinstance(axis, int)) for axes in extents)
