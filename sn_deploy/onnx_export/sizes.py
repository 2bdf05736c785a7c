"""Layers that are SN at one size alone, which no file with a dynamic side may hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx_ir as ir
import torch

from sn_deploy import recognise
from sn_deploy.capture.trace import LayerTrace
from sn_deploy.errors import SnDeployError
from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.graph import layers as graph_layers
from sn_deploy.graph import op


def at_one_size(
    model: torch.nn.Module, layers: Mapping[str, FoldedSwitchNorm], traces: Mapping[str, LayerTrace]
) -> set[str]:
    """The layers that are what was proved at the sizes of the example alone."""
    holds = recognise.holds_at_other_sizes
    return {
        name
        for name, folded in layers.items()
        if len(shape := traces[name].shapes[0]) > 2 and not holds(model.get_submodule(name), folded, shape)
    }


def refuse_other_sizes(model: ir.Model, fixed: Collection[str]) -> None:
    """Refuses a dynamic side at a layer of ``fixed``, which is another function of its input at other sizes."""
    for node in graph_layers.switch_norm_nodes(model):
        name, x = node.metadata_props[op.METADATA_LAYER], node.inputs[0]
        if name not in fixed or x is None or x.shape is None:
            continue
        dynamic = [str(dim) for dim in x.shape[2:] if not isinstance(dim, int)]
        if dynamic:
            raise SnDeployError(
                f"is Switchable Normalization at the example's size alone, and its input has the dynamic side "
                f"{dynamic[0]}: at others it differs, by the divisor of a variance or as it is made for one size",
                where=f"layer {name!r}",
                expected="static sides: --dynamic batch",
                mend="export a file for each size, or compare its forward with the published one for what depends on "
                "the size",
            )
