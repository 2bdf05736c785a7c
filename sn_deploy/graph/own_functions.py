"""Whether a function that bears the name of one of our operators is one that we wrote.

A file may say anything under our names. Where a function is to be replaced by ours, it has to be ours: another one may
compute something else, and the network would silently become another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final

import onnx
import onnx_ir as ir
from onnx import numpy_helper

from sn_deploy.errors import SnDeployError
from sn_deploy.graph import op
from sn_deploy.graph.function_body import function_body
from sn_deploy.graph.layers import switch_norm_nodes
from sn_deploy.graph.overloads import GENERAL
from sn_deploy.onnx_nodes import STANDARD_DOMAINS

# Of X of all nodes of an operator: one, or several, among which rank 3 makes a difference.
_RANKS: Final = (*((rank,) for rank in range(2, 9)), (2, 4), (2, 3))


def is_ours(function: onnx.FunctionProto, rank: int | None = None) -> bool:
    """Whether it is what `function_body` writes, for any sizes; names of nodes and texts don't count.

    Args:
        rank: of an X that it has to be right for; None for any.
    """
    opset = next((one.version for one in function.opset_import if one.domain in STANDARD_DOMAINS), None)
    if function.domain != op.DOMAIN or function.name not in op.OP_TYPES or opset is None:
        return False
    return _content(function) in _bodies(int(opset), function.name, function.overload, rank)


def check_functions(model: ir.Model, where: str) -> None:
    """Refuses a node of ours whose function, though one of ours, isn't for its rank.

    Raises:
        SnDeployError: with the node.
    """
    for node in switch_norm_nodes(model):
        general = (node.domain, node.op_type, GENERAL)
        function = model.functions.get(node.op_identifier(), model.functions.get(general))
        shape = node.inputs[0].shape if node.inputs and node.inputs[0] is not None else None
        if (
            function is not None
            and shape is not None
            and not is_ours(ir.serde.serialize_function(function), len(shape))
        ):
            raise SnDeployError(
                f"its function {node.op_type} computes something else for an input of rank {len(shape)}",
                where=f"{where}, node {node.name}",
                expected="a function of sn-deploy",
                mend="export it again",
            )


@cache
def _bodies(opset: int, op_type: str, overload: str, rank: int | None) -> frozenset[Any]:
    fitting = [ranks for ranks in _RANKS if rank is None or ranks == (rank,) or len(ranks) > 1]
    return frozenset(_content(function) for function in _functions(opset, op_type, overload, fitting))


def _functions(
    opset: int, op_type: str, overload: str, each: Sequence[tuple[int, ...]]
) -> Iterator[onnx.FunctionProto]:
    for ranks in each:
        for positions in (1, None):
            try:
                yield function_body(opset, ranks, most_positions=positions, op_type=op_type, overload=overload)
            except SnDeployError:  # no such opset or overload
                return


def _content(function: onnx.FunctionProto) -> Any:
    attributes = (*sorted(function.attribute), *(one.name for one in function.attribute_proto))
    opsets = tuple(sorted((one.domain, one.version) for one in function.opset_import if one.domain != op.DOMAIN))
    return tuple(function.input), tuple(function.output), attributes, opsets, tuple(map(_of_node, function.node))


def _of_node(node: onnx.NodeProto) -> Any:
    attributes = tuple(sorted((one.name, _bare(one)) for one in node.attribute))
    return node.domain, node.op_type, node.overload, tuple(node.input), tuple(node.output), attributes


def _bare(attribute: onnx.AttributeProto) -> bytes:
    bare = onnx.AttributeProto()
    bare.CopyFrom(attribute)
    bare.ClearField("doc_string")
    if bare.HasField("t"):  # numbers or bytes, with a name or without
        bare.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bare.t)))
    content: bytes = bare.SerializeToString(deterministic=True)
    return content
