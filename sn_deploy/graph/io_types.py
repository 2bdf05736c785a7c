"""float32 at the borders of a graph that computes in half precision."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from sn_deploy.graph.in_float32 import HALF
from sn_deploy.graph.names import taken_by_nodes, taken_names, unused


def keep_float32_io(model: ir.Model, *, but: Collection[str] = ()) -> list[str]:
    """Casts half-precision inputs and outputs from and to float32 inside the graph. Changes ``model``.

    Args:
        but: names of those that stay half.

    Returns:
        The names of the inputs and outputs that changed their type.
    """
    graph = model.graph
    taken = taken_names(model) | taken_by_nodes(model)
    changed = []
    for index, value in enumerate(list(graph.inputs)):
        if value.dtype not in HALF or value.name is None or value.name in but:
            continue
        border = ir.Value(name=value.name, shape=value.shape, type=ir.TensorType(ir.DataType.FLOAT))
        half_dtype, half_name = value.dtype, unused(f"{value.name}_half", taken)
        cast = ir.node("Cast", [border], {"to": int(half_dtype)}, name=unused(f"cast_{value.name}", taken))
        inner = cast.outputs[0]
        inner.name, inner.shape, inner.type = half_name, value.shape, ir.TensorType(half_dtype)
        # An output that is this input is what was given, under the one name of both.
        for place, output in enumerate(graph.outputs):
            if output is value:
                graph.outputs[place] = border
        ir.convenience.replace_all_uses_with(value, inner)
        graph.inputs[index] = border
        graph.insert_before(graph[0], cast)
        changed.append(border.name or "")
    borders: dict[ir.Value, ir.Value] = {}
    for index, value in enumerate(list(graph.outputs)):
        if value in borders:  # an output that is there twice
            graph.outputs[index] = borders[value]
            continue
        if value.dtype not in HALF or value.name is None or value.name in but:
            continue
        name = value.name
        value.name = unused(f"{name}_half", taken)
        cast = ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT)}, name=unused(f"cast_{name}", taken))
        border = cast.outputs[0]
        border.name, border.shape, border.type = name, value.shape, ir.TensorType(ir.DataType.FLOAT)
        graph.append(cast)
        graph.outputs[index] = borders[value] = border
        changed.append(name)
    return changed
