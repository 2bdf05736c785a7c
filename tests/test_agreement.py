"""Every backend against the float64 oracle, on cases drawn by Hypothesis. A new backend is one function here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.inliner
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from sn_deploy.graph.op import SWITCH_NORM
from sn_deploy.runtime.ort import OrtSession
from tests.cases import Case, cases
from tests.fused_forms import FUSED, fused_roundings, inputs_of
from tests.single_node import single_node_model
from tests.tolerances import roundings

Array = npt.NDArray[Any]


def _onnxruntime(case: Case, op_type: str = SWITCH_NORM) -> Array:
    return _run(_model(case, op_type), case, op_type)


def _onnxruntime_small_maps(case: Case, op_type: str = SWITCH_NORM) -> Array:
    return _run(_model(case, op_type, most_positions=1000), case, op_type)


def _onnxruntime_any_rank(case: Case, op_type: str = SWITCH_NORM) -> Array:
    model = single_node_model(case.folded, [None] * case.x.ndim, case.dtype, op_type=op_type, ranks={2, 3, 4, 5})
    return _run(model, case, op_type)


def _onnxruntime_inlined(case: Case, op_type: str = SWITCH_NORM) -> Array:
    return _run(onnx.inliner.inline_local_functions(_model(case, op_type)), case, op_type)


def _onnx_reference(case: Case, op_type: str = SWITCH_NORM) -> Array:
    (y,) = ReferenceEvaluator(_model(case, op_type)).run(None, inputs_of(op_type, case))
    return np.asarray(y)


def _openvino_inlined(case: Case, op_type: str = SWITCH_NORM) -> Array:
    openvino = pytest.importorskip("openvino", reason="OpenVINO isn't installed")
    model = onnx.inliner.inline_local_functions(_model(case, op_type))
    core = openvino.Core()
    # Without the hint it computes float32 in bfloat16 where the processor can.
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", options)
    return np.asarray(compiled(inputs_of(op_type, case))[0])


def _model(case: Case, op_type: str, most_positions: int | None = None) -> onnx.ModelProto:
    return single_node_model(case.folded, case.x.shape, case.dtype, op_type=op_type, most_positions=most_positions)


def _run(model: onnx.ModelProto, case: Case, op_type: str) -> Array:
    with OrtSession(model.SerializeToString(), threads=1, native=False) as session:
        return session.run(inputs_of(op_type, case))["Y"]


def check(backend: Callable[[Case], Array], case: Case, allowed: float = 1) -> None:
    """Asserts that a backend's Y is the layer's output, within ``allowed`` times the bound of each of its elements."""
    assert roundings(backend(case), case.folded, case.x) <= allowed


def check_fused(backend: Callable[[Case, str], Array], case: Case, op_type: str, allowed: float = 1) -> None:
    """The same for a fused form."""
    assert fused_roundings(op_type, backend(case, op_type), case) <= allowed


@settings(max_examples=250, deadline=None)
@given(case=cases())
def test_onnxruntime(case: Case) -> None:
    check(_onnxruntime, case)


@settings(max_examples=250, deadline=None)
@given(case=cases())
def test_onnxruntime_with_the_body_of_small_maps(case: Case) -> None:
    check(_onnxruntime_small_maps, case)


@settings(max_examples=100, deadline=None)
@given(case=cases())
def test_onnxruntime_with_the_body_of_any_rank(case: Case) -> None:
    check(_onnxruntime_any_rank, case)


@settings(max_examples=50, deadline=None)
@given(case=cases())
def test_onnxruntime_inlined(case: Case) -> None:
    check(_onnxruntime_inlined, case)


@settings(max_examples=50, deadline=None)
@given(case=cases(dtypes=["float32", "float16"], min_batch=1))
def test_the_reference_evaluator_of_onnx(case: Case) -> None:
    check(_onnx_reference, case)


@settings(max_examples=50, deadline=None)
@given(case=cases(dtypes=["float32", "float16"], min_batch=1))
def test_openvino_inlined(case: Case) -> None:
    # Its reductions and divisions round more than ONNX Runtime's: 1.5 bounds were seen.
    check(_openvino_inlined, case, allowed=4)


# The fused forms, on the same cases.


@settings(max_examples=250, deadline=None)
@given(case=cases(), op_type=st.sampled_from(FUSED))
def test_onnxruntime_fused(case: Case, op_type: str) -> None:
    check_fused(_onnxruntime, case, op_type)


@settings(max_examples=100, deadline=None)
@given(case=cases(), op_type=st.sampled_from(FUSED))
def test_onnxruntime_fused_with_the_body_of_small_maps(case: Case, op_type: str) -> None:
    check_fused(_onnxruntime_small_maps, case, op_type)


@settings(max_examples=100, deadline=None)
@given(case=cases(), op_type=st.sampled_from(FUSED))
def test_onnxruntime_fused_with_the_body_of_any_rank(case: Case, op_type: str) -> None:
    check_fused(_onnxruntime_any_rank, case, op_type)


@settings(max_examples=50, deadline=None)
@given(case=cases(), op_type=st.sampled_from(FUSED))
def test_onnxruntime_fused_and_inlined(case: Case, op_type: str) -> None:
    check_fused(_onnxruntime_inlined, case, op_type)


@settings(max_examples=50, deadline=None)
@given(case=cases(dtypes=["float32", "float16"], min_batch=1), op_type=st.sampled_from(FUSED))
def test_the_reference_evaluator_of_onnx_fused(case: Case, op_type: str) -> None:
    check_fused(_onnx_reference, case, op_type)


@settings(max_examples=50, deadline=None)
@given(case=cases(dtypes=["float32", "float16"], min_batch=1), op_type=st.sampled_from(FUSED))
def test_openvino_fused_and_inlined(case: Case, op_type: str) -> None:
    check_fused(_openvino_inlined, case, op_type, allowed=4)
