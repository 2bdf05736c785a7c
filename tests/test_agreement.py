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
from onnx.reference import ReferenceEvaluator

from sn_deploy.runtime.ort import OrtSession
from tests.cases import Case, cases
from tests.single_node import single_node_model
from tests.tolerances import roundings

Array = npt.NDArray[Any]


def _onnxruntime(case: Case) -> Array:
    model = single_node_model(case.folded, case.x.shape, case.dtype)
    return _run(model, case.x)


def _onnxruntime_small_maps(case: Case) -> Array:
    model = single_node_model(case.folded, case.x.shape, case.dtype, most_positions=1000)
    return _run(model, case.x)


def _onnxruntime_any_rank(case: Case) -> Array:
    model = single_node_model(case.folded, [None] * case.x.ndim, case.dtype, ranks={2, 3, 4, 5})
    return _run(model, case.x)


def _onnxruntime_inlined(case: Case) -> Array:
    model = single_node_model(case.folded, case.x.shape, case.dtype)
    return _run(onnx.inliner.inline_local_functions(model), case.x)


def _onnx_reference(case: Case) -> Array:
    (y,) = ReferenceEvaluator(single_node_model(case.folded, case.x.shape, case.dtype)).run(None, {"X": case.x})
    return np.asarray(y)


def _openvino_inlined(case: Case) -> Array:
    openvino = pytest.importorskip("openvino", reason="OpenVINO isn't installed")
    model = onnx.inliner.inline_local_functions(single_node_model(case.folded, case.x.shape, case.dtype))
    core = openvino.Core()
    # Without the hint it computes float32 in bfloat16 where the processor can.
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", options)
    return np.asarray(compiled([case.x])[0])


def _run(model: onnx.ModelProto, x: Array) -> Array:
    with OrtSession(model.SerializeToString(), threads=1, native=False) as session:
        return session.run({"X": x})["Y"]


def check(backend: Callable[[Case], Array], case: Case, allowed: float = 1) -> None:
    """Asserts that a backend's Y is the layer's output, within ``allowed`` times the bound of each of its elements."""
    assert roundings(backend(case), case.folded, case.x) <= allowed


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
