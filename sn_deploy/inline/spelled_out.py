"""Activations that older opsets haven't, in operators that they have: Gelu of opset 20, Mish of 18."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import onnx_ir as ir

from sn_deploy.graph.in_float32 import HALF
from sn_deploy.graph.names import taken_names
from sn_deploy.graph.weights import new_weight


class _Writer:
    """Makes the nodes that stand for one."""

    def __init__(self, node: ir.Node, dtype: ir.DataType, taken: set[str]) -> None:
        self._node, self._dtype, self._taken = node, dtype, taken
        self.made: list[ir.Node] = []

    def __call__(self, kind: str, *inputs: ir.Value) -> ir.Value:
        self.made.append(ir.node(kind, inputs, name=f"{self._node.name or self._node.op_type}.{len(self.made)}"))
        (value,) = self.made[-1].outputs
        value.dtype, value.shape = self._dtype, self._node.outputs[0].shape
        return value

    def cast(self, value: ir.Value, dtype: ir.DataType | None = None) -> ir.Value:
        """The value in another type, by default that in which is computed."""
        dtype = dtype or self._dtype
        if value.dtype == dtype:
            return value
        made = self("Cast", value)
        self.made[-1].attributes["to"] = ir.AttrInt64("to", dtype)
        made.dtype = dtype
        return made

    def number(self, value: float) -> ir.Value:
        name = f"{self._node.name or self._node.op_type}.constant"
        return new_weight(self._node.graph, np.array(value, self._dtype.numpy()), name, self._taken)


def spell_out(model: ir.Model, opset: int) -> None:
    """Puts nodes that ``opset`` has in the place of those that it hasn't; others stay. Changes ``model``.

    Args:
        model: its shapes inferred.
        opset: what it is to be brought to.
    """
    taken = taken_names(model)
    for node in list(model.graph.all_nodes()):
        since, write = _SPELLED.get(node.op_type, (0, None))
        x = node.inputs[0] if node.inputs else None
        if node.domain or write is None or opset >= since or x is None or x.dtype is None:
            continue
        # In half precision the constants would be others, and so would sums in it.
        inside = ir.DataType.FLOAT if x.dtype in HALF else x.dtype
        writer = _Writer(node, inside, taken)
        result = writer.cast(write(writer, node, writer.cast(x)), x.dtype)
        assert isinstance(node.graph, ir.Graph)
        ir.convenience.replace_nodes_and_values(node.graph, node, [node], writer.made, node.outputs, [result])


def _gelu(op: _Writer, node: ir.Node, x: ir.Value) -> ir.Value:
    """x/2·(1 + erf(x/√2)), or x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))."""
    if node.attributes.get_string("approximate", "none") == "tanh":
        cubic = op("Mul", op("Mul", op("Mul", x, x), x), op.number(0.044715))
        inner = op("Tanh", op("Mul", op("Add", x, cubic), op.number(np.sqrt(2 / np.pi))))
    else:
        inner = op("Erf", op("Mul", x, op.number(np.sqrt(0.5))))
    return op("Mul", op("Mul", x, op.number(0.5)), op("Add", inner, op.number(1.0)))


def _mish(op: _Writer, node: ir.Node, x: ir.Value) -> ir.Value:
    """x·tanh(log(1 + exp(x)))."""
    return op("Mul", x, op("Tanh", op("Softplus", x)))


_SPELLED: Final[dict[str, tuple[int, Callable[[_Writer, ir.Node, ir.Value], ir.Value]]]] = {
    "Gelu": (20, _gelu),
    "Mish": (18, _mish),
}
