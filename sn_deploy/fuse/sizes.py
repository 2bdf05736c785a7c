"""The sizes of tensors when the dynamic axes of the inputs have given ones.

Shape inference leaves off where a Reshape takes sizes that were computed. Here they are computed: nodes on sizes are
run, all others are asked for their output's shape. Needed only where a region reads the shape of a tensor that is not
its own, as files from torch's dynamo exporter with dynamic axes do.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TypeProto, helper, numpy_helper

from sn_deploy.fuse.facts import GraphFacts
from sn_deploy.fuse.growth import MOST_NUMBERS, most_made
from sn_deploy.graph import op
from sn_deploy.graph.node_inference import infer_node
from sn_deploy.onnx_nodes import is_standard
from sn_deploy.runtime.tensors import Array

Shape = tuple[int, ...]

# The first axis of an input, and its others in turn. Multiples of 64 divide evenly through most networks.
_BATCHES: Final = (1, 2, 3)
_EXTENTS: Final = ((64, 128, 192), (128, 64, 64), (192, 64, 128))

_MOST_COMPUTED: Final = 4096  # values in a tensor of sizes


class Sizes:
    """The shapes of the values of a model's main graph, for one choice of its dynamic axes.

    Args:
        model: its inputs state their ranks.
        facts: of its main graph.
        setting: which choice, 0 to 2.
    """

    def __init__(self, model: ir.Model, facts: GraphFacts, setting: int) -> None:
        self._opset = model.opset_imports.get("", 1)
        self._facts = facts
        self._shapes: dict[ir.Value, Shape] = {}
        self._numbers: dict[ir.Value, Array] = {}
        symbols: dict[str, int] = {}
        for value in model.graph.inputs:
            if value.shape is not None:
                sizes = (_BATCHES[setting], *_EXTENTS[setting] * 4)
                self._shapes[value] = tuple(
                    dim if isinstance(dim, int) else _chosen(dim.value, symbols, size)
                    for dim, size in zip(value.shape, sizes, strict=False)
                )
        for node in model.graph:
            self._follow(node)

    def shape(self, value: ir.Value) -> Shape | None:
        """The value's shape, or None where it can't be known."""
        found = self._shapes.get(value)
        return _static(value) if found is None else found

    def _follow(self, node: ir.Node) -> None:
        if all(_static(value) is not None and self._facts.is_data(value) for value in node.outputs):
            return
        if node.domain == op.DOMAIN and node.op_type in op.OP_TYPES:
            x = node.inputs[0]
            shape = None if x is None else self.shape(x)
            if shape is not None:
                self._shapes[node.outputs[0]] = shape
            return
        if not is_standard(node):
            return
        if node.op_type in ("Shape", "Size"):
            self._take_shape(node)
        elif self._facts.is_size(node.outputs[0]):
            self._compute(node)
        elif self._facts.is_data(node.outputs[0]):
            self._infer(node)

    def _take_shape(self, node: ir.Node) -> None:
        given = node.inputs[0]
        shape = None if given is None else self.shape(given)
        if shape is not None:
            self._numbers[node.outputs[0]] = shape_output(node, shape)

    def _number(self, value: ir.Value) -> Array | None:
        if value in self._numbers:
            return self._numbers[value]
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is not None and tensor.size <= _MOST_COMPUTED:
            return tensor.numpy()
        producer = value.producer()
        if tensor is None and producer is not None and self._facts.is_constant(value):
            self._compute(producer)
            return self._numbers.get(value)
        return None

    def _compute(self, node: ir.Node) -> None:
        from onnx.reference import ReferenceEvaluator

        feeds: dict[str, Array] = {}
        for value in node.inputs:
            if value is None:
                continue
            number = self._number(value)
            if number is None:
                return
            feeds[value.name or ""] = number
        proto = _proto(node)
        if most_made(proto, [feeds[name] for name in proto.input if name]) > MOST_NUMBERS:
            return
        try:
            outputs = ReferenceEvaluator(proto, opsets={"": self._opset}).run(None, feeds)
        except Exception:  # noqa: BLE001 - the reference operators' own; unknown is an answer
            return
        for value, output in zip(node.outputs, outputs, strict=False):
            self._numbers[value] = np.asarray(output)

    def _infer(self, node: ir.Node) -> None:
        types: dict[str, TypeProto] = {}
        numbers: dict[str, onnx.TensorProto] = {}
        for value in node.inputs:
            if value is None:
                continue
            number = None if self._facts.is_data(value) else self._number(value)
            shape = self.shape(value) if number is None else number.shape
            dtype = value.dtype if number is None else ir.DataType.from_numpy(number.dtype)
            types[value.name or ""] = helper.make_tensor_type_proto(int(dtype or ir.DataType.FLOAT), shape)
            if number is not None:
                numbers[value.name or ""] = numpy_helper.from_array(np.ascontiguousarray(number).reshape(number.shape))
        outputs = infer_node(node, types, numbers, self._opset)
        for value in node.outputs:
            found = outputs.get(value.name or "", TypeProto()).tensor_type
            if found.HasField("shape") and all(dim.HasField("dim_value") for dim in found.shape.dim):
                self._shapes[value] = tuple(dim.dim_value for dim in found.shape.dim)


def shape_output(node: ir.Node, shape: Shape) -> Array:
    """What a Shape or Size node gives for a tensor of ``shape``."""
    if node.op_type == "Size":
        return np.asarray(np.prod(shape, dtype=np.int64), dtype=np.int64)
    start, end = (node.attributes.get(name) for name in ("start", "end"))
    return np.asarray(
        shape[None if start is None else start.as_int() : None if end is None else end.as_int()], dtype=np.int64
    )


def _chosen(symbol: str | None, symbols: dict[str, int], size: int) -> int:
    return size if symbol is None else symbols.setdefault(symbol, size)


def _static(value: ir.Value) -> Shape | None:
    shape = value.shape
    if shape is None or not all(isinstance(dim, int) for dim in shape):
        return None
    return tuple(dim for dim in shape if isinstance(dim, int))


def _proto(node: ir.Node) -> onnx.NodeProto:
    proto = ir.serde.serialize_node(node)
    assert isinstance(proto, onnx.NodeProto)
    return proto
