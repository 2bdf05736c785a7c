"""QuantizeLinear and DequantizeLinear around convolutions, as TensorRT and ONNX Runtime fuse them.

What a convolution reads goes through one Q/DQ pair: int8 or float8 (E4M3), symmetric, one scale for the tensor. Its
weights are stored quantized, with a scale for each output channel. Nothing else is touched: what it writes, what SN
reads, its parameters and residuals stay as they are, so each SN layer is one plugin between two convolutions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx_ir as ir

from sn_deploy.errors import SnDeployError
from sn_deploy.graph.names import taken_by_nodes, taken_names, unused
from sn_deploy.graph.precision import HALF_TYPES
from sn_deploy.python_words import in_callers_words
from sn_deploy.runtime.tensors import Array


@dataclass(frozen=True)
class Format:
    """A type to quantize to: symmetric, so that zero is 0; ``largest`` is its largest number."""

    dtype: ir.DataType
    largest: float
    min_opset: int


FORMATS: Final = {
    "int8": Format(ir.DataType.INT8, 127.0, 13),
    "fp8": Format(ir.DataType.FLOAT8E4M3FN, 448.0, 21),
}
# Quantized by default: MatMul isn't, since its weights may be on either side.
QUANTIZED_OPS: Final = ("Conv", "ConvTranspose", "Gemm")

_KEPT: Final = "kept by --keep, --keep-first or --keep-last"
_SCALES: Final = {"fp32": ir.DataType.FLOAT, **HALF_TYPES}


@dataclass(frozen=True)
class Quantized:
    """What `quantize_convolutions` did.

    Attributes:
        nodes: the convolutions that compute on quantized tensors now.
        left: node -> why it doesn't.
        ranges: tensor that is quantized -> the absolute value that the largest number stands for.
    """

    nodes: tuple[str, ...]
    left: Mapping[str, str]
    ranges: Mapping[str, float]


def convolutions(model: ir.Model) -> list[ir.Node]:
    """The nodes that may be quantized, in the order in which they run."""
    return [node for node in model.graph if node.domain == "" and node.op_type in QUANTIZED_OPS]


def quantize_convolutions(
    model: ir.Model,
    precision: str,
    ranges: Mapping[str, float],
    *,
    keep: Collection[ir.Node] = (),
    scales: str = "fp32",
) -> Quantized:
    """Puts Q/DQ pairs in front of convolutions, and their weights into the type. Changes ``model``, a float32 graph.

    Args:
        precision: ``int8`` or ``fp8``.
        ranges: tensor -> absolute value up to which it is represented, from calibration.
        keep: nodes to leave as they are.
        scales: the type that scales will be stored in, ``fp32``, ``fp16`` or ``bf16``; each is rounded up to it before
            anything is divided by it.

    Raises:
        SnDeployError: another precision, a range that is no number, or no convolution that can be quantized.
    """
    if precision not in FORMATS:
        raise SnDeployError(f"{precision!r} is no such precision", where="--precision", expected=" or ".join(FORMATS))
    work = _Work(model, FORMATS[precision], ranges, _SCALES[scales].numpy())
    nodes: list[str] = []
    left: dict[str, str] = {}
    for node in convolutions(model):
        reason = in_callers_words(_KEPT) if node in keep else work.why_not(node)
        if reason is not None:
            left[node.name or node.op_type] = reason
            continue
        work.quantize(node)
        nodes.append(node.name or node.op_type)
    if not nodes:
        reason = next(iter(left.values()), f"it has no {', '.join(QUANTIZED_OPS)}")
        raise SnDeployError(f"nothing of it can be quantized: {reason}", where="--precision")
    work.drop_unused()
    return Quantized(tuple(nodes), left, {name: ranges[name] for name in work.quantized})


class _Work:
    def __init__(self, model: ir.Model, form: Format, ranges: Mapping[str, float], scale_type: np.dtype[Any]) -> None:
        self._graph, self._form, self._ranges, self._scale_type = model.graph, form, ranges, scale_type
        self.quantized: list[str] = []
        self._activations: dict[ir.Value, ir.Value] = {}
        self._weights: dict[tuple[ir.Value, int], ir.Value] = {}
        self._names = taken_names(model) | taken_by_nodes(model)

    def why_not(self, node: ir.Node) -> str | None:
        """A reason why the node stays as it is."""
        x, weight = node.inputs[0], node.inputs[1]
        assert x is not None
        assert weight is not None
        if x.dtype != ir.DataType.FLOAT or weight.dtype != ir.DataType.FLOAT:
            return f"it computes in {x.dtype.numpy() if x.dtype else 'an unknown type'}, not in float32"
        if (made_by := weight.producer()) is not None and made_by.op_type == "DequantizeLinear":
            return "it is quantized already"
        if weight.const_value is None or weight.is_graph_input():
            return "its weights aren't constant"
        if (x.name or "") not in self._ranges:
            return "its input has no range: no data reached it"
        largest = self._ranges[x.name or ""]
        if not np.isfinite(largest):
            raise SnDeployError(
                "isn't finite on the data", where=f"the input of {node.name}", mend="give usual samples with --data"
            )
        if largest == 0:
            return "its input is 0 on all of the data"
        return None

    def quantize(self, node: ir.Node) -> None:
        """Both inputs of the node, through their pairs."""
        x, weight = node.inputs[0], node.inputs[1]
        assert x is not None
        assert weight is not None
        node.replace_input_with(0, self._activation(x))
        node.replace_input_with(1, self._weight(weight, _output_axis(node)))

    def _activation(self, value: ir.Value) -> ir.Value:
        known = self._activations.get(value)
        if known is not None:
            return known
        name = value.name or ""
        scale = self._scale(f"{name}_scale", np.array(self._ranges[name] / self._form.largest))
        zero, attributes = self._zero(name, ())
        title = unused(f"quantize_{name}", self._names)
        quantize = ir.node("QuantizeLinear", [value, scale, *zero], attributes, name=title)
        q = quantize.outputs[0]
        q.name, q.shape, q.type = unused(f"{name}_quantized", self._names), value.shape, ir.TensorType(self._form.dtype)
        dequantize = self._dequantize([q, scale, *zero], value)
        made = dequantize.outputs[0]
        producer = value.producer()
        if producer is None:
            self._graph.insert_before(self._graph[0], [quantize, dequantize])
        else:
            self._graph.insert_after(producer, [quantize, dequantize])
        self._activations[value] = made
        self.quantized.append(name)
        return made

    def _weight(self, value: ir.Value, axis: int) -> ir.Value:
        known = self._weights.get((value, axis))
        if known is not None:
            return known
        assert value.const_value is not None
        array = value.const_value.numpy().astype(np.float64)
        others = tuple(other for other in range(array.ndim) if other != axis)
        largest = np.abs(array).max(others)  # (output channels,)
        scales = np.where(largest > 0, largest, 1.0) / self._form.largest
        name = value.name or ""
        scale = self._scale(f"{name}_scale", scales)
        assert scale.const_value is not None
        column = [1] * array.ndim
        column[axis] = -1
        divided = array / scale.const_value.numpy().astype(np.float64).reshape(column)
        q = self._constant(f"{name}_quantized", _stored(divided, self._form), self._form.dtype)
        zero, _ = self._zero(name, (len(scales),))
        dequantize = self._dequantize([q, scale, *zero], value, axis=axis)
        self._graph.insert_before(self._graph[0], dequantize)
        self._weights[value, axis] = dequantize.outputs[0]
        return dequantize.outputs[0]

    def _dequantize(self, inputs: list[ir.Value], value: ir.Value, **attributes: int) -> ir.Node:
        """What gives ``value`` again, but for its rounding."""
        name = unused(f"dequantize_{value.name}", self._names)
        node = ir.node("DequantizeLinear", inputs, attributes, name=name)
        made = node.outputs[0]
        made.name, made.shape, made.type = unused(f"{value.name}_dequantized", self._names), value.shape, value.type
        return node

    def _zero(self, name: str, shape: tuple[int, ...]) -> tuple[list[ir.Value], dict[str, int]]:
        """The zero point, which says the type as well; or the attribute that does."""
        if self._form.dtype == ir.DataType.INT8:
            return [self._constant(f"{name}_zero", np.zeros(shape, self._form.dtype.numpy()), self._form.dtype)], {}
        # Behind a ReLU, ONNX Runtime (1.32, CPU) takes a zero point of float8 for the type's smallest number, and the
        # ReLU out.
        return [], {"output_dtype": int(self._form.dtype)}

    def _scale(self, name: str, exact: Array) -> ir.Value:
        return self._constant(name, _rounded_up(exact, self._scale_type).astype(np.float32), ir.DataType.FLOAT)

    def _constant(self, wanted: str, array: Array, dtype: ir.DataType) -> ir.Value:
        name = unused(wanted, self._names)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(dtype))
        value.const_value = ir.Tensor(array, dtype=dtype, name=name)
        self._graph.register_initializer(value)
        return value

    def drop_unused(self) -> None:
        """Weights that nothing reads in float32 any more."""
        for value, _ in self._weights:
            name = value.name or ""
            if not value.uses() and not value.is_graph_output() and name in self._graph.initializers:
                del self._graph.initializers[name]


def _output_axis(node: ir.Node) -> int:
    """The axis of the weights that counts output channels."""
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        transposed = node.attributes.get("transB")
        return 0 if transposed is not None and transposed.as_int() else 1
    return 0


def _stored(divided: Array, form: Format) -> Array:
    """In units of the scale, rounded to even and saturated."""
    limited = np.clip(divided, -form.largest, form.largest)
    if form.dtype == ir.DataType.INT8:
        limited = np.rint(limited)
    return limited.astype(np.float32).astype(form.dtype.numpy())


def _rounded_up(exact: Array, dtype: np.dtype[Any]) -> Array:
    """The smallest number of the type that isn't below, and isn't 0: nothing saturates."""
    made = exact.astype(dtype)
    bits = made.view(np.uint16 if dtype.itemsize == 2 else np.uint32)
    above = (bits + 1).astype(bits.dtype).view(dtype)
    result: Array = np.where(made.astype(np.float64) < exact, above, made)
    return result
