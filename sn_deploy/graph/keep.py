"""Which nodes of a graph a user means: by node, SN layer or operator, with the layers' convolutions or without."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Collection, Sequence
from typing import Final

import onnx_ir as ir

from sn_deploy.errors import SnDeployError
from sn_deploy.graph import op

# What makes the X of an SN layer, as a rule.
CONVOLUTIONS: Final = ("Conv", "ConvTranspose", "Gemm", "MatMul")

# Operators that may stand between a convolution and its layer.
_BETWEEN: Final = ("Add", "Cast", "DequantizeLinear", "Identity", "QuantizeLinear")


def named_nodes(model: ir.Model, patterns: Sequence[str], *, with_convolutions: bool = False) -> set[ir.Node]:
    """The nodes that a user names: a node, an SN layer, an operator (``Softmax``, ``SwitchNorm``), or a pattern with
    ``*`` and ``?`` of any of these, such as ``layer1.*``.

    Args:
        with_convolutions: also the convolutions that make the X of the SN layers among them.

    Raises:
        SnDeployError: a pattern that nothing matches.
    """
    names = {node: _names(node) for node in model.graph}
    found: set[ir.Node] = set()
    for pattern in patterns:
        own = {node for node, known in names.items() if any(fnmatch.fnmatchcase(name, pattern) for name in known)}
        if not own:
            known = {name for own_names in names.values() for name in own_names}
            raise SnDeployError(
                "no node, SN layer or operator has that name", where=f"--keep {pattern}", expected=_near(pattern, known)
            )
        found |= own
    return with_their_convolutions(found) if with_convolutions else found


def with_their_convolutions(nodes: Collection[ir.Node]) -> set[ir.Node]:
    """The nodes, and the convolutions that make the X of the SN layers among them."""
    made_by = (convolution_of(node) for node in nodes if node.domain == op.DOMAIN)
    return {*nodes, *(node for node in made_by if node is not None)}


def convolution_of(layer: ir.Node) -> ir.Node | None:
    """The convolution (or matrix product) that makes the X of an SN layer; None where something else does."""
    value = layer.inputs[0]
    node = None if value is None else value.producer()
    while node is not None and node.op_type not in CONVOLUTIONS:
        if node.domain != "" or node.op_type not in _BETWEEN or node.inputs[0] is None:
            return None
        node = node.inputs[0].producer()
    return node


def _names(node: ir.Node) -> list[str]:
    names = (node.name, node.op_type, node.metadata_props.get(op.METADATA_LAYER))
    return [name for name in names if name]


def _near(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, [each for each in known if each], n=4, cutoff=0.4)
    return "such as " + ", ".join(near or sorted(known)[:4])
