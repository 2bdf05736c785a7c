"""What one ONNX file holds, as far as two can be compared by it. Weights are read when they are asked for."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from sn_deploy.onnx_file import read_proto, size_with_data
from sn_deploy.onnx_nodes import proto_nodes
from sn_deploy.onnx_sizes import byte_count, check_sizes
from sn_deploy.runtime.tensors import Array
from sn_deploy.text import shape_text


@dataclass(frozen=True)
class Weight:
    """An initializer or a Constant node's tensor, its values left in the file."""

    tensor: onnx.TensorProto
    folder: Path

    @property
    def kind(self) -> str:
        """Shape and type, such as ``64×3×7×7 float32``."""
        return f"{shape_text(self.tensor.dims)} {helper.tensor_dtype_to_np_dtype(self.tensor.data_type).name}"

    @property
    def size(self) -> int:
        """Bytes of the values, as a file holds them: two of 4 bits in one, say."""
        packed = byte_count(self.tensor)
        return sum(map(len, self.tensor.string_data)) if packed is None else packed

    def values(self) -> Array:
        """The tensor itself; text as bytes, which need be no characters."""
        if self.tensor.data_type == onnx.TensorProto.STRING:
            return np.array(list(self.tensor.string_data), dtype=object).reshape(tuple(self.tensor.dims))
        return np.asarray(numpy_helper.to_array(self.tensor, base_dir=str(self.folder)))

    def digest(self) -> bytes:
        """A hash of shape, type and values."""
        found = hashlib.blake2b(self.kind.encode(), digest_size=16)
        found.update(bytes_of(self.values()))
        return found.digest()


def bytes_of(values: Array) -> bytes:
    """Bytes that are the same where the values are."""
    return repr(values.tolist()).encode() if values.dtype == object else np.ascontiguousarray(values).tobytes()


@dataclass(frozen=True)
class FileContents:
    """See `sn_deploy.diff.changes.FileDiff`.

    ``attributes`` counts nodes by operator and attributes, whatever the order of these; ``proto`` is what was read.
    """

    path: Path
    proto: onnx.ModelProto
    properties: Mapping[str, str]
    ops: Counter[str]
    attributes: Counter[tuple[str, bytes]]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    weights: Mapping[str, Weight]


def read_contents(path: Path) -> FileContents:
    """Reads a file, without its external data.

    Raises:
        SnDeployError: it can't be read, is no ONNX file, or its external data is missing.
    """
    proto = read_proto(path)
    check_sizes(proto, path)
    nodes = list(proto_nodes(proto.graph.node))
    weights = {tensor.name: Weight(tensor, path.parent) for tensor in proto.graph.initializer}
    for node in nodes:
        if node.op_type == "Constant" and node.output and node.attribute and node.attribute[0].name == "value":
            weights.setdefault(node.output[0], Weight(node.attribute[0].t, path.parent))
    size = size_with_data(proto, path)
    properties = {
        "size": f"{size} bytes",
        "nodes": str(len(nodes)),
        "IR version": str(proto.ir_version),
        **{f"opset {entry.domain or 'ai.onnx'}": str(entry.version) for entry in proto.opset_import},
        "producer": f"{proto.producer_name} {proto.producer_version}".strip(),
        "functions": ", ".join(f"{each.domain}::{each.name}" for each in proto.functions),
        **{f"metadata {prop.key}": prop.value for prop in proto.metadata_props},
    }
    return FileContents(
        path=path,
        proto=proto,
        properties=properties,
        ops=Counter(map(_op, nodes)),
        attributes=Counter((_op(node), _attributes(node)) for node in nodes),
        inputs={value.name: describe(value) for value in proto.graph.input if value.name not in weights},
        outputs={value.name: describe(value) for value in proto.graph.output},
        weights=weights,
    )


def describe(value: onnx.ValueInfoProto) -> str:
    """Shape and type, such as ``batch×3×224×224 float32``."""
    if not value.type.HasField("tensor_type"):
        return value.type.WhichOneof("value") or "unknown"
    tensor = value.type.tensor_type
    try:
        name = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name if tensor.elem_type else "?"
    except KeyError:
        name = f"type {tensor.elem_type}"
    if not tensor.HasField("shape"):
        return f"? {name}"
    dims = ("?" if not dim.WhichOneof("value") else str(dim.dim_param or dim.dim_value) for dim in tensor.shape.dim)
    return f"{'×'.join(dims) or 'scalar'} {name}"


def _op(node: onnx.NodeProto) -> str:
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type


def _attributes(node: onnx.NodeProto) -> bytes:
    """All but subgraphs, whose nodes count themselves, and a Constant's tensor, which is a weight."""
    found = []
    for attribute in sorted(node.attribute, key=lambda one: one.name):
        if not (attribute.HasField("g") or attribute.graphs or (node.op_type, attribute.name) == ("Constant", "value")):
            plain = onnx.AttributeProto()
            plain.CopyFrom(attribute)
            plain.ClearField("doc_string")
            found.append(plain.SerializeToString(deterministic=True))
    return b"\0".join(found)
