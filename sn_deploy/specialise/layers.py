"""The SwitchNorm nodes of a file, with what they compute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.graph import op
from sn_deploy.graph.layers import constant_parameters, folded_from_node, switch_norm_nodes
from sn_deploy.graph.overloads import overload_from_weights


@dataclass(frozen=True, eq=False)
class Layer:
    """One SwitchNorm node, of whatever form, whose parameters are constants.

    Attributes:
        node: in its graph.
        name: the node's, unique in the file.
        folded: what it computes before what is fused with it.
        axes: of X: a size, a name, or None.
    """

    node: ir.Node
    name: str
    folded: FoldedSwitchNorm
    axes: tuple[int | str | None, ...]

    @property
    def rank(self) -> int:
        """Of X."""
        return len(self.axes)

    @property
    def positions(self) -> int | None:
        """HW; None where an extent is dynamic."""
        extents = [axis for axis in self.axes[2:] if isinstance(axis, int)]
        return int(np.prod(extents, dtype=np.int64)) if len(extents) == self.rank - 2 else None

    @property
    def weights(self) -> dict[str, float]:
        """The operator's `FLOAT_ATTRIBUTES`."""
        return {name: getattr(self.folded, name) for name in op.FLOAT_ATTRIBUTES}

    @property
    def overload(self) -> str:
        """The function that computes no more than it needs."""
        return overload_from_weights(self.weights, self.rank)


def layers_of(model: ir.Model) -> tuple[list[Layer], dict[str, str]]:
    """The layers of the graph and its subgraphs, in the order in which they run; and node -> why it is none.

    Raises:
        SnDeployError: a node that breaks the operator's contract.
    """
    layers: list[Layer] = []
    unfit: dict[str, str] = {}
    taken: set[str] = set()
    for node in switch_norm_nodes(model):
        name = node.name or str(node.outputs[0].name)
        x = node.inputs[0] if node.inputs else None
        if name in taken:
            unfit[name] = "another node has its name"
        elif constant_parameters(node) is None:
            unfit[name] = "its parameters are no constants"
        elif x is None or x.shape is None:
            unfit[name] = "the rank of its input isn't known"
        else:
            axes = tuple(dim if isinstance(dim, int) else dim.value for dim in x.shape)
            layers.append(Layer(node, name, folded_from_node(node, name), axes))
        taken.add(name)
    return layers, unfit
