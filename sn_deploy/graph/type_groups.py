"""Which inputs and outputs of an operator have one type, as its ONNX schema says."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import onnx.defs
import onnx_ir as ir

# Operators all of whose float inputs are one tensor's parameters: they go with X, though their types may differ.
_GO_TOGETHER: Final = frozenset({"BatchNormalization"})


@dataclass(frozen=True)
class TypeGroup:
    """Inputs and outputs of one node that have one type: places in its lists."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def type_groups(node: ir.Node, schema: onnx.defs.OpSchema, half_name: str) -> list[TypeGroup]:
    """Inputs and outputs by the schema's type variables, of those that may be half."""
    able = {
        constraint.type_param_str
        for constraint in schema.type_constraints
        if half_name in constraint.allowed_type_strs and "tensor(float)" in constraint.allowed_type_strs
    }
    inputs: dict[str, list[int]] = {}
    outputs: dict[str, list[int]] = {}
    for index, value in enumerate(node.inputs):
        if value is not None:
            inputs.setdefault(_variable(schema.inputs, index), []).append(index)
    for index in range(len(node.outputs)):
        outputs.setdefault(_variable(schema.outputs, index), []).append(index)
    names = [name for name in inputs if name in able]
    if node.op_type in _GO_TOGETHER and names:
        everything = sorted(index for name in names for index in inputs[name])
        written = sorted(index for name in names for index in outputs.get(name, []))
        return [TypeGroup(tuple(everything), tuple(written))]
    if node.op_type == "DequantizeLinear":
        # Up to opset 22 the scale's type is the output's; later an attribute may say it.
        scale = _variable(schema.inputs, 1)
        written_by = _variable(schema.outputs, 0)
        if half_name not in _allowed(schema, written_by):
            return []
        return [TypeGroup(tuple(inputs.get(scale, [])), (0,))]
    return [TypeGroup(tuple(inputs[name]), tuple(outputs.get(name, []))) for name in names]


def _allowed(schema: onnx.defs.OpSchema, variable: str) -> Collection[str]:
    return next((c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == variable), [])


def _variable(formals: Sequence[onnx.defs.OpSchema.FormalParameter], index: int) -> str:
    """The type variable of an input or output; the last one of a variadic operator is repeated."""
    return str(formals[min(index, len(formals) - 1)].type_str) if formals else ""
