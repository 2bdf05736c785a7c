"""ONNX's shape inference of one node."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import onnx_ir as ir
from onnx import TypeProto, helper

from sn_deploy.graph.inference_risk import Sizes, is_risky_node


def infer_node(
    node: ir.Node, types: Mapping[str, TypeProto], numbers: Mapping[str, onnx.TensorProto], opset: int
) -> dict[str, TypeProto]:
    """What inference says of the outputs of one standard node; nothing where it fails, or isn't known to survive.

    Args:
        types: of the inputs, by name.
        numbers: of the inputs that are constant, by name.
        opset: of the standard operators.
    """
    shapes = [_sizes(types.get(value.name or "")) if value is not None else None for value in node.inputs]
    if is_risky_node(node, shapes):
        return {}
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
        proto = ir.serde.serialize_node(node)
        imports = [helper.make_opsetid("", opset)]
        return dict(onnx.shape_inference.infer_node_outputs(schema, proto, dict(types), dict(numbers), None, imports))
    except Exception:  # noqa: BLE001 - the inference's own; unknown is an answer
        return {}


def _sizes(kind: TypeProto | None) -> Sizes | None:
    if kind is None or not kind.tensor_type.HasField("shape"):
        return None
    return [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.tensor_type.shape.dim]
