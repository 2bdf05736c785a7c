"""Files at which ONNX's shape inference may end the process: inferred in another one first."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import onnx_ir as ir

from sn_deploy.errors import SnDeployError
from sn_deploy.graph import onnx_process
from sn_deploy.graph.inference_risk import is_risky

# Weights that are larger aren't sent, as none of them says where a Slice begins or ends.
_MOST_BYTES: Final = 1000


def check_inferable(model: ir.Model, where: str | None, *, follow: bool = False) -> None:
    """Whether ONNX's inference comes to its end at ``model``.

    Args:
        where: the file, for errors.
        follow: with the values of shapes followed. What is to be hidden from that has to be hidden.

    Raises:
        SnDeployError: it ends the process.
    """
    if not is_risky(model):
        return
    with contextlib.suppress(onnx_process.TaskError):  # shapes that stay unknown are no error
        try:
            onnx_process.run("follow" if follow else "infer", _without_weights(model))
        except onnx_process.EndedError as error:
            raise SnDeployError(
                f"ONNX's shape inference breaks down at it ({error})",
                where=where,
                expected="a network that can run",
                mend="look for sizes that fall below 0, as behind a convolution that is larger than its input",
            ) from error


def _without_weights(model: ir.Model) -> bytes:
    """The file with its larger weights as inputs: what `onnx_ir.passes.common.ShapeInferencePass` hands to ONNX."""
    with _weights_as_inputs(model.graph):
        content: bytes = ir.to_proto(model).SerializeToString()
    return content


@contextlib.contextmanager
def _weights_as_inputs(graph: ir.Graph) -> Iterator[None]:
    """Changes ``graph``, and changes it back."""
    weights, inputs = dict(graph.initializers), list(graph.inputs)
    try:
        for name, value in weights.items():
            tensor = value.const_value
            if tensor is not None and tensor.nbytes <= _MOST_BYTES:
                continue
            if value not in inputs:
                graph.inputs.append(value)
            del graph.initializers[name]
            if tensor is not None:
                known = ir.Shape([size if isinstance(size, int) else None for size in tensor.shape])
                value.shape = known if value.shape is None else value.shape
                value.dtype = tensor.dtype if value.dtype is None else value.dtype
        yield
    finally:
        graph.inputs.clear()
        graph.inputs.extend(inputs)
        graph.initializers.clear()
        graph.initializers.update(weights)
