"""Overloads of our functions: bodies that leave out the statistics for which a layer has no weight.

A node's ``overload`` names the statistics that its layer uses. Who doesn't know overloads (TensorRT's parser goes by
name and takes the first function) gets the general body, which `sn_deploy.graph.layers.write_functions` puts first and
which is right for every layer. Who takes the last (onnx-graphsurgeon, and onnxslim, which is made of it) gets it, too,
under another name. The native operators are the same for all overloads, and skip by the weights themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import onnx_ir as ir

from sn_deploy.errors import SnDeployError
from sn_deploy.graph.op import FLOAT_ATTRIBUTES

GENERAL: Final = ""

# The overload of a layer that uses neither the input's means nor its variances.
CONSTANT: Final = "constant"

# The general body again, for nodes beside others with overloads: ONNX Runtime up to 1.26 takes the last function of a
# name for nodes without one, whatever it is for.
ALL: Final = "_".join(FLOAT_ATTRIBUTES)

_RANK_2: Final = ("mean_ln", "var_ln")


def overload_from_weights(weights: Mapping[str, float], rank: int) -> str:
    """The overload for a layer with these `FLOAT_ATTRIBUTES`; `GENERAL` where none would be cheaper."""
    possible = _RANK_2 if rank == 2 else FLOAT_ATTRIBUTES
    used = [name for name in possible if weights[name] != 0]
    # On the way to LN's variance all others are computed.
    return GENERAL if "var_ln" in used else "_".join(used) or CONSTANT


def uses_from_overload(overload: str) -> frozenset[str]:
    """Which of `FLOAT_ATTRIBUTES` may be other than 0.

    Raises:
        SnDeployError: no overload of ours.
    """
    if overload == GENERAL:
        return frozenset(FLOAT_ATTRIBUTES)
    if overload == CONSTANT:
        return frozenset()
    used = [name for name in FLOAT_ATTRIBUTES if name in overload]
    if "_".join(used) != overload:
        raise SnDeployError(
            f"no overload of ours: {overload!r}",
            expected=f"{CONSTANT!r}, or some of {', '.join(FLOAT_ATTRIBUTES)}, in this order, joined by '_'",
        )
    return frozenset(used)


def check_overload(node: ir.Node) -> frozenset[str]:
    """What the body of a node's overload uses.

    Raises:
        SnDeployError: no overload of ours, or one that leaves out what the node has a weight for.
    """
    where = f"node {node.name or node.op_type}"
    try:
        used = uses_from_overload(node.overload)
    except SnDeployError as error:
        raise error.but(where=where) from error
    for name in FLOAT_ATTRIBUTES:
        attribute = node.attributes.get(name)
        if name not in used and attribute is not None and attribute.as_float() != 0:
            raise SnDeployError(
                f"its overload {node.overload!r} leaves out {name}, which is {attribute.as_float()}", where=where
            )
    return used
