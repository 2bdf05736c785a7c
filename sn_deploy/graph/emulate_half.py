"""Half precision as hardware has it: each operator in float32, what it reads and writes rounded to the half type.

Products are summed in float32 and the result is rounded once. ONNX Runtime's CPU provider doesn't do that by itself: it
has no bfloat16 convolution, and between two operators of float16 that it runs in float32 it leaves the rounding out,
so that nothing overflows there that does on a GPU. The casts that a graph has itself it keeps.
"""

from __future__ import annotations

import itertools
from typing import Final

import onnx_ir as ir

from sn_deploy.graph import op
from sn_deploy.graph.in_float32 import HALF, TYPE_ATTRIBUTES
from sn_deploy.graph.mixed import can_widen
from sn_deploy.graph.names import taken_by_nodes, taken_names

# They move or convert elements, and ONNX Runtime has them in any type.
_IN_ANY_TYPE: Final = frozenset({"Cast", "Identity", "Reshape", "Shape"})


def emulate_half(model: ir.Model) -> int:
    """Puts casts around every operator of a half type. Changes ``model``.

    Returns:
        How many operators got them.
    """
    graph, count = model.graph, 0
    taken = taken_names(model) | taken_by_nodes(model)  # nodes may have no names to make others of
    names = (name for name in map("emulated_{}".format, itertools.count()) if name not in taken)
    for node in list(graph):
        if node.domain == op.DOMAIN or node.op_type in _IN_ANY_TYPE or not can_widen(node):
            continue  # our functions round themselves
        wide = False
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype in HALF:
                cast = _cast(value, ir.DataType.FLOAT, next(names))
                graph.insert_before(node, cast)
                node.replace_input_with(index, cast.outputs[0])
                wide = True
        # What reads nothing of the type, or says what it makes, makes it in float32 as well: it rounds by itself.
        rounds_itself = not wide or bool(TYPE_ATTRIBUTES & node.attributes.keys())
        for value in list(node.outputs) if not rounds_itself else ():
            half = value.dtype
            if half in HALF and half is not None:
                value.type = ir.TensorType(ir.DataType.FLOAT)
                cast = _cast(value, half, next(names))
                rounded = cast.outputs[0]
                if value.is_graph_output():
                    rounded.name, value.name = value.name, next(names)
                ir.convenience.replace_all_uses_with(value, rounded, replace_graph_outputs=True)
                cast.replace_input_with(0, value)
                graph.insert_after(node, cast)
        count += wide
    return count


def _cast(value: ir.Value, dtype: ir.DataType, name: str) -> ir.Node:
    cast = ir.node("Cast", [value], {"to": int(dtype)}, name=name)
    made = cast.outputs[0]
    made.name, made.shape, made.type = name, value.shape, ir.TensorType(dtype)
    return cast
