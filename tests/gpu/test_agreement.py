"""Every tactic of the CUDA kernels against the float64 oracle, on drawn cases and on chosen ones."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sn_deploy.graph.op import OP_TYPES, SWITCH_NORM, SWITCH_NORM_ADD_RELU
from sn_deploy.runtime.cuda import Tactic, TacticError
from tests.cases import DTYPES, FAULTS, Case, cases, make_case
from tests.fused_forms import exact_and_bound, fused_roundings, roundings_of
from tests.gpu.device import Device, Form, Prepared, forms_of

WEIGHTS = (0.5, 0.3, 0.2)
# Offered where they fill a device; they run in smaller layers as well.
QUEUES = [Tactic(5 + 256 * 2), Tactic(6 + 256 * 4)]
# What `CudaKernels.tactics` may give, whatever the device and the problem.
ALL_TACTICS = [
    Tactic(1),
    *(Tactic(2 + 256 * blocks) for blocks in (2, 4, 8, 16)),
    *(Tactic(3 + 256 * blocks) for blocks in (2, 8, 32)),
    Tactic(4),
    *QUEUES,
]


def chosen_case(shape: tuple[int, ...], dtype: str, *, ddof: int = 1, mean: float = 1.0) -> Case:
    weights = WEIGHTS if len(shape) > 2 else (0.0, 0.6, 0.4)
    return make_case(shape, dtype, mean_weights=weights, var_weights=weights, ddof=ddof, seed=11, mean=mean)


def tactics_and_queues(device: Device, case: Case, form: Form) -> list[Tactic]:
    """The tactics that are offered, and the queues that run, on aligned addresses."""
    problem = device.problem(case, form)
    found = device.kernels.tactics(problem)
    for queue in QUEUES:
        with contextlib.suppress(TacticError):
            device.kernels.workspace_bytes(problem, queue)
            found += [] if queue in found else [queue]
    return found


def check(device: Device, case: Case, form: Form, *tactics: Tactic) -> None:
    """Asserts that Y is the operator's output by each tactic, within the bound of each of its elements."""
    exact, bound = exact_and_bound(form.op_type, case)
    prepared = Prepared(device, case, form, tactics[0])
    for tactic in tactics:
        prepared.use_tactic(tactic)
        roundings = roundings_of(prepared.run(), case, exact, bound)
        assert roundings <= 1, f"{roundings:.3g} bounds off: {tactic.name}, {form}, {case}"


def check_all(device: Device, case: Case, op_type: str = SWITCH_NORM, **changes: object) -> None:
    """Every layout and every tactic that the device has for it."""
    for form in forms_of(case, op_type):
        own = dataclasses.replace(form, **changes)  # type: ignore[arg-type]
        check(device, case, own, *device.kernels.tactics(device.problem(case, own)))


@settings(max_examples=25)
@given(data=st.data(), case=cases(), op_type=st.sampled_from(OP_TYPES))
def test_drawn_cases(device: Device, data: st.DataObject, case: Case, op_type: str) -> None:
    form = data.draw(st.sampled_from(forms_of(case, op_type)))
    check(device, case, form, data.draw(st.sampled_from(device.kernels.tactics(device.problem(case, form)))))


@pytest.mark.gpu
@settings(max_examples=400)
@given(data=st.data(), case=cases(), op_type=st.sampled_from(OP_TYPES), shift=st.sampled_from([0, 0, 0, 4, 8]))
def test_more_drawn_cases(gpu: Device, data: st.DataObject, case: Case, op_type: str, shift: int) -> None:
    form = dataclasses.replace(data.draw(st.sampled_from(forms_of(case, op_type))), shift=shift)
    check(gpu, case, form, *gpu.kernels.tactics(gpu.problem(case, form)))


@pytest.mark.parametrize("op_type", OP_TYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_epilogue_layout_and_tactic(device: Device, dtype: str, op_type: str) -> None:
    check_all(device, chosen_case((1, 12, 5, 8), dtype), op_type)


# One channel; two positions; rows and columns of no whole vector; more channels than threads, and fewer than a vector;
# rank 2 to 5; an empty batch.
EDGES = [
    (1, 1, 2), (3, 1, 7, 7), (1, 5, 2), (2, 513, 1, 3), (1, 3, 17, 19), (1, 2, 41, 50),
    (1, 2), (3, 9), (1, 1000), (1, 4, 2, 3, 5), (0, 8, 4, 4), (0, 8),
]  # fmt: skip


@pytest.mark.parametrize("shape", EDGES, ids=str)
def test_edges(device: Device, shape: tuple[int, ...]) -> None:
    case = chosen_case(shape, "float16")
    if device.is_gpu:
        check_all(device, case)
        return
    for form in forms_of(case)[-1:]:
        check(device, case, form, *device.kernels.tactics(device.problem(case, form)))


# Layers of ResNet-50, of video nets, and ones of odd sizes.
LARGE = [
    (8, 64, 112, 112), (2, 256, 56, 56), (2, 2048, 7, 7), (3, 1024, 14, 14), (1, 64, 8, 56, 56), (1, 3, 511, 513),
    (33, 40, 31, 29), (1, 17, 1000, 1001), (300, 64, 14, 14), (2, 4096, 3), (4, 70000), (70000, 4, 3),
]  # fmt: skip


@pytest.mark.gpu
@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_large(gpu: Device, shape: tuple[int, ...]) -> None:
    check_all(gpu, chosen_case(shape, "float16"), SWITCH_NORM_ADD_RELU)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", LARGE[1:4], ids=str)
def test_large_in_other_dtypes(gpu: Device, shape: tuple[int, ...], dtype: str) -> None:
    check_all(gpu, chosen_case(shape, dtype))


@pytest.mark.parametrize("shape", [(1, 17, 200, 201), (2, 256, 56, 56)], ids=str)
def test_long_sums(device: Device, shape: tuple[int, ...]) -> None:
    """One block sums them, where it has the room or reads vectors: the host gives the digits that a GPU gives."""
    case = chosen_case(shape, "float16")
    for form in forms_of(case, SWITCH_NORM_ADD_RELU)[:2]:
        offered = device.kernels.tactics(device.problem(case, form))
        check(device, case, form, *({Tactic(1), Tactic(4)} & set(offered)))


@pytest.mark.parametrize("shift", [2, 8])
def test_addresses_that_allow_no_vectors(device: Device, shift: int) -> None:
    check_all(device, chosen_case((1, 16, 4, 8), "float16"), SWITCH_NORM_ADD_RELU, shift=shift)


@pytest.mark.parametrize("shape", [(1, 8, 20, 20), (2, 6)], ids=str)
def test_a_mean_of_a_thousand_deviations(device: Device, shape: tuple[int, ...]) -> None:
    check_all(device, chosen_case(shape, "float32", mean=1000.0))


@pytest.mark.gpu
def test_a_mean_of_a_thousand_deviations_in_a_large_map(gpu: Device) -> None:
    check_all(gpu, chosen_case((1, 8, 1024, 1024), "float32", mean=1000.0))


@pytest.mark.parametrize("y", ["in x", "in the residual"])
def test_in_place_gives_the_same_bits(device: Device, y: str) -> None:
    case = chosen_case((1, 12, 5, 8), "float16")
    for form in forms_of(case, SWITCH_NORM_ADD_RELU):
        for tactic in tactics_and_queues(device, case, form):
            elsewhere = device.run(case, form, tactic)
            in_place = device.run(case, dataclasses.replace(form, y=y), tactic)  # type: ignore[arg-type]
            assert in_place.tobytes() == elsewhere.tobytes(), tactic.name


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_caught(device: Device, fault: str) -> None:
    case = make_case((1, 8, 7, 7), "float32", mean_weights=WEIGHTS, var_weights=(0.3, 0.5, 0.2), ddof=1, seed=5)
    faulty = Case(FAULTS[fault](case.folded).as_float32(), case.x)
    for tactic in device.kernels.tactics(device.problem(case, Form())):
        assert fused_roundings(SWITCH_NORM, device.run(faulty, Form(), tactic), case) > 10


@settings(max_examples=30)
@given(case=cases(min_batch=1), tactic=st.sampled_from(ALL_TACTICS))
def test_any_tactic_that_runs_is_right(device: Device, case: Case, tactic: Tactic) -> None:
    # Also those that would not be offered: a timing cache of another device, or of another shape, may name them.
    form = forms_of(case)[-1]
    with contextlib.suppress(TacticError):
        check(device, case, form, tactic)


def test_rank_two_has_one_tactic(device: Device) -> None:
    case = chosen_case((2, 40), "float32")
    assert [tactic.name for tactic in device.kernels.tactics(device.problem(case, Form()))] == ["one block"]
    assert np.isfinite(device.run(case, Form(), Tactic(1))).all()
