"""A layer that is an affine map for each channel goes into the weights of the operator before it.

With the statistics constant, y = (x - mean)/sqrt(var)·scale + bias = x·a + b, and a convolution that makes x makes y
with its weights and bias scaled by a, channel by channel, and b added.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sn_deploy.folded import Float64Array, FoldedSwitchNorm
from sn_deploy.graph.weights import new_weight
from sn_deploy.specialise.layers import Layer

Array = npt.NDArray[np.generic]


def affine_from_folded(folded: FoldedSwitchNorm) -> tuple[Float64Array, Float64Array]:
    """a and b, (C,), of a layer without statistics of its input."""
    a = folded.scale / np.sqrt(folded.var_offset)
    return a, folded.bias - folded.mean_offset * a


def why_not_foldable(layer: Layer) -> str | None:
    """Why the layer can't go into the operator before it; None where it can."""
    x = layer.node.inputs[0]
    assert x is not None
    producer = x.producer()
    if producer is None:
        return f"its input {x.name!r} is an input of the graph"
    if (producer.domain, producer.op_type) not in _FOLDERS:
        return f"its input is made by {producer.op_type}, which has no weights to fold it into"
    if producer.graph is not layer.node.graph:
        return f"{x.name!r} is made in another graph"
    if x.is_graph_output():
        return f"{x.name!r} is an output of the graph"
    readers = list(x.uses())
    if len(readers) != 1:
        return f"{x.name!r} is read {len(readers)} times"
    if (layer.folded.var_offset <= 0).any():
        return "its variance is 0 or below in a channel"
    return _why_no_weights(producer, layer)


def fold(layer: Layer, taken: set[str]) -> ir.Value:
    """Folds the layer into its producer, which `why_not_foldable` has nothing against. Changes the graph.

    Args:
        taken: see `sn_deploy.graph.weights.new_weight`.

    Returns:
        The producer's output, which is the layer's now, before what is fused with it.
    """
    x = layer.node.inputs[0]
    assert x is not None
    producer = x.producer()
    assert producer is not None
    weight, bias = _folded_weights(producer, layer)
    for index, (array, name) in enumerate(((weight, "weight"), (bias, "bias")), start=1):
        if index == len(producer.inputs):
            producer.resize_inputs(index + 1)
        folded = new_weight(producer.graph, array, f"{layer.name}.folded_{name}", taken)
        producer.replace_input_with(index, folded)
    if producer.op_type == "Gemm" and "beta" in producer.attributes:
        del producer.attributes["beta"]  # in the bias now
    return x


def _why_no_weights(producer: ir.Node, layer: Layer) -> str | None:
    kind = producer.op_type
    weight = _constant(producer, 1)
    if weight is None:
        return f"the weights of {kind} {producer.name!r} are no constants"
    if len(producer.inputs) > 2 and producer.inputs[2] is not None:
        bias = _constant(producer, 2)
        if bias is None:
            return f"the bias of {kind} {producer.name!r} is no constant"
        if bias.ndim > 1 and any(size != 1 for size in bias.shape[:-1]):
            return f"the bias of {kind} {producer.name!r} differs from row to row"
    folded = _folded_weights(producer, layer)
    if not all(np.isfinite(array.astype(np.float64)).all() for array in folded):
        return f"the weights would leave the range of {weight.dtype}"
    return None


def _folded_weights(producer: ir.Node, layer: Layer) -> tuple[Array, Array]:
    """The producer's weights and bias with the layer in them, computed in float64 and rounded once."""
    a, b = affine_from_folded(layer.folded)
    weight, bias = _constant(producer, 1), _constant(producer, 2)
    assert weight is not None
    old: Float64Array = np.zeros(len(a)) if bias is None else bias.astype(np.float64).reshape(-1)
    if producer.op_type == "Gemm" and "beta" in producer.attributes:
        old = old * producer.attributes["beta"].as_float()
    scaled = _FOLDERS[producer.domain, producer.op_type](producer, weight.astype(np.float64), a)
    with np.errstate(over="ignore"):
        return scaled.astype(weight.dtype), (old * a + b).astype(weight.dtype)


def _scaled_conv(node: ir.Node, weight: Float64Array, a: Float64Array) -> Float64Array:
    return weight * a.reshape(-1, *[1] * (weight.ndim - 1))  # (C, in / group, *kernel)


def _scaled_conv_transpose(node: ir.Node, weight: Float64Array, a: Float64Array) -> Float64Array:
    group = node.attributes["group"].as_int() if "group" in node.attributes else 1
    grouped = weight.reshape(group, -1, *weight.shape[1:])  # (group, in / group, C / group, *kernel)
    scaled = grouped * a.reshape(group, 1, -1, *[1] * (weight.ndim - 2))
    return scaled.reshape(weight.shape)


def _scaled_gemm(node: ir.Node, weight: Float64Array, a: Float64Array) -> Float64Array:
    transposed = "transB" in node.attributes and node.attributes["transB"].as_int() != 0
    return weight * (a[:, None] if transposed else a)  # (C, in) or (in, C)


_FOLDERS: Final[dict[tuple[str, str], Callable[[ir.Node, Float64Array, Float64Array], Float64Array]]] = {
    ("", "Conv"): _scaled_conv,
    ("", "ConvTranspose"): _scaled_conv_transpose,
    ("", "Gemm"): _scaled_gemm,
}


def _constant(node: ir.Node, index: int) -> Array | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()
