"""What a model takes and gives, and whether requests can be put together along its first axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from sn_deploy.errors import SnDeployError
from sn_deploy.onnx_file import read_proto
from sn_deploy.runtime.tensors import TensorInfo
from sn_deploy.runtime.triton import DATATYPES


@dataclass(frozen=True)
class Interface:
    """The inputs and outputs of a model, in its own order.

    Attributes:
        inputs, outputs: shapes with all axes.
        why_not_batched: why the first axis of all of them isn't a batch of any size; None where it is one.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    why_not_batched: str | None

    @property
    def batched(self) -> bool:
        """Whether a server may put requests together."""
        return self.why_not_batched is None


def interface_from_onnx(path: Path) -> Interface:
    """The interface that an ONNX file states; its weights aren't read.

    Raises:
        SnDeployError: it can't be read, or takes or gives what isn't a tensor of numbers of known rank.
    """
    graph = read_proto(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = tuple(_info(value, path) for value in graph.input if value.name not in weights)
    outputs = tuple(_info(value, path) for value in graph.output)
    if not inputs or not outputs:
        raise SnDeployError("has no inputs or no outputs", where=str(path), expected="an ONNX model")
    return interface_of(inputs, outputs)


def interface_of(inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> Interface:
    """An interface, with what its shapes say of batches."""
    return Interface(tuple(inputs), tuple(outputs), next(_reasons(inputs, outputs), None))


def _reasons(inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> Iterator[str]:
    names = set()
    for kind, infos in (("input", inputs), ("output", outputs)):
        for info in infos:
            if not info.shape:
                yield f"{kind} {info.name} has no axes"
            elif isinstance(info.shape[0], int):
                yield f"the first axis of {kind} {info.name} is fixed to {info.shape[0]}"
            elif info.shape[0] is not None:
                names.add(info.shape[0])
    if len(names) > 1:
        yield f"the first axes have different names: {', '.join(sorted(map(str, names)))}"


def _info(value: onnx.ValueInfoProto, path: Path) -> TensorInfo:
    tensor = value.type.tensor_type
    dtype = ir.DataType(tensor.elem_type).numpy() if value.type.HasField("tensor_type") and tensor.elem_type else None
    if dtype is None or dtype not in DATATYPES.values():
        raise SnDeployError(
            f"{value.name} is of a type that Triton has no name for", where=str(path), expected=", ".join(DATATYPES)
        )
    if not tensor.HasField("shape"):
        raise SnDeployError(f"{value.name} has no shape", where=str(path), mend="export it with a shape")
    # Some exporters write -1 for an axis of any size.
    axes = tuple(
        axis.dim_value if axis.HasField("dim_value") and axis.dim_value >= 0 else (axis.dim_param or None)
        for axis in tensor.shape.dim
    )
    return TensorInfo(value.name, axes, dtype)
