"""A float32 graph in half precision: weights and activations become fp16 or bf16, SwitchNorm's constants don't.

What becomes half is found along the data: a float input of the graph, or a weight, makes each operator that reads it
half, as far as the operator's ONNX schema takes the type, and with it what the operator writes. Arithmetic on shapes
(a Resize's scales from a Shape, say) reads no data and so stays as it is. The nodes in ``keep`` compute in float32:
what they read is cast up, what they write is cast where a half operator reads it. Why this and no library:
docs/decisions/0010-half-precision.md.

A set of SN layers in float32 within a half file, in three lines::

    nodes = keep.named_nodes(model, ["layer1.0.sn1"], with_convolutions=True)
    conversion = convert_precision(model, "fp16", keep=nodes)
    write_functions(model)  # done by convert_precision, too
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from sn_deploy.errors import SnDeployError
from sn_deploy.graph import op
from sn_deploy.graph.in_float32 import HALF
from sn_deploy.graph.inference import infer_shapes
from sn_deploy.graph.inference_rules import schema_of
from sn_deploy.graph.io_types import keep_float32_io
from sn_deploy.graph.layers import write_functions
from sn_deploy.graph.names import taken_by_nodes, taken_names, unused
from sn_deploy.graph.raise_opset import raise_opset
from sn_deploy.graph.rounded_weights import RoundedWeight, rounded, rounding_loss
from sn_deploy.graph.sequences import is_no_tensor
from sn_deploy.graph.type_groups import TypeGroup, type_groups
from sn_deploy.onnx_nodes import is_standard, subgraphs

HALF_TYPES: Final = {"fp16": ir.DataType.FLOAT16, "bf16": ir.DataType.BFLOAT16}

# The first opset with convolutions, pooling and matrix products of bfloat16 alike.
BF16_OPSET: Final = 22

_TYPE_NAMES: Final = {ir.DataType.FLOAT16: "tensor(float16)", ir.DataType.BFLOAT16: "tensor(bfloat16)"}

# float32 constants of fewer elements than this are what a graph computes shapes and borders with, not weights.
_FEW: Final = 8

# What they make is of the type that they read where they don't say another.
_LIKES: Final = frozenset({"EyeLike", "RandomNormalLike", "RandomUniformLike", "Bernoulli"})

# Operators whose schema takes half types, and that can't be put into one; why.
_STAY: Final = {
    "BitCast": "it reads bits, and those of a half type are others",
    "MeanVarianceNormalization": "it is defined by numbers in float32",
}


@dataclass(frozen=True)
class Conversion:
    """What `convert_precision` did.

    Attributes:
        converted: nodes that compute in half precision now; kept: those of the user's choice that don't.
        left: node -> why it was left in float32 although it reads data, of nodes that nobody asked to keep.
        rounded: the weights that lose values.
        opset: of the result; opset_before: of the source.
        casts: Cast nodes that were added.
    """

    converted: tuple[str, ...]
    kept: tuple[str, ...]
    left: Mapping[str, str]
    rounded: tuple[RoundedWeight, ...]
    opset: int
    opset_before: int
    casts: int


def convert_precision(
    model: ir.Model, precision: str, *, keep: Collection[ir.Node] = (), keep_io_types: bool = True
) -> Conversion:
    """Puts a float32 graph into half precision. Changes ``model``; its functions are written anew.

    Args:
        precision: ``fp16`` or ``bf16``.
        keep: nodes that stay in float32; see `sn_deploy.graph.keep`.
        keep_io_types: inputs and outputs of the graph keep their types; otherwise those of float32 become half, but for
            weights that are inputs or outputs.

    Raises:
        SnDeployError: another precision, nothing in float32, or an opset that has no bfloat16 and can't be raised.
    """
    if not isinstance(model, ir.Model):
        raise SnDeployError(
            f"the graph is a {type(model).__name__}",
            expected="an onnx_ir.Model",
            mend="read a file with onnx_ir.load; for files there is sn_deploy.precision.convert_precision",
        )
    if precision not in HALF_TYPES:
        raise SnDeployError(f"{precision!r} is no precision", where="--precision", expected=" or ".join(HALF_TYPES))
    half = HALF_TYPES[precision]
    opset_before = model.opset_imports[""]
    common_passes.LiftConstantsToInitializersPass(lift_all_constants=False, size_limit=_FEW)(model)
    infer_shapes(model)
    if operators_of_newer_opset(model, half):
        raise_opset(model, BF16_OPSET, where="--precision bf16")
        infer_shapes(model)  # of what functions had been
    _write_types_of_likes(model)
    half_before = {value.name for value in (*model.graph.inputs, *model.graph.outputs) if value.dtype in _TYPE_NAMES}
    casts_before = sum(node.op_type == "Cast" for node in model.graph)
    walk = _Walk(model, half, frozenset(keep), keep_io_types)
    walk.run()
    if not walk.converted:
        reason = next(iter(walk.left.values()), "it has no float32 data")
        raise SnDeployError(
            f"nothing of it can be put into {precision}: {reason}", where="--precision", expected="a float32 model"
        )
    if keep_io_types:
        keep_float32_io(model, but={name for name in half_before if name})
    write_functions(model)
    casts = sum(node.op_type == "Cast" for node in model.graph) - casts_before
    return Conversion(
        tuple(walk.converted),
        tuple(walk.kept),
        walk.left,
        tuple(walk.rounded),
        model.opset_imports[""],
        opset_before,
        casts,
    )


def _write_types_of_likes(model: ir.Model) -> None:
    """Says in the nodes what type they make: without it, it is that of what they read, which is to become another."""
    for node in model.graph:
        made = node.outputs[0].dtype if node.outputs else None
        if node.domain == "" and node.op_type in _LIKES and "dtype" not in node.attributes and made is not None:
            node.attributes["dtype"] = ir.AttrInt64("dtype", made.value)


def operators_of_newer_opset(model: ir.Model, half: ir.DataType) -> list[str]:
    """The operators of the graph that take the type in a later version than the file's, sorted."""
    opset = model.opset_imports[""]
    if half != ir.DataType.BFLOAT16 or opset >= BF16_OPSET:
        return []
    names = {node.op_type for node in model.graph if node.domain == ""}
    return sorted(name for name in names if _takes(name, BF16_OPSET, half) and not _takes(name, opset, half))


def _takes(op_type: str, opset: int, half: ir.DataType) -> bool:
    schema = schema_of("", op_type, opset)
    allowed = schema.type_constraints if schema is not None else []
    return any(_TYPE_NAMES[half] in constraint.allowed_type_strs for constraint in allowed)


@dataclass
class _Walk:
    """One pass over the graph in the order in which it runs."""

    model: ir.Model
    half: ir.DataType
    keep: frozenset[ir.Node]
    keep_io_types: bool
    converted: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    rounded: list[RoundedWeight] = field(default_factory=list)
    _data: set[ir.Value] = field(default_factory=set)
    _names: set[str] = field(default_factory=set)
    _cast: dict[tuple[ir.Value, ir.DataType], ir.Value] = field(default_factory=dict)

    def run(self) -> None:
        """Converts the graph."""
        graph = self.model.graph
        self._names.update(taken_names(self.model) | taken_by_nodes(self.model))
        for value in graph.inputs:
            if value.dtype == ir.DataType.FLOAT:
                self._data.add(value)
                if not self.keep_io_types and not value.is_initializer():
                    value.type = ir.TensorType(self.half)
            elif value.dtype == self.half:
                self._data.add(value)
        self._data.update(value for value in graph.initializers.values() if _is_weight(value))
        for node in list(graph):
            self._take(node)
        half_outputs: dict[ir.Value, ir.Value] = {}
        for index, value in enumerate(graph.outputs):
            # A weight that is an output, too, keeps its type and its name.
            if value.is_initializer():
                continue
            if not self.keep_io_types and value.dtype == ir.DataType.FLOAT and value in self._data:
                if value not in half_outputs:  # else an output that is there twice
                    half_outputs[value] = self._half_output(value)
                graph.outputs[index] = half_outputs[value]
        self._drop_unused()

    def _take(self, node: ir.Node) -> None:
        reads_data = any(value in self._data for value in node.inputs if value is not None)
        if (node.domain, node.op_type) == ("", "Cast") and node not in self.keep:
            # It reads any type, and says itself what it writes.
            self._data.update(value for value in node.outputs if reads_data and _is_float(value))
            return
        groups = self._groups(node)
        if node in self.keep or isinstance(groups, str):
            self._leave(node, groups if isinstance(groups, str) and node not in self.keep else None, reads_data)
            return
        half_groups = [group for group in groups if self._has_data(node, group)]
        done: set[int] = set()
        before = [value.dtype for value in (*node.inputs, *node.outputs) if value is not None]
        for group in half_groups:
            for index in group.inputs:
                self._give(node, index, self.half)
            for index in group.outputs:
                if index < len(node.outputs):
                    node.outputs[index].type = ir.TensorType(self.half)
            done.update(group.inputs)
        for index, value in enumerate(node.inputs):
            if index not in done and value is not None and value.dtype == self.half and value in self._data:
                self._give(node, index, ir.DataType.FLOAT)
        if before != [value.dtype for value in (*node.inputs, *node.outputs) if value is not None]:
            self.converted.append(node.name or node.op_type)
        if reads_data or half_groups:
            self._data.update(value for value in node.outputs if _is_float(value))

    def _leave(self, node: ir.Node, why: str | None, reads_data: bool) -> None:
        """In float32, with all that it and its subgraphs read; what these read or hold is data that it reads."""
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype == self.half and value in self._data:
                self._give(node, index, ir.DataType.FLOAT)
        reads_data = reads_data or any(map(_is_weight, _own_weights(node)))
        for value, uses in _captured(node):
            reads_data = reads_data or value in self._data
            if value.dtype == self.half and value in self._data:
                cast = self._as(value, ir.DataType.FLOAT)
                for user, index in uses:
                    user.replace_input_with(index, cast)
        if reads_data:
            self._data.update(value for value in node.outputs if _is_float(value))
            if why is None:
                self.kept.append(node.name or node.op_type)
            else:
                self.left[node.name or node.op_type] = why

    def _groups(self, node: ir.Node) -> list[TypeGroup] | str:
        """The groups of one type that may be half; a reason where the node has to stay float32."""
        if node.domain == op.DOMAIN:
            places = [0, *range(1 + len(op.PARAMETERS), len(node.inputs))]  # X and residual
            return [TypeGroup(tuple(places), (0,))]
        if subgraphs(node):
            return "it has a graph of its own"
        if not is_standard(node):
            return f"an operator of {node.domain}, whose types aren't known"
        if node.op_type in _STAY:
            return _STAY[node.op_type]
        schema = schema_of("", node.op_type, self.model.opset_imports[""])
        if schema is None:
            return f"opset {self.model.opset_imports['']} has no such operator"
        if any(value is not None and is_no_tensor(value) for value in (*node.inputs, *node.outputs)):
            return "it reads or writes something that is no tensor"
        groups = type_groups(node, schema, _TYPE_NAMES[self.half])
        reads_float = any(value in self._data and value.dtype in (ir.DataType.FLOAT, self.half)
                          for value in node.inputs if value is not None)  # fmt: skip
        if not groups and reads_float and any(_is_float(value) for value in node.outputs):
            return f"{node.op_type} of opset {self.model.opset_imports['']} takes no {_TYPE_NAMES[self.half]}"
        return groups

    def _has_data(self, node: ir.Node, group: TypeGroup) -> bool:
        values = [value for index in group.inputs if (value := node.inputs[index]) is not None]
        if any(value.dtype in HALF and value.dtype != self.half for value in values):
            return False  # in the other half type already
        if (node.domain, node.op_type) == ("", "DequantizeLinear"):
            # What it makes is data, whatever made the integers; its readers decide.
            return not all(user in self.keep for user in node.outputs[0].consumers())
        return any(value in self._data and value.dtype in (ir.DataType.FLOAT, self.half) for value in values)

    def _give(self, node: ir.Node, index: int, dtype: ir.DataType) -> None:
        value = node.inputs[index]
        if value is None or value.dtype == dtype or value.dtype not in (ir.DataType.FLOAT, self.half):
            return
        node.replace_input_with(index, self._as(value, dtype, node))

    def _as(self, value: ir.Value, dtype: ir.DataType, reader: ir.Node | None = None) -> ir.Value:
        """The value in that type: a weight of it, or a Cast behind what makes it, once for all readers."""
        known = self._cast.get((value, dtype))
        if known is None:
            if value.is_initializer() and not value.is_graph_input():
                known = self._weight(value, dtype, reader)
            else:
                known = self._cast_node(value, dtype)
            self._cast[value, dtype] = known
            self._cast[known, ir.DataType.FLOAT if dtype == self.half else self.half] = value
            if value in self._data:
                self._data.add(known)
        return known

    def _weight(self, value: ir.Value, dtype: ir.DataType, reader: ir.Node | None) -> ir.Value:
        tensor = value.const_value
        assert tensor is not None
        if dtype == self.half:
            loss = rounding_loss(value, tensor, self.half, reader)
            if loss is not None:
                self.rounded.append(loss)
        made = ir.Value(
            name=self._new_name(value, dtype), shape=value.shape, type=ir.TensorType(dtype), const_value=None
        )
        made.const_value = ir.LazyTensor(
            lambda: ir.Tensor(rounded(tensor.numpy(), dtype.numpy()), dtype=dtype, name=made.name),
            dtype=dtype,
            shape=tensor.shape,  # type: ignore[arg-type]
            name=made.name,
        )
        self.model.graph.register_initializer(made)
        return made

    def _cast_node(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        graph, producer = self.model.graph, value.producer()
        name = self._new_name(value, dtype)
        cast = ir.node("Cast", [value], {"to": int(dtype)}, name=unused(f"cast_{name}", self._names))
        made = cast.outputs[0]
        made.name, made.shape, made.type = name, value.shape, ir.TensorType(dtype)
        if producer is None:
            graph.insert_before(graph[0], cast)
        else:
            graph.insert_after(producer, cast)
        return made

    def _new_name(self, value: ir.Value, dtype: ir.DataType) -> str:
        return unused(f"{value.name}_{'float32' if dtype == ir.DataType.FLOAT else 'half'}", self._names)

    def _half_output(self, value: ir.Value) -> ir.Value:
        made, name = self._as(value, self.half), value.name
        value.name, made.name = self._new_name(value, ir.DataType.FLOAT), name
        return made

    def _drop_unused(self) -> None:
        """Removes weights that are read in the other type alone, whose copies then take their names."""
        initializers = self.model.graph.initializers
        for (value, dtype), made in list(self._cast.items()):
            name = value.name
            if dtype != self.half or not value.is_initializer() or value.uses() or value.is_graph_output():
                continue
            if name is None or initializers.get(name) is not value or made.const_value is None:
                continue
            del initializers[name]
            old = made.name
            assert old is not None
            del initializers[old]
            made.name = name
            self.model.graph.register_initializer(made)


def _captured(node: ir.Node) -> list[tuple[ir.Value, list[tuple[ir.Node, int]]]]:
    """Values of the graph around it that the node's subgraphs read, and where."""
    found: dict[ir.Value, list[tuple[ir.Node, int]]] = {}
    inner = [each for graph in subgraphs(node) for each in graph.all_nodes()]
    own = {value for each in inner for value in each.outputs}
    own |= {value for graph in subgraphs(node) for value in (*graph.inputs, *graph.initializers.values())}
    for each in inner:
        for index, value in enumerate(each.inputs):
            if value is not None and value not in own and value.graph is node.graph:
                found.setdefault(value, []).append((each, index))
    return list(found.items())


def _own_weights(node: ir.Node) -> Iterator[ir.Value]:
    """The weights of the node's subgraphs."""
    for graph in subgraphs(node):
        for each in (graph, *graph.subgraphs()):
            yield from each.initializers.values()


def _is_float(value: ir.Value) -> bool:
    return value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def _is_weight(value: ir.Value) -> bool:
    tensor = value.const_value
    return value.dtype == ir.DataType.FLOAT and tensor is not None and tensor.size >= _FEW
