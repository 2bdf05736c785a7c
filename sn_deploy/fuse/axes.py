"""Names for dynamic axes that shape inference leaves unknown: those behind convolutions and pooling.

Where height and width are dynamic, ONNX's inference knows nothing of a convolution's, not even that padding keeps them.
Then nobody can tell that a residual has the shape of what it is added to. Here an axis is named after how it was
computed: two axes of one name have one size, whatever it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import onnx
import onnx_ir as ir
from onnx import TypeProto, helper

from sn_deploy.graph import op
from sn_deploy.graph.node_inference import infer_node
from sn_deploy.onnx_nodes import is_standard

_SLIDING: Final = frozenset({"Conv", "MaxPool", "AveragePool", "LpPool"})

# The names that ONNX's inference gives to axes that it knows nothing of.
_UNKNOWN: Final = "unk__"

Dim = int | str | None


def is_unknown(name: str | None) -> bool:
    """Whether an axis of this name may be of any size."""
    return name is None or name.startswith(_UNKNOWN)


def name_axes(model: ir.Model) -> None:
    """Names the unknown axes of the main graph's tensors, as far as they follow from the inputs'. Changes ``model``."""
    if not any(None in _dims(value) for node in model.graph for value in node.outputs):
        return
    opset = model.opset_imports.get("", 1)
    for node in model.graph:
        if node.domain == op.DOMAIN and node.op_type in op.OP_TYPES:
            x = node.inputs[0]
            assert x is not None
            _refine(node.outputs[0], _dims(x))
        elif is_standard(node) and any(None in _dims(value) for value in node.outputs):
            inferred = _inferred(node, opset)
            for value, dims in zip(node.outputs, inferred, strict=False):
                _refine(value, dims)


def _dims(value: ir.Value) -> list[Dim]:
    """The axes that are known; a tensor of unknown rank has one unknown axis."""
    if value.shape is None:
        return [None]
    texts = [dim if isinstance(dim, int) else dim.value for dim in value.shape]
    named = value.is_graph_input()  # the caller's own axes are what they are, whatever they are called
    return [None if isinstance(dim, str) and dim.startswith(_UNKNOWN) and not named else dim for dim in texts]


def _refine(value: ir.Value, dims: Sequence[Dim]) -> None:
    """Replaces the unknown axes of a value by those that were found. The file's own statements stay."""
    if value.shape is None:
        if None not in dims:
            value.shape = ir.Shape(dims)
        return
    own = _dims(value)
    if len(own) == len(dims) and not value.is_graph_output():
        stated = [dim if isinstance(dim, int) else dim.value for dim in value.shape]
        value.shape = ir.Shape([new if old is None and new is not None else kept
                                for old, new, kept in zip(own, dims, stated, strict=True)])  # fmt: skip


def _inferred(node: ir.Node, opset: int) -> list[list[Dim]]:
    """The axes of each output, from those of the inputs."""
    types: dict[str, TypeProto] = {}
    data: dict[str, onnx.TensorProto] = {}
    for value in node.inputs:
        if value is None or not value.name:
            continue
        shape = None if value.shape is None else _dims(value)
        types[value.name] = helper.make_tensor_type_proto(int(value.dtype or ir.DataType.FLOAT), shape)
        tensor = ir.convenience.get_const_tensor(value)
        if tensor is not None and tensor.size <= 16 and tensor.dtype == ir.DataType.INT64:
            data[value.name] = onnx.numpy_helper.from_array(tensor.numpy())
    outputs = infer_node(node, types, data, opset)
    if not outputs:
        return []
    found = [_dims_of(outputs.get(value.name or "")) for value in node.outputs]
    if node.op_type in _SLIDING and found and len(found[0]) > 2 and node.inputs[0] is not None:
        found[0][2:] = _slid(node, _dims(node.inputs[0])[2:], found[0][2:])
    return found


def _dims_of(proto: TypeProto | None) -> list[Dim]:
    if proto is None or not proto.tensor_type.HasField("shape"):
        return [None]
    dims = proto.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in dims]


def _slid(node: ir.Node, before: Sequence[Dim], after: Sequence[Dim]) -> list[Dim]:
    """The extents that a window leaves: floor((h + pads - reach) / stride) + 1."""
    count = len(before)
    kernel = _ints(node, "kernel_shape") or _kernel_of_weights(node, count)
    if kernel is None or len(after) != count:
        return list(after)
    strides, dilations = _ints(node, "strides") or [1] * count, _ints(node, "dilations") or [1] * count
    pads = _ints(node, "pads") or [0] * 2 * count
    auto = node.attributes["auto_pad"].as_string() if "auto_pad" in node.attributes else "NOTSET"
    rounding = "ceil" if "ceil_mode" in node.attributes and node.attributes["ceil_mode"].as_int() else "floor"
    found: list[Dim] = []
    for axis, (old, known) in enumerate(zip(before, after, strict=True)):
        reach = dilations[axis] * (kernel[axis] - 1) + 1
        spare = pads[axis] + pads[axis + count] - reach
        if known is not None or old is None:
            found.append(known)
        elif auto.startswith("SAME"):
            found.append(old if strides[axis] == 1 else f"ceil({old}/{strides[axis]})")
        else:
            spare = -reach if auto == "VALID" else spare
            same = strides[axis] == 1 and spare == -1
            found.append(old if same else f"{rounding}(({old}{spare:+d})/{strides[axis]})+1")
    return found


def _ints(node: ir.Node, name: str) -> list[int] | None:
    attribute = node.attributes.get(name)
    return None if attribute is None else list(attribute.as_ints())


def _kernel_of_weights(node: ir.Node, count: int) -> list[int] | None:
    weights = node.inputs[1] if len(node.inputs) > 1 else None
    shape = [] if weights is None or weights.shape is None else list(weights.shape[2:])
    sizes = [dim for dim in shape if isinstance(dim, int)]
    return sizes if len(sizes) == len(shape) == count else None
