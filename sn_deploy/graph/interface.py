"""What an ONNX file states of its inputs and outputs."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import TensorInfo


def stated_interface(model: onnx.ModelProto, path: Path) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """The inputs, but for weights, which old files list there, too, and the outputs, in the file's order.

    Args:
        path: of the file, for errors.

    Raises:
        SnDeployError: one of them is no tensor, or of a type that ONNX doesn't have.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_info(value, path) for value in model.graph.input if value.name not in weights)
    return inputs, tuple(_info(value, path) for value in model.graph.output)


def _info(value: onnx.ValueInfoProto, path: Path) -> TensorInfo:
    if not value.type.HasField("tensor_type"):
        raise SnDeployError(f"{value.name} is no tensor", where=str(path), expected="inputs and outputs of tensors")
    tensor = value.type.tensor_type
    shape = tuple(_axis(dim) for dim in tensor.shape.dim) if tensor.HasField("shape") else None
    try:
        dtype = ir.DataType(tensor.elem_type).numpy()
    except (ValueError, TypeError):
        raise SnDeployError(
            f"{value.name} is of the type {tensor.elem_type}", where=str(path), expected="a type of ONNX"
        ) from None
    return TensorInfo(value.name, shape, dtype)


def _axis(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    """Some exporters write -1 or 0 for an axis of any size."""
    if dim.HasField("dim_value") and dim.dim_value > 0:
        return int(dim.dim_value)
    return str(dim.dim_param) or None
