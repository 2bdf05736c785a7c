"""Other ways to write the function body, each as its difference from the one that is shipped.

A form maps names of values in the shipped body (rank 4) to the nodes that make them instead, in ONNX's text form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import onnx
import onnx.parser

from sn_deploy.graph.function_body import function_body

Form = Mapping[str, Sequence[str]]

# t for an affine map of x, not of d.
_T_OF_X: Final = ["m_s = Mul (m_in, s)", "t_d = Add (shift_scaled, bias_c)", "t = Sub (t_d, m_s)"]
# The map as one operator, over X seen as one sample of N·C channels.
_FLAT: Final = [
    "all = Constant <value_ints = [-1]> ()",
    "one_i = Constant <value_ints = [1]> ()",
    "s_flat = Reshape (s, all)",
    "t_flat = Reshape (t, all)",
    "flat_shape = Concat <axis = 0> (one_i, all, extents)",
    "shape = Shape (X)",
]
_BATCH_NORM: Final = [
    "zero = Constant <value_float = 0.0> ()",
    "one_f = Constant <value_float = 1.0> ()",
    "zeros = Mul (s_flat, zero)",
    "ones = Add (zeros, one_f)",
    "y_flat = BatchNormalization <epsilon = 0.0> (flat, s_flat, t_flat, zeros, ones)",
    "y = Reshape (y_flat, shape)",
]
_ROWS: Final = [
    "rows_shape = Constant <value_ints = [0, 0, -1]> ()",
    "unit = Constant <value_ints = [1]> ()",
    "last = Constant <value_ints = [3]> ()",
    "count_1 = Reshape (count, unit)",
    "count_f = Cast <to = 1> (count)",
    "ones_row = ConstantOfShape <value: tensor = float[1] {1.0}> (count_1)",
]

FORMS: Final[dict[str, Form]] = {
    "shipped": {},
    "mean in two steps": {
        "m_in_axes": ["rows_axis = Constant <value_ints = [2]> ()", "columns_axis = Constant <value_ints = [3]> ()"],
        "m_in": [
            "m_columns = ReduceMean <keepdims = 1> (x, rows_axis)",
            "m_in = ReduceMean <keepdims = 1> (m_columns, columns_axis)",
        ],
    },
    "squares in two steps": {
        "squares_axes": [
            "rows_axis = Constant <value_ints = [2]> ()",
            "columns_axis = Constant <value_ints = [3]> ()",
        ],
        "squares": [
            "squares_of_columns = ReduceSum <keepdims = 1> (d_squared, rows_axis)",
            "squares = ReduceSum <keepdims = 1> (squares_of_columns, columns_axis)",
        ],
    },
    "mean corrected by the mean of d": {
        "m_in": ["m_first = ReduceMean <keepdims = 1> (x, m_in_axes)"],
        "d": [
            "d_first = Sub (x, m_first)",
            "drift = ReduceMean <keepdims = 1> (d_first, m_in_axes)",
            "m_in = Add (m_first, drift)",
            "d = Sub (d_first, drift)",
        ],
    },
    "mean by GlobalAveragePool": {
        "m_in_axes": [],
        "m_in": ["m_in = GlobalAveragePool (x)"],
    },
    "mean by MatMul with ones": {
        "m_in_axes": _ROWS,
        "m_in": [
            "ones_column = Unsqueeze (ones_row, unit)",
            "x_rows = Reshape (x, rows_shape)",
            "sums = MatMul (x_rows, ones_column)",
            "sums_4 = Unsqueeze (sums, last)",
            "m_in = Div (sums_4, count_f)",
        ],
    },
    "squares by ReduceSumSquare": {
        "d_squared": [],
        "squares": ["squares = ReduceSumSquare <keepdims = 1> (d, squares_axes)"],
    },
    "squares by ReduceL2": {
        "d_squared": [],
        "squares": ["norm = ReduceL2 <keepdims = 1> (d, squares_axes)", "squares = Mul (norm, norm)"],
    },
    "squares by MatMul": {
        "d_squared": ["row_shape = Constant <value_ints = [0, 0, 1, -1]> ()", "d_row = Reshape (d, row_shape)"],
        "squares_axes": ["column_shape = Constant <value_ints = [0, 0, -1, 1]> ()"],
        "squares": ["d_column = Reshape (d, column_shape)", "squares = MatMul (d_row, d_column)"],
    },
    "squares by Einsum": {
        "d_squared": [],
        "squares_axes": ["trailing_axes = Constant <value_ints = [2, 3]> ()"],
        "squares": ['sums = Einsum <equation = "nchw,nchw->nc"> (d, d)', "squares = Unsqueeze (sums, trailing_axes)"],
    },
    "squares by Pow": {
        "d_squared": ["two = Constant <value_float = 2.0> ()", "d_squared = Pow (d, two)"],
    },
    "y = x·s + t": {"t": _T_OF_X, "scaled": ["scaled = Mul (x, s)"]},
    "y = (d + shift)·s + bias": {
        "t": [],
        "shift_scaled": [],
        "scaled": ["centred = Add (d, shift)", "scaled = Mul (centred, s)"],
        "y": ["y = Add (scaled, bias_c)"],
    },
    "y by BatchNormalization of d": {"scaled": [], "y": [*_FLAT, "flat = Reshape (d, flat_shape)", *_BATCH_NORM]},
    "y by BatchNormalization of x": {
        "t": _T_OF_X,
        "scaled": [],
        "y": [*_FLAT, "flat = Reshape (x, flat_shape)", *_BATCH_NORM],
    },
    "statistics and d / deviation by LayerNormalization": {
        "m_in_axes": _ROWS,
        "m_in": [
            "x_rows = Reshape (x, rows_shape)",
            "z_rows, m_rows, inverse_rows = LayerNormalization <axis = -1, epsilon = 1e-20> (x_rows, ones_row)",
            "m_in = Unsqueeze (m_rows, last)",
            "inverse = Unsqueeze (inverse_rows, last)",
        ],
        "d": [],
        "d_squared": [],
        "squares": [
            "inverse_squared = Mul (inverse, inverse)",
            "squares = Div (count_f, inverse_squared)",
        ],
        "scaled": [
            "shape = Shape (X)",
            "z = Reshape (z_rows, shape)",
            "s_z = Div (s, inverse)",
            "scaled = Mul (z, s_z)",
        ],
    },
    "one pass, mean of squares (unsound)": {
        "d": [],
        "d_squared": ["d_squared = Mul (x, x)"],
        "s_in": [
            "count_f = Cast <to = 1> (count)",
            "m_in_squared = Mul (m_in, m_in)",
            "square_of_sum = Mul (m_in_squared, count_f)",
            "squares_left = Sub (squares, square_of_sum)",
            "s_in = Div (squares_left, divisor)",
        ],
        "t": _T_OF_X,
        "scaled": ["scaled = Mul (x, s)"],
    },
}


def body_from_form(form: Form, opset: int) -> onnx.FunctionProto:
    """The shipped function for maps of rank 4 that aren't large, with the form's nodes in it."""
    function = function_body(opset, {4}, most_positions=1)
    shipped = list(function.node)
    unknown = set(form) - {output for node in shipped for output in node.output}
    if unknown:
        raise ValueError(f"the shipped body has no {', '.join(sorted(unknown))}")
    del function.node[:]
    for node in shipped:
        replacement = form.get(node.output[0])
        if replacement is None:
            function.node.append(node)
        else:
            function.node.extend(onnx.parser.parse_node(text) for text in replacement)
    return function
