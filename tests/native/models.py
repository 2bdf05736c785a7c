"""Models of the operators for the native library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper

from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.runtime.ort import OrtSession
from tests.cases import DTYPES
from tests.single_node import ELEMENT_TYPES, single_node_model

Array = npt.NDArray[Any]

# Older ONNX Runtimes compute in bfloat16, but their Python binding passes none.
_BINDING_HAS_BFLOAT16: Final = hasattr(onnxruntime.OrtValue, "ortvalue_from_numpy_with_onnx_type")


def operator_model(
    op: str,
    folded: FoldedSwitchNorm,
    shape: Sequence[int | str | None],
    dtype: str,
    *,
    residual_dtype: str | None = None,
) -> onnx.ModelProto:
    """``Y = op(X[, residual])`` without a function: only a runtime that has the operator runs it."""
    model = single_node_model(folded, shape, dtype, op_type=op, ranks={3}, output_shape=False)
    del model.functions[:]
    if residual_dtype is not None:
        model.graph.input[1].type.tensor_type.elem_type = ELEMENT_TYPES[residual_dtype]
    return model


def chain_model(folded: FoldedSwitchNorm, shape: Sequence[int | str], *, keep: bool) -> onnx.ModelProto:
    """A = X + 1, B = SN(A), C = SN(B): values that a runtime may write in place. With ``keep`` A and B are outputs."""
    model = operator_model("SwitchNorm", folded, shape, "float32")
    first = model.graph.node.pop()
    second = onnx.NodeProto()
    second.CopyFrom(first)
    first.input[0], first.output[0], first.name = "A", "B", "first"
    second.input[0], second.output[0], second.name = "B", "C", "second"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1), "one"))
    model.graph.node.extend([helper.make_node("Add", ["X", "one"], ["A"]), first, second])
    del model.graph.output[:]
    for name in ("A", "B", "C") if keep else ("C",):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return model


def run(model: onnx.ModelProto, inputs: dict[str, Array], library: str | None, threads: int = 1) -> dict[str, Array]:
    """All outputs of one run."""
    if any(x.dtype == DTYPES["bfloat16"] for x in inputs.values()) and not _BINDING_HAS_BFLOAT16:
        wide = {name: x.astype(np.float32) for name, x in inputs.items()}
        results = run(_with_float32_borders(model), wide, library, threads)
        return {name: y.astype(DTYPES["bfloat16"]) for name, y in results.items()}
    with OrtSession(model.SerializeToString(), threads=threads, custom_op_library=library) as session:
        return session.run(inputs)


def _with_float32_borders(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its bfloat16 inputs and outputs cast, which loses nothing, from and to float32."""
    cast = onnx.ModelProto()
    cast.CopyFrom(model)
    graph = cast.graph
    for node in graph.node:
        node.input[:] = [
            f"{name}_own" if name in {value.name for value in graph.input} else name for name in node.input
        ]
        node.output[:] = [
            f"{name}_own" if name in {value.name for value in graph.output} else name for name in node.output
        ]
    for value in graph.input:
        graph.node.insert(0, helper.make_node("Cast", [value.name], [f"{value.name}_own"], to=TensorProto.BFLOAT16))
    for value in graph.output:
        graph.node.append(helper.make_node("Cast", [f"{value.name}_own"], [value.name], to=TensorProto.FLOAT))
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    return cast
