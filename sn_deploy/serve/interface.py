"""What a model takes and gives, and whether requests can be put together along its first axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sn_deploy.errors import SnDeployError
from sn_deploy.graph.interface import stated_interface
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
    inputs, outputs = stated_interface(read_proto(path), path)
    for info in (*inputs, *outputs):
        if info.dtype not in DATATYPES.values():
            raise SnDeployError(
                f"{info.name} is of a type that Triton has no name for", where=str(path), expected=", ".join(DATATYPES)
            )
        if info.shape is None:
            raise SnDeployError(f"{info.name} has no shape", where=str(path), mend="export it with a shape")
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
