"""Bodies that leave out what a layer has no weight for: right, cheaper, and never where a weight is left."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import onnx
import onnx.inliner
import onnx_ir as ir
import pytest

from sn_deploy.errors import SnDeployError
from sn_deploy.graph.function_body import MAX_OPSET, MIN_OPSET, function_body
from sn_deploy.graph.layers import switch_norm_nodes, write_functions
from sn_deploy.graph.op import FLOAT_ATTRIBUTES, OP_TYPES, SWITCH_NORM
from sn_deploy.graph.overloads import ALL, overload_from_weights, uses_from_overload
from sn_deploy.runtime.native import ort_library
from sn_deploy.runtime.ort import OrtSession
from tests.cases import DTYPES, Case, make_case
from tests.fused_forms import fused_roundings, inputs_of
from tests.single_node import single_node_model

# Weights of IN, LN and BN: each set of them that may be 0.
SHARES = [
    tuple(float(share) for share in np.array(mask) / sum(mask))
    for mask in itertools.product((0, 1), repeat=3)
    if any(mask)
]
SHAPES = {2: (3, 7), 3: (3, 7, 10), 4: (3, 7, 5, 4), 5: (3, 7, 2, 5, 3)}


def cases(rank: int, dtype: str = "float32") -> list[Case]:
    """A layer for each set of weights, all overloads among them."""
    shares = [one for one in SHARES if rank > 2 or (one[0] == 0 and any(one[1:]))]
    return [
        make_case(SHAPES[rank], dtype, mean_weights=mean, var_weights=var, ddof=1, seed=place, mean=3.0)
        for place, (mean, var) in enumerate(itertools.product(shares, repeat=2))
    ]


def overload_of(case: Case) -> str:
    return overload_from_weights({name: getattr(case.folded, name) for name in FLOAT_ATTRIBUTES}, case.x.ndim)


def error(model: onnx.ModelProto, op_type: str, case: Case, native: bool) -> float:
    with OrtSession(model.SerializeToString(), threads=1, native=native) as session:
        return fused_roundings(op_type, session.run(inputs_of(op_type, case))["Y"], case)


@pytest.mark.parametrize("rank", SHAPES)
@pytest.mark.parametrize("op_type", OP_TYPES)
def test_every_overload_is_valid_and_right(rank: int, op_type: str) -> None:
    seen = set()
    for place, case in enumerate(cases(rank)):
        opset = (MIN_OPSET, 17, 18, MAX_OPSET)[place % 4]
        overload = overload_of(case)
        seen.add(overload)
        model = single_node_model(
            case.folded, ["N", 7, *"DHW"[: rank - 2]], "float32", op_type=op_type, opset=opset, overload=overload
        )
        onnx.checker.check_model(model, full_check=True)
        assert error(model, op_type, case, native=False) <= 1, overload
    assert len(seen) == (3 if rank == 2 else 9)


@pytest.mark.parametrize("ranks", [{2, 4}, {2, 3}, {4, 5}])
def test_where_ranks_are_mixed(ranks: set[int]) -> None:
    for rank in ranks:
        for case in cases(rank)[::3]:
            model = single_node_model(case.folded, case.x.shape, "float32", ranks=ranks, overload=overload_of(case))
            assert error(model, SWITCH_NORM, case, native=False) <= 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_an_empty_batch(dtype: str) -> None:
    for case in cases(4, dtype)[::4]:
        model = single_node_model(case.folded, [None, 7, None, None], dtype, overload=overload_of(case))
        assert error(model, SWITCH_NORM, case, native=False) <= 1
        assert error(model, SWITCH_NORM, Case(case.folded, case.x[:0]), native=False) == 0


@pytest.mark.skipif(ort_library() is None, reason="the native operators weren't built")
@pytest.mark.parametrize("op_type", OP_TYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_native_operators_run_all_overloads(op_type: str, dtype: str) -> None:
    for rank in SHAPES:
        for case in cases(rank, dtype):
            model = single_node_model(case.folded, case.x.shape, dtype, op_type=op_type, overload=overload_of(case))
            assert error(model, op_type, case, native=True) <= 1


def inlined_ops(case: Case, overload: str) -> Counter[str]:
    model = onnx.inliner.inline_local_functions(
        single_node_model(case.folded, case.x.shape, "float32", most_positions=20, overload=overload)
    )
    return Counter(node.op_type for node in model.graph.node)


def test_what_is_left_out_isn_t_computed() -> None:
    case = cases(4)[0]
    # LN needs three reductions over channels, the variance one over positions.
    reductions = {"": 4, "mean_in_var_in": 2, "mean_in": 1, "mean_ln": 2, "constant": 0}
    for overload, count in reductions.items():
        ops = inlined_ops(case, overload)
        assert ops["ReduceMean"] + ops["ReduceSum"] == count, overload
    assert set(inlined_ops(case, "constant")) <= {"Cast", "CastLike", "BatchNormalization"}


def test_a_wrong_overload_is_seen_in_the_numbers() -> None:
    # The planted fault: a body that leaves out what the layer uses.
    case = make_case(SHAPES[4], "float32", mean_weights=(0.5, 0.3, 0.2), var_weights=(0.5, 0.3, 0.2), ddof=1, seed=0)
    for overload in ("mean_in_var_in", "mean_ln_var_in", "constant", "mean_in_mean_ln_var_in"):
        model = single_node_model(case.folded, case.x.shape, "float32", overload=overload)
        assert error(model, SWITCH_NORM, case, native=False) > 100


def test_files_have_the_general_body_first_and_last() -> None:
    case = make_case(SHAPES[4], "float32", mean_weights=(1, 0, 0), var_weights=(0, 0, 1), ddof=1, seed=0)
    model = ir.from_proto(single_node_model(case.folded, case.x.shape, "float32"))
    (node,) = switch_norm_nodes(model)
    node.overload = overload_of(case)
    write_functions(model)
    written = ir.to_proto(model)
    assert [function.overload for function in written.functions] == ["", "mean_in", ALL]
    assert error(written, SWITCH_NORM, case, native=False) <= 1


@pytest.mark.parametrize(
    ("overload", "message"),
    [("mean_ln", "leaves out mean_in, which is 1.0"), ("var_in_mean_in", "no overload of ours: 'var_in_mean_in'")],
)
def test_files_with_wrong_overloads_are_refused(overload: str, message: str) -> None:
    case = make_case(SHAPES[4], "float32", mean_weights=(1, 0, 0), var_weights=(0, 0, 1), ddof=1, seed=0)
    model = ir.from_proto(single_node_model(case.folded, case.x.shape, "float32"))
    switch_norm_nodes(model)[0].overload = overload
    with pytest.raises(SnDeployError, match=message):
        write_functions(model)


def test_names_and_uses_are_each_other_s() -> None:
    for used in itertools.product((0.0, 0.5), repeat=4):
        weights = dict(zip(FLOAT_ATTRIBUTES, used, strict=True))
        names = {name for name, weight in weights.items() if weight}
        assert uses_from_overload(overload_from_weights(weights, 4)) == (set(FLOAT_ATTRIBUTES) if used[3] else names)
    with pytest.raises(SnDeployError, match="no overload of ours"):
        function_body(20, {4}, overload="constant_mean_in")
