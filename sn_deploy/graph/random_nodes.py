"""Nodes that draw random numbers: what is made of such a file can't be held against it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import onnx_ir as ir

from sn_deploy.errors import SnDeployError
from sn_deploy.onnx_nodes import is_standard

_RANDOM_OPS: Final = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
_TRAINING_MODE: Final = 2  # the input of Dropout that says so


def draws(node: ir.Node) -> bool:
    """Whether an operator of the ONNX standard draws random numbers: Dropout does in training mode."""
    if not is_standard(node):
        return False
    if node.op_type != "Dropout":
        return node.op_type in _RANDOM_OPS
    training = node.inputs[_TRAINING_MODE] if len(node.inputs) > _TRAINING_MODE else None
    if training is None:
        return False
    value = ir.convenience.get_const_tensor(training)
    return value is None or bool(value.numpy())


def unseeded(model: ir.Model) -> Iterator[ir.Node]:
    """The nodes that draw other numbers in each run. With a seed ONNX Runtime draws the same."""
    holders: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for holder in holders:
        yield from (node for node in holder.all_nodes() if draws(node) and "seed" not in node.attributes)


def refuse_random(model: ir.Model, where: str) -> None:
    """Refuses a graph in which a node draws other numbers in each run.

    Args:
        where: the file.

    Raises:
        SnDeployError: with the first such node.
    """
    for node in unseeded(model):
        what = "drops values at random (it is in training mode)" if node.op_type == "Dropout" else "is random"
        raise SnDeployError(
            f"{what}, so the file computes something else each time, and nothing that is made of it can be held "
            "against it",
            where=f"{where}, node {node.name or node.outputs[0].name} ({node.op_type})",
            mend="export the model in evaluation mode; if it is to be random there, too, give the node a seed",
        )
