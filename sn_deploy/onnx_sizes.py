"""What is wrong with a damaged file, before anything is computed from it.

onnx's own checker is stricter than runtimes are, and refuses much that runs. What is looked for here is what libraries
trip over or allocate memory for: sizes that lie.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Final

import onnx
import onnx_ir as ir

from sn_deploy.errors import SnDeployError
from sn_deploy.input_file import COPY_AGAIN
from sn_deploy.onnx_nodes import is_standard, proto_nodes, proto_subgraphs

_TYPES: Final = onnx.TensorProto
_HALF_BYTES: Final = frozenset(
    getattr(_TYPES, name) for name in ("INT4", "UINT4", "FLOAT4E2M1") if hasattr(_TYPES, name)
)
_QUARTER_BYTES: Final = frozenset(getattr(_TYPES, name) for name in ("INT2", "UINT2") if hasattr(_TYPES, name))
_FIELDS: Final[dict[int, str]] = {
    _TYPES.FLOAT: "float_data",
    _TYPES.COMPLEX64: "float_data",
    _TYPES.DOUBLE: "double_data",
    _TYPES.COMPLEX128: "double_data",
    _TYPES.INT64: "int64_data",
    _TYPES.UINT32: "uint64_data",
    _TYPES.UINT64: "uint64_data",
    _TYPES.STRING: "string_data",
}
_ATTRIBUTE: Final = onnx.AttributeProto
# What a Constant node may have its value in, and of which type that is then.
_VALUES: Final[dict[str, int]] = {
    "value": _ATTRIBUTE.TENSOR,
    "sparse_value": _ATTRIBUTE.SPARSE_TENSOR,
    **{
        f"value_{kind}": getattr(_ATTRIBUTE, kind.upper())
        for kind in ("float", "floats", "int", "ints", "string", "strings")
    },
}
_GRAPHS: Final = frozenset({_ATTRIBUTE.GRAPH, _ATTRIBUTE.GRAPHS})
_SPARSE: Final = frozenset({_ATTRIBUTE.SPARSE_TENSOR, _ATTRIBUTE.SPARSE_TENSORS})
# What NumPy's arrays end at, sizes of 0 left out.
_MOST_AXES: Final = 32  # 64 from NumPy 2 on
_MOST_NUMBERS: Final = 1 << 59

_COMPLEX: Final = frozenset({_TYPES.COMPLEX64, _TYPES.COMPLEX128})


def check_sizes(proto: onnx.ModelProto, path: Path) -> None:
    """Refuses tensors whose data isn't of their shape and type, and attributes without a type, of another one, or that
    stand for what isn't there. Changes negative sizes of inputs and outputs, by which some exporters mean unknown ones,
    to unknown ones, and drops all functions of a name but one where first and last are the same.

    Raises:
        SnDeployError: with the tensor's or the node's name.
    """
    _check_doubles(proto, path)
    _drop_doubled_functions(proto)
    _check_graphs([proto.graph], path)
    for function in proto.functions:
        _check_nodes(function.node, path, in_function=True)
        _check_graphs(list(proto_subgraphs(function.node)), path, in_function=True)


def refuse_sparse(proto: onnx.ModelProto, path: Path) -> None:
    """Refuses sparse weights and constants in a file that another is to be made of: onnx_ir reads the one as nothing,
    and the other not at all.

    Args:
        path: of the file, for the error.

    Raises:
        SnDeployError: with the first of them.
    """
    holders = (proto.graph.node, *(function.node for function in proto.functions))
    nodes = [node for holder in holders for node in proto_nodes(holder)]
    graphs = (proto.graph, *proto_subgraphs(nodes))
    found = [f"weight {one.values.name!r}" for graph in graphs for one in graph.sparse_initializer]
    found += [f"{node.op_type} {node.name!r}" for node in nodes if any(one.type in _SPARSE for one in node.attribute)]
    if found:
        expected, mend = "weights and constants that are dense", "write it anew with all its numbers"
        raise SnDeployError(f"{found[0]} is sparse", where=str(path), expected=expected, mend=mend)


# onnx-graphsurgeon's folding, and polygraphy's with it, writes overloads of a function under one name.
_WITHOUT_OVERLOADS: Final = (
    f"{COPY_AGAIN}; where a tool wrote it that knows no overloads, give that what sn-deploy inline makes of its source"
)


def _check_doubles(proto: onnx.ModelProto, path: Path) -> None:
    """Refuses what is there twice under one name, and not the same: who reads it takes the first or the last."""
    opsets = (("ai.onnx" if one.domain == "" else one.domain, one) for one in proto.opset_import)
    _check_once(((domain, one.version) for domain, one in opsets), "opset of", path)
    named = [((one.domain, one.name, one.overload), one.SerializeToString()) for one in proto.functions]
    # What stands between the first and the last of a name nobody takes.
    ends = [*dict(reversed(named)).items(), *dict(named).items()]
    _check_once(ends, "function", path, _WITHOUT_OVERLOADS)


def _drop_doubled_functions(proto: onnx.ModelProto) -> None:
    """Keeps the first of each name, after `_check_doubles`.

    polygraphy's folding takes the overloads off the functions of sn-deploy specialise, which begin and end with the
    general one (`sn_deploy.graph.overloads`). Some libraries refuse a name that is there twice, ONNX Runtime from 1.31
    on among them.
    """
    first: dict[Hashable, onnx.FunctionProto] = {}
    for one in proto.functions:
        first.setdefault((one.domain, one.name, one.overload), one)
    if len(first) < len(proto.functions):
        kept = [onnx.FunctionProto.FromString(one.SerializeToString()) for one in first.values()]
        del proto.functions[:]
        proto.functions.extend(kept)


def _check_once(named: Iterable[tuple[Hashable, object]], what: str, path: Path, mend: str = COPY_AGAIN) -> None:
    found: dict[Hashable, object] = {}
    for name, content in named:
        if found.setdefault(name, content) != content:
            shown = "::".join(filter(None, name)) if isinstance(name, tuple) else name
            raise SnDeployError(
                f"has the {what} {shown!r} twice, and not the same", where=str(path), expected="one", mend=mend
            )


def _check_graphs(waiting: list[onnx.GraphProto], path: Path, *, in_function: bool = False) -> None:
    while waiting:
        graph = waiting.pop()
        for tensor in graph.initializer:
            _check_tensor(tensor, f"weight {tensor.name!r}", path)
        weights = [(one.name, one) for one in graph.initializer] + [
            (one.values.name, one) for one in graph.sparse_initializer
        ]
        if len(dict(weights)) < len(weights):
            _check_once(((name, one.SerializeToString()) for name, one in weights), "weight", path)
        for value in (*graph.input, *graph.output, *graph.value_info):
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_value < 0:
                    dim.ClearField("dim_value")
        _check_nodes(graph.node, path, in_function=in_function)
        waiting += proto_subgraphs(graph.node)


def _check_nodes(nodes: Iterable[onnx.NodeProto], path: Path, *, in_function: bool) -> None:
    for node in nodes:
        is_constant = node.op_type == "Constant" and is_standard(node)
        if is_constant and not any(attribute.name in _VALUES for attribute in node.attribute):
            raise SnDeployError(f"Constant {node.name!r} has no value", where=str(path), mend=COPY_AGAIN)
        if is_constant and any(_VALUES.get(one.name, one.type) != one.type for one in node.attribute):
            raise SnDeployError(
                f"the value of Constant {node.name!r} is of another type", where=str(path), mend=COPY_AGAIN
            )
        if len({one.name for one in node.attribute}) < len(node.attribute):
            attributes = ((one.name, one.SerializeToString()) for one in node.attribute)
            _check_once(attributes, f"attribute of {node.op_type} {node.name!r}", path)
        for attribute in node.attribute:
            where = f"attribute {attribute.name!r} of {node.op_type} {node.name!r}"
            if attribute.type == _ATTRIBUTE.UNDEFINED:
                raise SnDeployError(f"{where} has no type", where=str(path), mend=COPY_AGAIN)
            if attribute.ref_attr_name and (not in_function or attribute.type in _GRAPHS):
                # onnx_ir goes into a graph that isn't there.
                what = "a graph that a function is called with" if in_function else "a function's attribute, in none"
                raise SnDeployError(f"{where} is {what}", where=str(path), mend=COPY_AGAIN)
            for tensor in (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors):
                _check_tensor(tensor, where, path)


def _check_tensor(tensor: onnx.TensorProto, where: str, path: Path) -> None:
    if any(size < 0 for size in tensor.dims):
        raise SnDeployError(f"{where} has the shape {list(tensor.dims)}", where=str(path), mend=COPY_AGAIN)
    if len(tensor.dims) > _MOST_AXES or math.prod(filter(None, tensor.dims)) >= _MOST_NUMBERS:
        raise SnDeployError(
            f"{where} has the shape {list(tensor.dims)!s:.80}, which no array has", where=str(path), mend=COPY_AGAIN
        )
    count = math.prod(tensor.dims)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return
    found, expected = _lengths(tensor, count)
    if found != expected:
        shape = "×".join(map(str, tensor.dims)) or "a scalar"
        raise SnDeployError(
            f"{where} has {found} for the shape {shape}", where=str(path), expected=expected, mend=COPY_AGAIN
        )


def byte_count(tensor: onnx.TensorProto) -> int | None:
    """How many bytes the values take; None where there is no such shape or type, or none that has a size."""
    kind = tensor.data_type
    per_byte = 2 if kind in _HALF_BYTES else 4 if kind in _QUARTER_BYTES else 1
    if kind == _TYPES.STRING or any(size < 0 for size in tensor.dims):
        return None
    try:
        # Not onnx's own table: before 1.19 it has float32 in bfloat16's place, which it then is read as.
        item = -(-ir.DataType(kind).bitwidth // 8)
    except (ValueError, TypeError):
        return None
    count: int = math.prod(tensor.dims)
    return -(-count // per_byte) if per_byte > 1 else count * item


def _lengths(tensor: onnx.TensorProto, count: int) -> tuple[str, str]:
    """How much data a tensor has, and how much it should have."""
    kind = tensor.data_type
    parts = 2 if kind in _COMPLEX else 1
    per_byte = 2 if kind in _HALF_BYTES else 4 if kind in _QUARTER_BYTES else 1
    if tensor.HasField("raw_data"):
        bytes_ = byte_count(tensor)
        if bytes_ is None:
            return f"the type {kind}", "a type of ONNX"
        return f"{len(tensor.raw_data)} bytes", f"{bytes_} bytes"
    if kind not in onnx.TensorProto.DataType.values() or kind == _TYPES.UNDEFINED:
        return f"the type {kind}", "a type of ONNX"
    numbers = len(getattr(tensor, _FIELDS.get(kind, "int32_data")))
    return f"{numbers} numbers", f"{-(-count * parts // per_byte)} numbers"
