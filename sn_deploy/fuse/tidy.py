"""What exporters leave beside the layers: arithmetic on constant sizes, and sizes that `Reshape` knows by itself.

Both are integers: weights, and all else that a network computes with, stay as they are. A size is taken to be known
only if it follows from the inputs of the graph, and not because the file states it of a tensor: files whose inputs were
made dynamic afterwards still state the old sizes of all others.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common_passes
from onnx.reference import ReferenceEvaluator

from sn_deploy.fuse.axes import is_unknown, name_axes
from sn_deploy.fuse.sizes import shape_output
from sn_deploy.graph.inference import infer_shapes
from sn_deploy.graph.names import taken_names
from sn_deploy.graph.weights import new_weight
from sn_deploy.onnx_nodes import is_standard
from sn_deploy.runtime.tensors import Array

# Operators whose result is computed where all that they read is known.
_COMPUTED: Final = frozenset(
    {"Abs", "Add", "And", "Cast", "Concat", "Div", "Equal", "Gather", "Greater", "Identity", "Less", "Max", "Min",
     "Mod", "Mul", "Neg", "Not", "Or", "ReduceProd", "Reshape", "Size", "Slice", "Squeeze", "Sub", "Unsqueeze", "Where"}
)  # fmt: skip

# Operators that hand on the numbers that they are given, in the same order.
_PASSING: Final = frozenset({"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"})

_SIZE_TYPES: Final = (ir.DataType.INT64, ir.DataType.INT32)

# Numbers in a tensor of sizes.
_MOST: Final = 4096


@dataclass(frozen=True)
class _Axis:
    """The size of an axis of a tensor, which isn't known."""

    tensor: ir.Value
    axis: int

    def is_axis_of(self, tensor: ir.Value, axis: int) -> bool:
        """Whether it is the size of this axis, too."""
        return (self.tensor is tensor and self.axis == axis) or (
            (name := _name(self.tensor, self.axis)) is not None and name == _name(tensor, axis)
        )


_Sizes = list["int | _Axis"]


def tidy(model: ir.Model) -> None:
    """Folds arithmetic on constant integers, and makes the sizes of a Reshape constants where it fills in what isn't
    known: 0 for an axis of its input, and -1 for one other. Changes ``model``."""
    if not any(_is_of_sizes(node) for node in model.graph.all_nodes()):
        return
    with _only_inferred_shapes(model):
        known = _Known(model)
        for node in list(model.graph.all_nodes()):
            known.follow(node)
        known.write()
    common_passes.RemoveUnusedNodesPass()(model)


def _is_of_sizes(node: ir.Node) -> bool:
    """Whether the node may be arithmetic on sizes that can be done once and for all."""
    if not is_standard(node) or node.op_type not in _COMPUTED:
        return node.op_type == "Shape"
    return node.op_type == "Size" or all(_constant(value) is not None for value in node.inputs if value is not None)


@contextlib.contextmanager
def _only_inferred_shapes(model: ir.Model) -> Iterator[None]:
    """Without the shapes that the file states of what its nodes make, but as they follow from its inputs."""
    stated = {value: value.shape for node in model.graph.all_nodes() for value in node.outputs}
    for value in stated:
        value.shape = None
    infer_shapes(model)
    name_axes(model)
    try:
        yield
    finally:
        for value, shape in stated.items():
            value.shape = shape


class _Known:
    """What is known of the integers of a graph, node by node.

    Attributes:
        arrays: values that are constants.
        computed: those that a node makes which could be a constant.
    """

    def __init__(self, model: ir.Model) -> None:
        self._opset = model.opset_imports.get("", 1)
        self.arrays: dict[ir.Value, Array] = {}
        self.computed: list[ir.Value] = []
        self._sizes: dict[ir.Value, _Sizes] = {}
        self._taken = taken_names(model)

    def follow(self, node: ir.Node) -> None:
        """Takes note of what the node makes; a Reshape gets its sizes."""
        if not is_standard(node) or len(node.outputs) != 1:
            return
        made = node.outputs[0]
        if node.op_type == "Shape":
            self._take_shape(node)
        elif node.op_type in _COMPUTED and (array := self._compute(node)) is not None:
            self._set(made, array)
        elif (sizes := self._pass_on(node)) is not None:
            self._sizes[made] = sizes
        elif node.op_type == "Reshape":
            self._settle(node)

    def _take_shape(self, node: ir.Node) -> None:
        given, made = node.inputs[0], node.outputs[0]
        if given is None or given.shape is None:
            return
        every = np.arange(len(given.shape))
        axes = shape_output(node, tuple(every))
        sizes: _Sizes = [dim if isinstance(dim := given.shape[axis], int) else _Axis(given, axis) for axis in axes]
        if all(isinstance(size, int) for size in sizes):
            self._set(made, np.asarray(sizes, dtype=np.int64))
        else:
            self._sizes[made] = sizes

    def write(self) -> None:
        """Puts constants in the place of what was computed, where something else reads it."""
        replaced = {value for value in self.computed if not value.is_graph_output()}
        for value in self.computed:
            uses = [use for use in value.uses() if use.node.outputs[0] not in replaced]
            producer = value.producer()
            if not uses or producer is None or value not in replaced:
                continue
            name, value.name = str(value.name), None
            self._taken.discard(name)
            weight = new_weight(producer.graph, self.arrays[value], name, self._taken)
            for use in uses:
                use.node.replace_input_with(use.idx, weight)

    def _set(self, value: ir.Value, array: Array) -> None:
        self.arrays[value] = array
        self.computed.append(value)

    def _array(self, value: ir.Value) -> Array | None:
        """The value as a constant, if it is a small one of integers."""
        if value not in self.arrays and (tensor := _constant(value)) is not None:
            self.arrays[value] = tensor.numpy()
        return self.arrays.get(value)

    def _compute(self, node: ir.Node, first: Array | None = None) -> Array | None:
        """What the node makes of constants; its first input may be given."""
        feeds: dict[str, Array] = {}
        for place, value in enumerate(node.inputs):
            if value is not None:
                array = first if place == 0 and first is not None else self._array(value)
                if array is None:
                    return None
                feeds[value.name or ""] = array
        counts = [array.size for array in feeds.values()]
        if not feeds or (sum(counts) if node.op_type == "Concat" else math.prod(counts)) > _MOST:
            return None
        proto = ir.serde.serialize_node(node)
        assert isinstance(proto, onnx.NodeProto)
        try:
            with np.errstate(all="raise"):
                (output,) = ReferenceEvaluator(proto, opsets={"": self._opset}).run(None, feeds)
        except Exception:  # noqa: BLE001 - the reference operators' own; what can't be computed stays
            return None
        output = np.asarray(output)
        return output if output.dtype.kind in "iub" else None

    def _numbers(self, value: ir.Value | None) -> _Sizes | None:
        """The numbers of a vector or a scalar of sizes."""
        if value is None:
            return None
        if value in self._sizes:
            return self._sizes[value]
        array = self._array(value)
        return None if array is None or array.ndim > 1 else [int(number) for number in array.ravel()]

    def _pass_on(self, node: ir.Node) -> _Sizes | None:
        """The sizes that a node makes of sizes of which some aren't known."""
        first = node.inputs[0] if node.inputs else None
        if node.op_type == "Concat":
            parts = [self._numbers(value) for value in node.inputs]
            return None if any(part is None for part in parts) else [size for part in parts for size in part or ()]
        sizes = self._sizes.get(first) if first is not None else None
        if sizes is None:
            return None
        if node.op_type in _PASSING:
            return sizes if node.op_type != "Cast" or node.attributes["to"].as_int() in _SIZE_TYPES else None
        if node.op_type not in ("Gather", "Slice"):
            return None
        # What it makes of the places of the numbers.
        places = self._compute(node, np.arange(len(sizes)))
        return None if places is None else [sizes[place] for place in places.ravel()]

    def _settle(self, node: ir.Node) -> None:
        """Gives a Reshape its sizes as constants, where it finds by itself what isn't known of them."""
        data, given = node.inputs[0], node.inputs[1] if len(node.inputs) > 1 else None
        sizes = self._sizes.get(given) if given is not None else None
        if data is None or given is None or sizes is None:
            return
        literal = "allowzero" in node.attributes and node.attributes["allowzero"].as_int() != 0
        # Where no size is 0 in so many words, a 0 may be given its other meaning.
        copies = not literal or 0 not in sizes
        numbers = [
            size if isinstance(size, int) else 0 if copies and size.is_axis_of(data, axis) else -1
            for axis, size in enumerate(sizes)
        ]
        if numbers.count(-1) > 1 or (-1 in numbers and 0 in numbers and not copies):
            return
        array = np.asarray(numbers, dtype=np.int64)
        weight = new_weight(node.graph, array, f"{node.outputs[0].name}.sizes", self._taken)
        node.replace_input_with(1, weight)
        if literal and copies:
            del node.attributes["allowzero"]


def _name(tensor: ir.Value, axis: int) -> str | None:
    """What a dynamic axis is called."""
    if tensor.shape is None or axis >= len(tensor.shape):
        return None
    dim = tensor.shape[axis]
    return None if isinstance(dim, int) or is_unknown(dim.value) else dim.value


def _constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    """A small constant of integers; a weight that is an input, too, may be given another value."""
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    fits = tensor is not None and (tensor.dtype.is_integer() or tensor.dtype == ir.DataType.BOOL)
    return tensor if fits and tensor is not None and tensor.size <= _MOST else None
