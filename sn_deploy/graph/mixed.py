"""Parts of a half-precision graph in float32: their nodes as they are, between casts, with float32 weights."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from sn_deploy.errors import SnDeployError
from sn_deploy.graph.in_float32 import TYPE_ATTRIBUTES
from sn_deploy.graph.names import taken_names, unused
from sn_deploy.onnx_nodes import subgraphs

HALF_TYPES = {"float16": ir.DataType.FLOAT16, "bfloat16": ir.DataType.BFLOAT16}

# Name of a weight -> the float32 numbers that it was rounded from, where somebody knows them.
Originals = Callable[[str], npt.NDArray[np.float32] | None]


def can_widen(node: ir.Node) -> bool:
    """Whether a node computes in float32 when it is given float32: those that hold graphs have types of their own."""
    return not subgraphs(node)


def widen(
    model: ir.Model, nodes: Collection[ir.Node], half: ir.DataType, originals: Originals = lambda name: None
) -> None:
    """Lets these nodes compute in float32. Changes ``model``.

    What they read is cast to float32 and what others read of theirs is cast back, once for each tensor; between two of
    them nothing is cast. Weights become float32: the original where it is known and rounds to the weight in the file,
    else that one's own value.

    Args:
        nodes: of the main graph; see `can_widen`.
        half: the type that becomes float32.

    Raises:
        SnDeployError: the type of a tensor isn't known.
    """
    _Widening(model, set(nodes), half, originals).run()


class _Widening:
    def __init__(self, model: ir.Model, nodes: set[ir.Node], half: ir.DataType, originals: Originals) -> None:
        self._graph, self._nodes, self._half, self._originals = model.graph, nodes, half, originals
        self._names = taken_names(model)
        self._wide: dict[ir.Value, ir.Value] = {}  # what stays half -> the same in float32

    def run(self) -> None:
        in_order = [node for node in self._graph if node in self._nodes]
        made = [value for node in in_order for value in node.outputs if self._is_half(value)]
        for node in in_order:
            for index, value in enumerate(node.inputs):
                if value is not None and value.producer() not in self._nodes and self._is_half(value):
                    node.replace_input_with(index, self._widened(value))
            self._widen_attributes(node)
        for value in made:
            value.type = ir.TensorType(ir.DataType.FLOAT)
            self._give_back(value)
        for value in self._wide:
            if value.is_initializer() and not (value.uses() or value.is_graph_input() or value.is_graph_output()):
                del self._graph.initializers[str(value.name)]

    def _is_half(self, value: ir.Value) -> bool:
        if value.dtype is None and value.name and (value.uses() or value.is_graph_output()):
            raise SnDeployError("its type isn't known", where=f"tensor {value.name}", mend="export the file anew")
        return value.dtype == self._half

    def _widened(self, value: ir.Value) -> ir.Value:
        if value not in self._wide:
            is_weight = value.is_initializer() and not value.is_graph_input()
            self._wide[value] = self._weight(value) if is_weight else self._cast_of(value)
        return self._wide[value]

    def _weight(self, value: ir.Value) -> ir.Value:
        assert value.const_value is not None
        stored = np.asarray(value.const_value.numpy())
        wide = stored.astype(np.float32)
        original = self._originals(str(value.name))
        if original is not None and original.shape == stored.shape:
            with np.errstate(over="ignore"):
                rounded = original.astype(self._half.numpy())
            if np.array_equal(rounded.astype(np.float32), wide):
                wide = np.asarray(original, dtype=np.float32)
        tensor = ir.tensor(wide, name=unused(f"{value.name}/float32", self._names))
        made = ir.Value(name=tensor.name, shape=value.shape, type=ir.TensorType(ir.DataType.FLOAT), const_value=tensor)
        self._graph.register_initializer(made)
        return made

    def _cast_of(self, value: ir.Value) -> ir.Value:
        cast = _cast(value, ir.DataType.FLOAT, unused(f"{value.name}/float32", self._names))
        producer = value.producer()
        if producer is None:
            self._graph.insert_before(self._graph[0], cast)
        else:
            self._graph.insert_after(producer, cast)
        return cast.outputs[0]

    def _give_back(self, value: ir.Value) -> None:
        """Casts what a wide node makes for all who aren't wide; an output of the graph keeps its name and type."""
        others = [use for use in value.uses() if use.node not in self._nodes]
        is_output = value.is_graph_output()
        producer = value.producer()
        if producer is None or not (others or is_output):
            return
        name = str(value.name)
        if is_output:
            value.name = unused(f"{name}/float32", self._names)
        cast = _cast(value, self._half, name if is_output else unused(f"{name}/half", self._names))
        narrow = cast.outputs[0]
        self._graph.insert_after(producer, cast)
        for use in others:
            use.node.replace_input_with(use.idx, narrow)
        for index, output in enumerate(self._graph.outputs):
            if output is value:
                self._graph.outputs[index] = narrow

    def _widen_attributes(self, node: ir.Node) -> None:
        for name, attribute in list(node.attributes.items()):
            if name in TYPE_ATTRIBUTES and attribute.type == ir.AttributeType.INT:
                if attribute.as_int() == int(self._half):
                    node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.FLOAT))
            elif attribute.type == ir.AttributeType.TENSOR and attribute.as_tensor().dtype == self._half:
                wide = np.asarray(attribute.as_tensor().numpy()).astype(np.float32)
                node.attributes[name] = ir.AttrTensor(name, ir.tensor(wide))


def _cast(value: ir.Value, to: ir.DataType, name: str) -> ir.Node:
    """A node that gives the value in another type, under this name."""
    cast = ir.node("Cast", [value], {"to": int(to)}, name=f"cast/{name}")
    made = cast.outputs[0]
    made.name, made.shape, made.type = name, value.shape, ir.TensorType(to)
    return cast
