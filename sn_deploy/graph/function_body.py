"""The model-local ONNX functions ``sn_deploy::SwitchNorm`` and its fused forms: the operators in standard ops.

A runtime that knows no SwitchNorm runs these bodies. They keep the contract of `sn_deploy.graph.op`: statistics in
float32 whatever X is, centred second moments, any dynamic axis, an empty batch. Why these bodies and no others:
docs/decisions/0002-function-body.md.

With ``d = x - mean_in``, the layer is ``y = d·s + t`` with per (n, c)

    shift = mean_in - mean = (1 - w_in - w_ln)·mean_in + w_ln·(mean_in - mean_ln) - mean_offset
    s = scale / sqrt(var)        t = shift·s + bias

which subtracts nothing from x but its own mean, so a large mean costs no digits of the deviation.

Sums of three are two Adds: not every importer of an inlined file broadcasts in a Sum. Floating-point constants are
tensors: onnx-graphsurgeon makes doubles of plain numbers (docs/guides/interoperability.md).

A body may leave out statistics whose weights are 0 (`sn_deploy.graph.overloads`). Without any, the layer is a
BatchNormalization, which ONNX Runtime keeps in its blocked layout.
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import Final

import onnx
import onnx.parser

from sn_deploy.errors import SnDeployError
from sn_deploy.graph.op import (
    DOMAIN,
    FLOAT_ATTRIBUTES,
    OP_TYPES,
    RESIDUAL,
    SWITCH_NORM,
    SWITCH_NORM_ADD_RELU,
    input_names,
)
from sn_deploy.graph.overloads import GENERAL, uses_from_overload

# CastLike and the start and end of Shape came with 15; above 24 nothing has been tried.
MIN_OPSET: Final = 15
MAX_OPSET: Final = 24

# ONNX Runtime sums in few accumulators. Up to here a mean taken in one go is off by less than 2e-4 deviations where it
# is 1000 deviations itself, and y, behind a ReLU, by 2e-6; at 2^18 they are 0.03 and 3e-5.
MOST_POSITIONS_OF_ONE_SUM: Final = 1 << 14

# From here on the axes of a reduction are an input.
_AXES_INPUT_OPSET: Final = 18


class _Sums(enum.Enum):
    """How a sum over all positions is taken."""

    PLAIN = enum.auto()
    IN_STEPS = enum.auto()  # one axis after the other: each sum is short
    CORRECTED = enum.auto()  # for one axis: a mean, and the mean of what is left, a sum of small terms


_ATTRIBUTES: Final = (*FLOAT_ATTRIBUTES, "ddof", "plugin_namespace")


def function_body(
    opset: int,
    ranks: Collection[int],
    *,
    most_positions: int | None = None,
    op_type: str = SWITCH_NORM,
    overload: str = GENERAL,
) -> onnx.FunctionProto:
    """The function of one of the operators for one file.

    Args:
        opset: version of the standard operators, `MIN_OPSET` to `MAX_OPSET`; the file must import the same.
        ranks: the ranks of X of all nodes of this operator in the file. The fewer, the cheaper the body: a single rank
            is computed in X's own shape, several through a view of X of rank 4.
        most_positions: the largest HW of these nodes, None where one is dynamic. Sums over more than
            `MOST_POSITIONS_OF_ONE_SUM` are taken in steps, which costs time on small maps.
        op_type: which operator, one of `sn_deploy.graph.op.OP_TYPES`.
        overload: which statistics it uses (`sn_deploy.graph.overloads`).

    Raises:
        SnDeployError: an operator or overload that isn't ours, an opset that is not supported, no rank, or a rank
            below 2.
    """
    if op_type not in OP_TYPES:
        raise SnDeployError(f"no operator of ours: {op_type!r}", where=DOMAIN, expected=" or ".join(OP_TYPES))
    if not MIN_OPSET <= opset <= MAX_OPSET:
        raise SnDeployError(
            f"opset {opset} has no function body of {op_type}",
            where="opset",
            expected=f"{MIN_OPSET} to {MAX_OPSET}",
            mend=f"export with an opset from {MIN_OPSET} to {MAX_OPSET}",
        )
    distinct = set(ranks)
    if not distinct or min(distinct) < 2:
        raise SnDeployError(
            f"no function body for X of rank {sorted(distinct)}",
            where=op_type,
            expected="at least one rank, each 2 or more: (N, C, *spatial)",
        )
    uses = uses_from_overload(overload)
    long_sums = most_positions is None or most_positions > MOST_POSITIONS_OF_ONE_SUM
    # Rank 3 is one row, also as a view among other ranks.
    sums = _Sums.PLAIN if not long_sums else _Sums.CORRECTED if 3 in distinct else _Sums.IN_STEPS
    if not uses:
        body = _BODY_WITHOUT_STATISTICS
    elif distinct == {2}:
        body = _body_of_rank_2(opset, uses)
    elif len(distinct) == 1:
        body = _body_of_spatial_rank(opset, distinct.pop(), uses, sums)
    else:
        body = _body_of_any_rank(opset, uses, sums)
    function = onnx.parser.parse_function(
        f'<domain: "{DOMAIN}", opset_import: ["": {opset}]>\n'
        f"{op_type} <{', '.join(_ATTRIBUTES)}> ({', '.join(input_names(op_type))}) => (Y) {{\n"
        f"{body}\n{_finish(op_type)}\n}}"
    )
    function.overload = overload
    return function


# For X of any rank.
_BODY_WITHOUT_STATISTICS: Final = """
    x = Cast <to = 1> (X)
    y = BatchNormalization <epsilon = 0.0> (x, scale, bias, mean_offset, var_offset)
    """


def _finish(op_type: str) -> str:
    """From y, the layer's output in float32, to Y: what follows it, in float32 too, then one rounding to X's type."""
    if op_type == SWITCH_NORM:
        return "Y = CastLike (y, X)"
    if op_type == SWITCH_NORM_ADD_RELU:
        return f"""
    {RESIDUAL}_f = Cast <to = 1> ({RESIDUAL})
    total = Add (y, {RESIDUAL}_f)
    positive = Relu (total)
    Y = CastLike (positive, X)"""
    return """
    positive = Relu (y)
    Y = CastLike (positive, X)"""


def _body_of_spatial_rank(opset: int, rank: int, uses: Collection[str], sums: _Sums) -> str:
    # In X's own shape, so that shape inference gives Y the shape of X. Parameters are (1, C, 1, …), of X's rank:
    # importers that move channels last mistake the axes of lower ranks.
    spatial = list(range(2, rank))
    return f"""
    x = Cast <to = 1> (X)
    extents = Shape <start = 2> (X)
    count = ReduceProd <keepdims = 0> (extents)
    others = Constant <value_ints = {[0, *spatial]}> ()
    scale_c = Unsqueeze (scale, others)
    bias_c = Unsqueeze (bias, others)
    mean_offset_c = Unsqueeze (mean_offset, others)
    var_offset_c = Unsqueeze (var_offset, others)
    {_mean_and_d(opset, spatial, sums)}
    {_variance_in(opset, spatial, sums) if _takes_variance(uses) else ""}
    {_mix(opset, uses)}
    y = Add (scaled, t)
    """


def _body_of_rank_2(opset: int, uses: Collection[str]) -> str:
    variance = f"""
    {_variance_in(opset, [1])}
    v_ln = Constant <value_float: float = @var_ln> ()
    var_from_ln = Mul (v_ln, s_in)
    var = Add (var_from_ln, var_offset)
    """
    return f"""
    x = Cast <to = 1> (X)
    extents = Shape <start = 1> (X)
    count = ReduceProd <keepdims = 0> (extents)
    {_reduce(opset, "m_ln", "ReduceMean", "x", [1])}
    d = Sub (x, m_ln)
    {variance if "var_ln" in uses else "var = Identity (var_offset)"}
    w_ln = Constant <value_float: float = @mean_ln> ()
    one = Constant <value = float {{1.0}}> ()
    w_rest = Sub (one, w_ln)
    own = Mul (w_rest, m_ln)
    shift = Sub (own, mean_offset)
    deviation = Sqrt (var)
    s = Div (scale, deviation)
    centred = Add (d, shift)
    scaled = Mul (centred, s)
    y = Add (scaled, bias)
    """


def _body_of_any_rank(opset: int, uses: Collection[str], sums: _Sums) -> str:
    # X viewed as (N, groups, rows, columns): (N, C, …, W), and (N, 1, 1, C) for rank 2, which makes LN's moments over
    # C out of IN's over the one group. Parameters follow: (C, 1, 1), and (1, 1, C) for rank 2.
    return f"""
    x_own = Cast <to = 1> (X)
    shape = Shape (X)
    batch = Shape <start = 0, end = 1> (X)
    channels = Shape <start = 1, end = 2> (X)
    extents = Shape <start = 2, end = -1> (X)
    last = Shape <start = -1> (X)
    rank = Shape (shape)
    one_i = Constant <value_ints = [1]> ()
    two_i = Constant <value_ints = [2]> ()
    is_flat = Equal (rank, two_i)
    groups = Where (is_flat, one_i, channels)
    rows = ReduceProd <keepdims = 1> (extents)
    view = Concat <axis = 0> (batch, groups, rows, last)
    x = Reshape (x_own, view)
    count_1 = Mul (rows, last)
    first = Constant <value_ints = [0]> ()
    count = Squeeze (count_1, first)
    rest = Constant <value_ints = [-1]> ()
    per_channel = Concat <axis = 0> (groups, one_i, rest)
    scale_c = Reshape (scale, per_channel)
    bias_c = Reshape (bias, per_channel)
    mean_offset_c = Reshape (mean_offset, per_channel)
    var_offset_c = Reshape (var_offset, per_channel)
    {_mean_and_d(opset, [2, 3], sums)}
    {_variance_in(opset, [2, 3], sums) if _takes_variance(uses) else ""}
    {_mix(opset, uses)}
    y_viewed = Add (scaled, t)
    y = Reshape (y_viewed, shape)
    """


def _mean_and_d(opset: int, spatial: list[int], sums: _Sums) -> str:
    """From x (N, C, *spatial) to m_in (N, C, 1, …) and d = x - m_in."""
    if sums is _Sums.CORRECTED:
        return f"""
    {_reduce(opset, "m_first", "ReduceMean", "x", spatial)}
    d_first = Sub (x, m_first)
    {_reduce(opset, "drift", "ReduceMean", "d_first", spatial)}
    m_in = Add (m_first, drift)
    d = Sub (d_first, drift)"""
    return f"""
    {_reduce(opset, "m_in", "ReduceMean", "x", spatial, in_steps=sums is _Sums.IN_STEPS)}
    d = Sub (x, m_in)"""


def _variance_in(opset: int, axes: list[int], sums: _Sums = _Sums.PLAIN) -> str:
    """From d and count () to s_in, the variance over ``axes``. ReduceSumSquare is much slower in ONNX Runtime."""
    if sums is _Sums.CORRECTED:
        squares = f"""
    {_reduce(opset, "square_first", "ReduceMean", "d_squared", axes)}
    square_apart = Sub (d_squared, square_first)
    {_reduce(opset, "square_drift", "ReduceMean", "square_apart", axes)}
    square = Add (square_first, square_drift)
    count_f = Cast <to = 1> (count)
    squares = Mul (square, count_f)"""
    else:
        squares = _reduce(opset, "squares", "ReduceSum", "d_squared", axes, in_steps=sums is _Sums.IN_STEPS)
    return f"""
    d_squared = Mul (d, d)
    {squares}
    ddof_i = Constant <value_int: int = @ddof> ()
    divisor_i = Sub (count, ddof_i)
    divisor = Cast <to = 1> (divisor_i)
    s_in = Div (squares, divisor)
    """


def _takes_variance(uses: Collection[str]) -> bool:
    return "var_in" in uses or "var_ln" in uses


def _mix(opset: int, uses: Collection[str]) -> str:
    """From d (N, C, *spatial), m_in, s_in (N, C, 1, …) and parameters (1, C, 1, …) to d·s and t, whose sum is y."""
    # 1 - w_in - w_ln as two halves: whatever the weights, next to nothing is rounded off before it meets the mean.
    return f"""
    {_layer_statistics(opset, uses)}
    w_in = Constant <value_float: float = @mean_in> ()
    w_ln = Constant <value_float: float = @mean_ln> ()
    half = Constant <value = float {{0.5}}> ()
    half_less_in = Sub (half, w_in)
    half_less_ln = Sub (half, w_ln)
    w_rest = Add (half_less_in, half_less_ln)
    own = Mul (w_rest, m_in)
    offset_below = Neg (mean_offset_c)
    {_shift("mean_ln" in uses)}
    {_variance(uses)}
    deviation = Sqrt (var)
    s = Div (scale_c, deviation)
    shift_scaled = Mul (shift, s)
    t = Add (shift_scaled, bias_c)
    scaled = Mul (d, s)
    """


def _layer_statistics(opset: int, uses: Collection[str]) -> str:
    """From m_in and s_in to m_ln and s_ln, as far as they are used."""
    # The channels' axis and one of a single element: pnnx loses an axis that is given alone, OpenCV gets three wrong.
    axes = [1, 2]
    lines = ""
    if "mean_ln" in uses or "var_ln" in uses:
        lines += f"""
    {_reduce(opset, "m_ln", "ReduceMean", "m_in", axes)}
    m_apart = Sub (m_in, m_ln)"""
    if "var_ln" in uses:
        lines += f"""
    m_apart_squared = Mul (m_apart, m_apart)
    spread = Add (s_in, m_apart_squared)
    {_reduce(opset, "s_ln", "ReduceMean", "spread", axes)}"""
    return lines


def _shift(with_layer: bool) -> str:
    """mean_in - mean."""
    if not with_layer:
        return "shift = Add (own, offset_below)"
    return """own_apart = Mul (w_ln, m_apart)
    shift_below = Add (own, offset_below)
    shift = Add (shift_below, own_apart)"""


def _variance(uses: Collection[str]) -> str:
    """var, from what of s_in and s_ln is used."""
    lines, parts = "", []
    for name in ("in", "ln"):
        if f"var_{name}" in uses:
            lines += f"""
    v_{name} = Constant <value_float: float = @var_{name}> ()
    var_from_{name} = Mul (v_{name}, s_{name})"""
            parts.append(f"var_from_{name}")
    if len(parts) == 2:
        lines += f"""
    var_from_input = Add ({", ".join(parts)})"""
        parts = ["var_from_input"]
    total = f"Add ({parts[0]}, var_offset_c)" if parts else "Identity (var_offset_c)"
    return f"""{lines}
    var = {total}"""


def _reduce(opset: int, result: str, op: str, source: str, axes: list[int], *, in_steps: bool = False) -> str:
    if in_steps and len(axes) > 1:
        first, *rest = axes
        partial = f"{result}_over_{first}"
        return f"""{_reduce(opset, partial, op, source, [first])}
    {_reduce(opset, result, op, partial, rest, in_steps=True)}"""
    # ReduceSum took its axes as an input before the others did.
    if opset < _AXES_INPUT_OPSET and op != "ReduceSum":
        return f"{result} = {op} <axes = {axes}, keepdims = 1> ({source})"
    return f"""{result}_axes = Constant <value_ints = {axes}> ()
    {result} = {op} <keepdims = 1> ({source}, {result}_axes)"""
