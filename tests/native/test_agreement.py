"""The custom op against the float64 oracle: drawn cases, all dtypes, all three operators."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sn_deploy.graph.op import OP_TYPES
from tests.cases import DTYPES, FAULTS, Case, cases, make_case
from tests.fused_forms import FUSED, fused_roundings, inputs_of
from tests.native.models import operator_model, run
from tests.single_node import single_node_model
from tests.tolerances import roundings

WEIGHTS = (0.5, 0.3, 0.2)


def fused(op: str, case: Case, library: str, threads: int = 1) -> float:
    model = operator_model(op, case.folded, [None] * case.x.ndim, case.dtype)
    return fused_roundings(op, run(model, inputs_of(op, case), library, threads)["Y"], case)


@settings(max_examples=250, deadline=None)
@given(case=cases())
def test_an_exported_node(library: str, case: Case) -> None:
    model = single_node_model(case.folded, case.x.shape, case.dtype)
    assert roundings(run(model, {"X": case.x}, library)["Y"], case.folded, case.x) <= 1


@settings(max_examples=150, deadline=None)
@given(op=st.sampled_from(FUSED), case=cases())
def test_the_fused_forms(library: str, op: str, case: Case) -> None:
    assert fused(op, case, library, threads=2) <= 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(1, 64, 56, 56), (2, 3, 180, 181), (1, 512, 7, 7), (3, 20000), (1, 4, 3, 30, 40)], ids=str
)
def test_sizes_that_are_split_over_threads(library: str, shape: tuple[int, ...], dtype: str) -> None:
    weights = WEIGHTS if len(shape) > 2 else (0.0, 0.6, 0.4)
    case = make_case(shape, dtype, mean_weights=weights, var_weights=weights, ddof=1, seed=3, mean=2.0)
    for op in OP_TYPES:
        assert fused(op, case, library, threads=2) <= 1


def test_a_mean_of_a_thousand_deviations(library: str) -> None:
    case = make_case((2, 32, 28, 28), "float32", mean_weights=WEIGHTS, var_weights=WEIGHTS, ddof=1, seed=4, mean=1000)
    assert fused("SwitchNorm", case, library) <= 1


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_file_is_caught(library: str, fault: str) -> None:
    case = make_case((1, 8, 7, 7), "float32", mean_weights=WEIGHTS, var_weights=(0.3, 0.5, 0.2), ddof=1, seed=5)
    faulty = FAULTS[fault](case.folded).as_float32()
    model = operator_model("SwitchNorm", faulty, case.x.shape, "float32")
    assert roundings(run(model, {"X": case.x}, library)["Y"], case.folded, case.x) > 10


def test_the_symbolic_names_of_x_reach_y(library: str) -> None:
    from sn_deploy.runtime.ort import OrtSession

    case = make_case((1, 4, 3, 3), "float32", mean_weights=WEIGHTS, var_weights=WEIGHTS, ddof=1, seed=6)
    model = operator_model("SwitchNorm", case.folded, ["batch", 4, "height", "width"], "float32")
    with OrtSession(model.SerializeToString(), threads=1, custom_op_library=library) as session:
        assert session.outputs[0].shape == ("batch", 4, "height", "width")
        assert np.shape(session.run({"X": case.x})["Y"]) == case.x.shape
