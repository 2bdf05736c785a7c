"""The model-local ONNX function ``sn_deploy::SwitchNorm``: the operator in standard ops.

A runtime that knows no SwitchNorm runs this body. It keeps the contract of `sn_deploy.graph.op`: statistics in
float32 whatever X is, centred second moments, any dynamic axis, an empty batch. Why this body and not another:
docs/decisions/0002-function-body.md.

With ``d = x - mean_in``, the layer is ``y = d·s + t`` with per (n, c)

    shift = mean_in - mean = (1 - w_in - w_ln)·mean_in + w_ln·(mean_in - mean_ln) - mean_offset
    s = scale / sqrt(var)        t = shift·s + bias

which subtracts nothing from x but its own mean, so a large mean costs no digits of the deviation.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import onnx
import onnx.parser

from sn_deploy.errors import SnDeployError
from sn_deploy.graph.op import DOMAIN, FLOAT_ATTRIBUTES, PARAMETERS, SWITCH_NORM

# CastLike and the start and end of Shape came with 15; above 24 nothing has been tried.
MIN_OPSET: Final = 15
MAX_OPSET: Final = 24

# From here on the axes of a reduction are an input.
_AXES_INPUT_OPSET: Final = 18

_ATTRIBUTES: Final = (*FLOAT_ATTRIBUTES, "ddof", "plugin_namespace")


def function_body(opset: int, ranks: Collection[int]) -> onnx.FunctionProto:
    """The function ``sn_deploy::SwitchNorm`` for one file.

    Args:
        opset: version of the standard operators, `MIN_OPSET` to `MAX_OPSET`; the file must import the same.
        ranks: the ranks of X of all SwitchNorm nodes of the file. The fewer, the cheaper the body: a single rank is
            computed in X's own shape, several through the view (N, groups, length).

    Raises:
        SnDeployError: an opset that is not supported, no rank, or a rank below 2.
    """
    if not MIN_OPSET <= opset <= MAX_OPSET:
        raise SnDeployError(
            f"opset {opset} has no function body of {SWITCH_NORM}",
            where="opset",
            expected=f"{MIN_OPSET} to {MAX_OPSET}",
            mend=f"export with an opset from {MIN_OPSET} to {MAX_OPSET}",
        )
    distinct = set(ranks)
    if not distinct or min(distinct) < 2:
        raise SnDeployError(
            f"no function body for X of rank {sorted(distinct)}",
            where=SWITCH_NORM,
            expected="at least one rank, each 2 or more: (N, C, *spatial)",
        )
    if distinct == {2}:
        body = _body_of_rank_2(opset)
    elif len(distinct) == 1:
        body = _body_of_spatial_rank(opset, distinct.pop())
    else:
        body = _body_of_any_rank(opset)
    return onnx.parser.parse_function(
        f'<domain: "{DOMAIN}", opset_import: ["": {opset}]>\n'
        f"{SWITCH_NORM} <{', '.join(_ATTRIBUTES)}> (X, {', '.join(PARAMETERS)}) => (Y) {{\n{body}\n}}"
    )


def _body_of_spatial_rank(opset: int, rank: int) -> str:
    spatial = list(range(2, rank))
    trailing = list(range(1, rank - 1))
    return f"""
    x = Cast <to = 1> (X)
    extents = Shape <start = 2> (X)
    count = ReduceProd <keepdims = 0> (extents)
    trailing = Constant <value_ints = {trailing}> ()
    scale_c = Unsqueeze (scale, trailing)
    bias_c = Unsqueeze (bias, trailing)
    mean_offset_c = Unsqueeze (mean_offset, trailing)
    var_offset_c = Unsqueeze (var_offset, trailing)
    {_statistics_and_mix(opset, spatial)}
    Y = CastLike (y, X)
    """


def _body_of_rank_2(opset: int) -> str:
    return f"""
    x = Cast <to = 1> (X)
    extents = Shape <start = 1> (X)
    count = ReduceProd <keepdims = 0> (extents)
    {_reduce(opset, "mean_ln", "ReduceMean", "x", [1])}
    d = Sub (x, mean_ln)
    {_reduce(opset, "squares", "ReduceSumSquare", "d", [1])}
    {_divisor()}
    var_stat = Div (squares, divisor)
    w_ln = Constant <value_float: float = @mean_ln> ()
    v_ln = Constant <value_float: float = @var_ln> ()
    one = Constant <value_float = 1.0> ()
    w_bn = Sub (one, w_ln)
    own = Mul (w_bn, mean_ln)
    shift = Sub (own, mean_offset)
    var_scaled = Mul (v_ln, var_stat)
    var = Add (var_scaled, var_offset)
    deviation = Sqrt (var)
    s = Div (scale, deviation)
    centred = Add (d, shift)
    scaled = Mul (centred, s)
    y = Add (scaled, bias)
    Y = CastLike (y, X)
    """


def _body_of_any_rank(opset: int) -> str:
    # View X as (N, groups, length): (N, C, HW), and (N, 1, C) for rank 2, where the parameters are (1, C) then and
    # (C, 1) else. With one group, LN over the groups' moments is the moments themselves.
    return f"""
    x_own = Cast <to = 1> (X)
    shape = Shape (X)
    batch = Shape <start = 0, end = 1> (X)
    channels = Shape <start = 1, end = 2> (X)
    extents = Shape <start = 2> (X)
    rank = Shape (shape)
    two = Constant <value_ints = [2]> ()
    one_i = Constant <value_ints = [1]> ()
    flat = Equal (rank, two)
    positions = ReduceProd <keepdims = 1> (extents)
    groups = Where (flat, one_i, channels)
    count_1 = Where (flat, channels, positions)
    view = Concat <axis = 0> (batch, groups, count_1)
    x = Reshape (x_own, view)
    first = Constant <value_ints = [0]> ()
    count = Squeeze (count_1, first)
    rest = Constant <value_ints = [-1]> ()
    per_channel = Concat <axis = 0> (groups, rest)
    scale_c = Reshape (scale, per_channel)
    bias_c = Reshape (bias, per_channel)
    mean_offset_c = Reshape (mean_offset, per_channel)
    var_offset_c = Reshape (var_offset, per_channel)
    {_statistics_and_mix(opset, [2])}
    y_own = Reshape (y, shape)
    Y = CastLike (y_own, X)
    """


def _statistics_and_mix(opset: int, spatial: list[int]) -> str:
    """From x (N, C, *spatial), count () and the parameters (C, 1, …) to y."""
    return f"""
    {_reduce(opset, "m_in", "ReduceMean", "x", spatial)}
    d = Sub (x, m_in)
    {_reduce(opset, "squares", "ReduceSumSquare", "d", spatial)}
    {_divisor()}
    s_in = Div (squares, divisor)
    {_reduce(opset, "m_ln", "ReduceMean", "m_in", [1])}
    m_apart = Sub (m_in, m_ln)
    m_apart_squared = Mul (m_apart, m_apart)
    spread = Add (s_in, m_apart_squared)
    {_reduce(opset, "s_ln", "ReduceMean", "spread", [1])}

    w_in = Constant <value_float: float = @mean_in> ()
    w_ln = Constant <value_float: float = @mean_ln> ()
    v_in = Constant <value_float: float = @var_in> ()
    v_ln = Constant <value_float: float = @var_ln> ()
    half = Constant <value_float = 0.5> ()
    w_in_short = Sub (half, w_in)
    w_ln_short = Sub (half, w_ln)
    w_rest = Add (w_in_short, w_ln_short)
    own = Mul (w_rest, m_in)
    layer = Mul (w_ln, m_apart)
    above = Sub (own, mean_offset_c)
    shift = Add (above, layer)

    var_from_in = Mul (v_in, s_in)
    var_from_ln = Mul (v_ln, s_ln)
    var_mixed = Add (var_from_in, var_from_ln)
    var = Add (var_mixed, var_offset_c)
    deviation = Sqrt (var)
    s = Div (scale_c, deviation)
    shift_scaled = Mul (shift, s)
    t = Add (shift_scaled, bias_c)
    scaled = Mul (d, s)
    y = Add (scaled, t)
    """


def _divisor() -> str:
    return """
    ddof_i = Constant <value_int: int = @ddof> ()
    divisor_i = Sub (count, ddof_i)
    divisor = Cast <to = 1> (divisor_i)
    """


def _reduce(opset: int, result: str, op: str, source: str, axes: list[int]) -> str:
    if opset < _AXES_INPUT_OPSET:
        return f"{result} = {op} <axes = {axes}, keepdims = 1> ({source})"
    return f"""{result}_axes = Constant <value_ints = {axes}> ()
    {result} = {op} <keepdims = 1> ({source}, {result}_axes)"""
