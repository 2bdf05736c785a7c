"""The operators on blocks, in ONNX Runtime, against the float64 oracle: drawn cases, both block sizes, any padding."""

from __future__ import annotations

import platform
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from sn_deploy.errors import SnDeployError
from sn_deploy.graph.op import BLOCKED_DOMAIN, BLOCKED_VERSION, OP_TYPES, SWITCH_NORM
from sn_deploy.runtime.ort import block_size, version
from tests.cases import Case, cases, make_case
from tests.fused_forms import fused_roundings, inputs_of
from tests.native.models import Array, operator_model, run

WEIGHTS = (0.5, 0.3, 0.2)


def blocked_model(op_type: str, case: Case, block: int, **changes: object) -> onnx.ModelProto:
    """As `operator_model`, of blocked tensors."""
    model = operator_model(op_type, case.folded, [None] * 4, "float32")
    (node,) = model.graph.node
    node.domain = BLOCKED_DOMAIN
    attributes = {"block_size": block, **changes}
    node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items() if value is not None)
    model.opset_import.append(helper.make_opsetid(BLOCKED_DOMAIN, BLOCKED_VERSION))
    return model


def blocks_of(x: Array, block: int, padding: float) -> Array:
    """(N, C, H, W) to (N, C', H, W), in memory (N, C' / B, H, W, B)."""
    n, c, h, w = x.shape
    stored = -(-c // block) * block
    padded = np.full((n, stored, h, w), padding, np.float32)
    padded[:, :c] = x
    blocked = padded.reshape(n, stored // block, block, h, w).transpose(0, 1, 3, 4, 2)
    return np.ascontiguousarray(blocked).reshape(n, stored, h, w)


def plain_of(blocked: Array, block: int) -> Array:
    """The other way, with the padding."""
    n, stored, h, w = blocked.shape
    return blocked.reshape(n, stored // block, h, w, block).transpose(0, 1, 4, 2, 3).reshape(n, stored, h, w)


def outputs(
    op_type: str,
    case: Case,
    library: str,
    block: int,
    padding: float = np.nan,
    *,
    threads: int = 1,
    samples: slice = slice(None),
) -> Array:
    """Y, plain and without its padding, which has to be 0."""
    given = {name: blocks_of(array[samples], block, padding) for name, array in inputs_of(op_type, case).items()}
    y = plain_of(run(blocked_model(op_type, case, block), given, library, threads)["Y"], block)
    channels = case.x.shape[1]
    assert not y[:, channels:].any()
    return y[:, :channels]


@settings(max_examples=200, deadline=None)
@given(
    op_type=st.sampled_from(OP_TYPES),
    case=cases(dtypes=["float32"]).filter(lambda case: case.x.ndim == 4),
    block=st.sampled_from([8, 16]),
    padding=st.sampled_from([np.nan, np.inf, 0.0, -1e30]),
)
def test_drawn_cases(library: str, op_type: str, case: Case, block: int, padding: float) -> None:
    y = outputs(op_type, case, library, block, padding, threads=2)
    assert fused_roundings(op_type, y, case) <= 1


def case_of(shape: Sequence[int], mean: float = 2.0) -> Case:
    return make_case(
        tuple(shape), "float32", mean_weights=WEIGHTS, var_weights=(0.2, 0.5, 0.3), ddof=1, seed=3, mean=mean
    )


@pytest.mark.parametrize("block", [8, 16])
@pytest.mark.parametrize("shape", [(1, 64, 56, 56), (2, 3, 180, 181), (3, 500, 7, 7), (8, 37, 14, 14)], ids=str)
def test_any_threads_and_any_batch_give_the_same_bits(library: str, shape: tuple[int, ...], block: int) -> None:
    case = case_of(shape)
    for op_type in OP_TYPES:
        y = outputs(op_type, case, library, block)
        assert fused_roundings(op_type, y, case) <= 1
        for threads in (2, 3):
            assert np.array_equal(outputs(op_type, case, library, block, threads=threads), y)
        for n in range(shape[0]):
            one = outputs(op_type, case, library, block, samples=slice(n, n + 1))
            assert np.array_equal(one, y[n : n + 1])


def test_a_mean_of_a_thousand_deviations(library: str) -> None:
    case = case_of((2, 20, 28, 28), mean=1000.0)
    for block in (8, 16):
        y = outputs(SWITCH_NORM, case, library, block)
        assert fused_roundings(SWITCH_NORM, y, case) <= 1


def test_an_empty_batch_gives_an_empty_result(library: str) -> None:
    case = case_of((2, 20, 4, 4))
    x = np.empty((0, 32, 4, 4), np.float32)
    assert run(blocked_model(SWITCH_NORM, case, 16), {"X": x}, library)["Y"].shape == x.shape


@pytest.mark.parametrize(
    ("shape", "changes", "message"),
    [
        ((1, 24, 4, 4), {}, "X's second extent must be C"),
        ((1, 20, 4, 4), {}, "X's second extent must be C"),
        ((1, 48, 4, 4), {}, "X's second extent must be C"),
        ((1, 32, 1, 1), {}, "too few values"),
        ((1, 32, 0, 4), {}, "empty spatial extent"),
        ((1, 32, 4, 4), {"block_size": 4}, "block_size must be 8 or 16, not 4"),
        ((1, 32, 4, 4), {"block_size": None}, "block_size is missing"),
        ((1, 32, 4, 4), {"block_size": 16.0}, "block_size is missing, or no int"),
    ],
)
def test_bad_nodes_are_refused(library: str, shape: tuple[int, ...], changes: dict[str, object], message: str) -> None:
    model = blocked_model(SWITCH_NORM, case_of((1, 20, 4, 4)), 16, **changes)
    with pytest.raises(SnDeployError) as error:
        run(model, {"X": np.zeros(shape, np.float32)}, library)
    assert "sn_deploy.nchwc::SwitchNorm 'layer'" in str(error.value)
    assert message in str(error.value)


def test_a_file_for_another_machine_is_refused(library: str) -> None:
    """By the operators themselves: programs without sn_deploy have nobody else to tell them."""
    here = block_size()
    assert here is not None
    case = case_of((1, 32, 4, 4))
    x = np.zeros((1, 32, 4, 4), np.float32)
    run(blocked_model(SWITCH_NORM, case, here, onnxruntime=version()), {"X": x}, library)
    with pytest.raises(
        SnDeployError, match=rf"was made for ONNX Runtime 1\.17\.3, and this is {version()}; run the por"
    ):
        run(blocked_model(SWITCH_NORM, case, here, onnxruntime="1.17.3"), {"X": x}, library)
    if platform.machine() == "x86_64":
        other = 24 - here
        with pytest.raises(
            SnDeployError, match=f"has blocks of {other} channels, and ONNX Runtime has blocks of {here} on"
        ):
            run(blocked_model(SWITCH_NORM, case, other, onnxruntime=version()), {"X": x}, library)
