"""The SN layers of an ONNX file, read without torch and without the file's external data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sn_deploy.errors import SnDeployError
from sn_deploy.graph import op
from sn_deploy.graph.inference import infer_shapes
from sn_deploy.graph.layers import check_nodes, needed_nodes, number_of
from sn_deploy.graph.order import check_order
from sn_deploy.input_file import source_path
from sn_deploy.inspection.layer import LayerWeights, kind_from_rank, spread
from sn_deploy.onnx_file import model_of, read_proto
from sn_deploy.runtime.stamp import refuse_optimised

_EPILOGUES: Final = {
    op.SWITCH_NORM: (),
    op.SWITCH_NORM_RELU: ("ReLU",),
    op.SWITCH_NORM_ADD_RELU: ("residual", "ReLU"),
}

# Weights that come from a softmax in float32 miss their sum of 1 by this much, and a rest below it is no branch.
_ROUNDING: Final = 1e-6


def layers_from_onnx(path: str | os.PathLike[str]) -> list[LayerWeights]:
    """The file's SwitchNorm nodes, subgraphs included, in the order of the graph, which is the order in which they run.

    Raises:
        SnDeployError: no ONNX file, no SwitchNorm in it, nodes out of order, or a node that breaks the operator's
            contract.
    """
    path = source_path(path)
    model = _load(path)
    refuse_optimised(
        path,
        "was made by sn-deploy optimise for {machine}, and its layers are ONNX Runtime's own there",
        "inspect the portable file that it was made of: {source}",
    )
    check_order(model, str(path))
    check_nodes(model, str(path))
    mend = "find the layers that --inline or other tools wrote in standard operators with: sn-deploy fuse"
    return [_layer_from_node(node, path) for node in needed_nodes(model, str(path), mend=mend)]


def _load(path: Path) -> ir.Model:
    model = model_of(read_proto(path, data_may_be_missing=True), path)
    # Shapes that the file doesn't state; a graph that the inference can't follow is shown without them.
    infer_shapes(model, str(path))
    return model


def _layer_from_node(node: ir.Node, path: Path) -> LayerWeights:
    name = node.metadata_props.get(op.METADATA_LAYER) or node.name or str(node.outputs[0].name)
    where = f"{path}, node {name}"
    shape = _shape(node.inputs[0]) if node.inputs else None
    scale = _shape(node.inputs[1]) if len(node.inputs) > 1 else None
    channels = next((dims[i] for dims, i in ((scale, 0), (shape, 1)) if dims is not None and len(dims) > i), None)
    mean, var = (
        _weights(node, statistic, key, where)
        for statistic, key in (("mean", op.METADATA_MEAN_BN), ("var", op.METADATA_VAR_BN))
    )
    return LayerWeights(
        name,
        kind_from_rank(len(shape) if shape is not None else None),
        channels if isinstance(channels, int) else None,
        shape,
        mean,
        var,
        _EPILOGUES[node.op_type],
        gamma=spread(_constant(node, 1)),
        population_mean=spread(_unfolded(_constant(node, 3), mean[2])),
        population_var=spread(_unfolded(_constant(node, 4), var[2])),
    )


def _constant(node: ir.Node, index: int) -> npt.NDArray[Any] | None:
    """The values of an input, where the file itself has them."""
    value = node.inputs[index] if len(node.inputs) > index else None
    tensor = None if value is None else value.const_value
    return None if tensor is None or isinstance(tensor, ir.ExternalTensor) else tensor.numpy()


def _unfolded(offset: npt.NDArray[Any] | None, share: float) -> npt.NDArray[Any] | None:
    """The statistics behind share·statistics; None where nothing of them is in it."""
    return None if offset is None or abs(share) < _ROUNDING else offset.astype(np.float64) / share


def _weights(node: ir.Node, statistic: str, metadata_key: str, where: str) -> tuple[float, float, float]:
    w_in, w_ln = (number_of(node, f"{statistic}_{branch}", where) for branch in ("in", "ln"))
    text = node.metadata_props.get(metadata_key)
    if text is None:
        rest = 1.0 - w_in - w_ln
        return w_in, w_ln, 0.0 if abs(rest) < _ROUNDING else rest
    try:
        return w_in, w_ln, float(text)
    except ValueError:
        raise SnDeployError(f"metadata {metadata_key} is {text!r}", where=where, expected="a number") from None


def _shape(value: ir.Value | None) -> tuple[int | str | None, ...] | None:
    if value is None or value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else dim.value for dim in value.shape)
