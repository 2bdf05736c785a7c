"""Reading an ONNX file that others wrote, into a graph in which layers can be looked for.

Old files are brought to an opset that SwitchNorm's function has a body for; shapes that the file leaves out are
inferred; functions of the exporter's own are put in the place of their calls. Weights stay where they are, in the
file's external data, say, until they are needed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
import onnx_ir as ir

from sn_deploy.errors import SnDeployError, first_line
from sn_deploy.fuse.convert import converted
from sn_deploy.graph import onnx_process
from sn_deploy.graph.calls import settle_calls
from sn_deploy.graph.function_body import MAX_OPSET, MIN_OPSET
from sn_deploy.graph.inference import check_inference, infer_shapes
from sn_deploy.graph.layers import check_nodes
from sn_deploy.graph.order import check_order
from sn_deploy.graph.own_functions import is_ours
from sn_deploy.onnx_file import as_invalid, load_attributes, read_proto, size_with_data
from sn_deploy.onnx_nodes import STANDARD_DOMAINS, proto_nodes
from sn_deploy.onnx_sizes import check_sizes, refuse_sparse

# The first with metadata on nodes; ONNX Runtime reads it from 1.18 on.
_IR_VERSION: Final = 10

# Below it initializers had to be inputs as well, which then said nothing.
_IR_VERSION_OF_FREE_INITIALIZERS: Final = 4

# Larger tensors are kept out of conversion and inference: they hold weights, not shapes or axes.
_MOST_BYTES: Final = 1024


@dataclass(frozen=True)
class Loaded:
    """A model, and what its file was: the version of its standard operators, its nodes, its size with external data."""

    model: ir.Model
    opset: int
    nodes: int
    bytes: int


def load(path: Path, *, freeze: bool = False) -> Loaded:
    """The model of an ONNX file.

    Args:
        path: of the file; its external data lies beside it.
        freeze: take weights that are inputs, too, for constants.

    Raises:
        SnDeployError: no ONNX file, one that can't be brought to a supported opset, or one whose shapes have no end.
    """
    proto = read_proto(path)
    size = size_with_data(proto, path)
    check_sizes(proto, path)
    refuse_sparse(proto, path)
    load_attributes(proto, path)
    nodes = sum(1 for _ in proto_nodes(proto.graph.node))
    if freeze or proto.ir_version < _IR_VERSION_OF_FREE_INITIALIZERS:
        _remove_initializers_from_inputs(proto)
    opset = _opset(proto, path)
    weights = _take_weights(proto.graph)
    if opset < MIN_OPSET or proto.functions:
        # Conversion infers shapes, and both go into all calls of functions.
        read = _deserialized(proto, path)
        check_nodes(read, str(path))
        check_inference(read, str(path))
    # Inlined first: conversion loses functions.
    proto = _inlined(proto, path, every=opset < MIN_OPSET)
    if opset < MIN_OPSET:
        proto = converted(proto, opset, path)
    proto.ir_version = max(proto.ir_version, _IR_VERSION)
    model = _deserialized(proto, path)
    infer_shapes(model, str(path))
    with as_invalid(path):
        _give_back(model, weights, path.parent)
    check_order(model, str(path))
    return Loaded(model, opset, nodes, size)


def _opset(proto: onnx.ModelProto, path: Path) -> int:
    opset = next((entry.version for entry in proto.opset_import if entry.domain in STANDARD_DOMAINS), None)
    if opset is None:
        raise SnDeployError("imports no standard operators", where=str(path), expected="an ONNX model of a network")
    if opset > MAX_OPSET:
        raise SnDeployError(
            f"is of opset {opset}", where=str(path), expected=f"at most {MAX_OPSET}", mend="export it with an older one"
        )
    return int(opset)


def _remove_initializers_from_inputs(proto: onnx.ModelProto) -> None:
    """As newer formats allow it: onnx's converter takes the format's word for it."""
    graph = proto.graph
    proto.ir_version = max(proto.ir_version, _IR_VERSION_OF_FREE_INITIALIZERS)
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)


@dataclass(frozen=True)
class _Weights:
    """Large weights taken out of a graph, which of them are inputs only in the meantime, and the order of all."""

    tensors: tuple[onnx.TensorProto, ...]
    placeholders: frozenset[str]
    order: tuple[str, ...]


def _take_weights(graph: onnx.GraphProto) -> _Weights:
    """Replaces large weights by inputs of their shape and type. Those that are inputs, too, stay inputs."""
    large: list[onnx.TensorProto] = []
    small: list[onnx.TensorProto] = []
    for tensor in graph.initializer:
        external = tensor.data_location == onnx.TensorProto.EXTERNAL
        (large if external or tensor.ByteSize() > _MOST_BYTES else small).append(tensor)
    order = tuple(tensor.name for tensor in graph.initializer)
    placeholders = {tensor.name for tensor in large} - {value.name for value in graph.input}
    for tensor in large:
        if tensor.name in placeholders:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    del graph.initializer[:]
    graph.initializer.extend(small)
    return _Weights(tuple(large), frozenset(placeholders), order)


def _give_back(model: ir.Model, weights: _Weights, folder: Path) -> None:
    inputs = {value.name: value for value in model.graph.inputs}
    kept = [value for value in model.graph.inputs if value.name not in weights.placeholders]
    model.graph.inputs.clear()
    model.graph.inputs.extend(kept)
    for proto in weights.tensors:
        value = inputs[proto.name]
        value.const_value = ir.serde.deserialize_tensor(proto, folder)
        model.graph.register_initializer(value)
    initializers = model.graph.initializers
    for name in weights.order:
        if name in initializers:
            initializers[name] = initializers.pop(name)


def _inlined(proto: onnx.ModelProto, path: Path, *, every: bool) -> onnx.ModelProto:
    """The functions of others in the place of their calls: a layer may be written as several. Those that only bear the
    names of ours, too: what they compute has to stay. With ``every``, ours as well.
    """
    functions = [(function.domain, function.name) for function in proto.functions if every or not is_ours(function)]
    if not functions:
        return proto
    settle_calls(proto, functions)
    try:
        return onnx.load_from_string(onnx_process.run("inline", proto.SerializeToString(), json.dumps(functions)))
    except onnx_process.TaskError as error:
        raise SnDeployError(f"its functions can't be inlined: {first_line(error)[:200]}", where=str(path)) from error


def _deserialized(proto: onnx.ModelProto, path: Path) -> ir.Model:
    with as_invalid(path):
        return ir.from_proto(proto)
