"""Models of the operator and its fused forms, and the fused forms' meaning."""

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
from tests.cases import DTYPES, Case
from tests.single_node import ELEMENT_TYPES, single_node_model
from tests.tolerances import TOLERANCES, switch_norm_bound

Array = npt.NDArray[Any]

# Older ONNX Runtimes compute in bfloat16, but their Python binding passes none.
_BINDING_HAS_BFLOAT16: Final = hasattr(onnxruntime.OrtValue, "ortvalue_from_numpy_with_onnx_type")

OPS: Final = ("SwitchNorm", "SwitchNormRelu", "SwitchNormAddRelu")


def operator_model(
    op: str,
    folded: FoldedSwitchNorm,
    shape: Sequence[int | str | None],
    dtype: str,
    *,
    residual_dtype: str | None = None,
) -> onnx.ModelProto:
    """``Y = op(X[, residual])`` without a function: only a runtime that has the operator runs it."""
    model = single_node_model(folded, [2, 2, 2], dtype)
    del model.functions[:]
    node, value = model.graph.node[0], ELEMENT_TYPES[dtype]
    node.op_type = op
    del model.graph.input[:], model.graph.output[:]
    model.graph.input.append(helper.make_tensor_value_info("X", value, list(shape)))
    model.graph.output.append(helper.make_tensor_value_info("Y", value, None))
    if op == "SwitchNormAddRelu":
        node.input.append("residual")
        own = ELEMENT_TYPES[residual_dtype or dtype]
        model.graph.input.append(helper.make_tensor_value_info("residual", own, [None] * len(shape)))
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


def residual_of(case: Case) -> Array:
    """A residual for the case, of X's shape and dtype."""
    return np.random.default_rng(7).normal(size=case.x.shape).astype(case.x.dtype)


def expected(op: str, case: Case, residual: Array) -> npt.NDArray[np.float64]:
    """The operator's output in float64."""
    y = case.folded.evaluate(case.x)
    if op == "SwitchNormAddRelu":
        y = y + residual.astype(np.float64)
    return y if op == "SwitchNorm" else np.maximum(y, 0)


def fused_roundings(op: str, y: Array, case: Case, residual: Array) -> float:
    """As `tests.tolerances.roundings`, for the fused forms: the sum is rounded once, and like what it is stored in."""
    assert y.shape == case.x.shape
    assert y.dtype == case.x.dtype
    if not y.size:
        return 0.0
    exact = expected(op, case, residual)
    own, stored = TOLERANCES["float32"].roundoff, TOLERANCES[case.dtype].roundoff
    # The bound's last part is for storing Y, which here is another number.
    bound = switch_norm_bound(case.folded, case.x) + own * np.abs(exact) + stored * np.abs(exact)
    return float(np.nan_to_num(np.abs(y.astype(np.float64) - exact) / bound, nan=np.inf).max())
