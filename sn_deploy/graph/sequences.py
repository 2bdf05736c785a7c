"""Values that are sequences or optional and no tensors, by the operators that make them: types may be unknown."""

from __future__ import annotations

import functools

import onnx.defs
import onnx_ir as ir


def is_no_tensor(value: ir.Value) -> bool:
    """Whether it is known to be no tensor."""
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        return True
    node, index = value.producer(), value.index()
    return node is not None and index is not None and node.domain == "" and index in _places(node.op_type)


@functools.cache
def _places(op_type: str) -> frozenset[int]:
    """Of an operator's outputs those that can't be tensors."""
    try:
        schema = onnx.defs.get_schema(op_type)
    except onnx.defs.SchemaError:
        return frozenset()
    return frozenset(
        index
        for index, formal in enumerate(schema.outputs)
        if formal.types and not any(one.startswith("tensor(") for one in formal.types)
    )
