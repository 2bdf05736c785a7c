"""Small ONNX files with SwitchNorm nodes, built by hand: what a reader of files is tested on, without the exporter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DOMAIN = "sn_deploy"


def node(
    name: str,
    x: str,
    y: str,
    mean: tuple[float, float] = (0.5, 0.3),
    var: tuple[float, float] = (0.2, 0.1),
    *,
    op_type: str = "SwitchNorm",
    bn: tuple[float, float] | None = None,
    layer: str | None = None,
    drop: Sequence[str] = (),
) -> onnx.NodeProto:
    """A SwitchNorm node with the (C,) inputs ``scale``, ``bias``, ``mean_offset`` and ``var_offset``."""
    attributes = {"mean_in": mean[0], "mean_ln": mean[1], "var_in": var[0], "var_ln": var[1], "ddof": 1}
    made = helper.make_node(
        op_type,
        [x, "scale", "bias", "mean_offset", "var_offset", *(["residual"] if "Add" in op_type else [])],
        [y],
        name=name,
        domain=DOMAIN,
        **{key: value for key, value in attributes.items() if key not in drop},
    )
    metadata = {"sn_deploy.layer": layer}
    if bn is not None:
        metadata |= {"sn_deploy.mean_bn": repr(bn[0]), "sn_deploy.var_bn": repr(bn[1])}
    helper.set_model_props(made, {key: value for key, value in metadata.items() if value is not None})
    return made


def model(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str] | None = ("N", 4, 8, 8),
    *,
    initializers: Sequence[onnx.TensorProto] = (),
    output: str = "y",
) -> onnx.ModelProto:
    """A model from ``x`` to ``output`` with the four constants of 4 channels."""
    constants = [
        numpy_helper.from_array(np.full(4, value, np.float32), name)
        for name, value in (("scale", 1), ("bias", 0), ("mean_offset", 0), ("var_offset", 1))
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("residual", TensorProto.FLOAT, shape),
        ],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [*constants, *initializers],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)
