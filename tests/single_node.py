"""A model of one node of our operators and its function: the smallest file that a runtime can be held against."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import onnx
from onnx import TensorProto, helper, numpy_helper

from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.graph.function_body import function_body
from sn_deploy.graph.op import (
    DOMAIN,
    RESIDUAL,
    SWITCH_NORM,
    SWITCH_NORM_ADD_RELU,
    VERSION,
    attributes_from_folded,
    input_names,
    metadata_from_folded,
    parameters_from_folded,
)

ELEMENT_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}


def single_node_model(
    folded: FoldedSwitchNorm,
    shape: Sequence[int | str | None],
    dtype: str,
    *,
    op_type: str = SWITCH_NORM,
    opset: int = 18,
    ranks: Collection[int] | None = None,
    most_positions: int | None = None,
    output_shape: bool = True,
    overload: str = "",
) -> onnx.ModelProto:
    """``Y = SwitchNorm(X)`` with the layer's constants as initializers, or a fused form, of X and maybe ``residual``.

    Args:
        op_type: the operator.
        shape: of X, with a str or None for a dynamic axis; as a rule the channels are static.
        dtype: of X, Y and the residual: float32, float16 or bfloat16.
        opset: of the standard operators in the function.
        ranks, most_positions: that the function serves; None for the rank of ``shape`` alone and for any size.
        output_shape: whether Y states its shape, or shape inference must find it.
        overload: of the function, with the general one before it, as in a file of ours.
    """
    node = helper.make_node(
        op_type, list(input_names(op_type)), ["Y"], name=folded.name, domain=DOMAIN, **attributes_from_folded(folded)
    )
    node.overload = overload
    for key, value in metadata_from_folded(folded).items():
        node.metadata_props.add(key=key, value=value)
    element_type = ELEMENT_TYPES[dtype]
    graph = helper.make_graph(
        [node],
        "single_node",
        [
            helper.make_tensor_value_info(name, element_type, list(shape))
            for name in ("X", *([RESIDUAL] if op_type == SWITCH_NORM_ADD_RELU else []))
        ],
        [helper.make_tensor_value_info("Y", element_type, list(shape) if output_shape else None)],
        [numpy_helper.from_array(value, name) for name, value in parameters_from_folded(folded).items()],
    )
    bodies = [
        function_body(
            opset,
            {len(shape)} if ranks is None else ranks,
            most_positions=most_positions,
            op_type=op_type,
            overload=each,
        )
        for each in sorted({"", overload})
    ]
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, VERSION)],
        functions=bodies,
        ir_version=10,  # the first with metadata_props
    )
