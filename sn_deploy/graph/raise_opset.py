"""A graph brought to a newer opset, for types that its own doesn't have.

From 18 on onnxscript's converter does it. From 15 to 17, as `sn-deploy fuse` writes files, few operators changed, and
they are here: what an attribute said is said by an input, and a default that changed is written out.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common_passes
from onnxscript import version_converter

from sn_deploy.errors import SnDeployError, first_line
from sn_deploy.graph import op
from sn_deploy.graph.inference_rules import schema_of
from sn_deploy.graph.names import taken_by_nodes, taken_names, unused

_OLDEST: Final = 15
_OLDEST_OF_CONVERTER: Final = 18

# Changed between the two in what they take, by types or by attributes whose default is what was: the same node.
_SAME: Final = frozenset(
    {
        "GreaterOrEqual", "Identity", "If", "LeakyRelu", "LessOrEqual", "Loop", "LpPool", "OptionalGetElement",
        "OptionalHasElement", "PRelu", "Pad", "Resize", "Scan", "ScatterElements", "ScatterND", "Where",
    }
)  # fmt: skip
# Their axes became an input.
_REDUCTIONS: Final = frozenset(
    {
        "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
        "ReduceSumSquare",
    }
)  # fmt: skip


def raise_opset(model: ir.Model, opset: int, *, where: str) -> None:
    """Brings the graph to a newer opset. Changes ``model``; its functions go, those of others in the place of their
    calls.

    Args:
        where: the option that asks for it, for errors.

    Raises:
        SnDeployError: it can't be brought there.
    """
    before = model.opset_imports[""]
    mend = f"make the file with opset {opset}: sn-deploy export --opset {opset}, or opset_version={opset} of torch.onnx"
    if before < _OLDEST:
        raise SnDeployError(f"opset {before} doesn't have the type for its operators", where=where, mend=mend)
    try:
        # The converter would put our bodies, too, in the place of their calls; they are written anew for the new opset.
        for own in [name for name, function in model.functions.items() if _is_ours(function)]:
            del model.functions[own]
        if model.functions:  # the operators of others are raised with the rest
            common_passes.InlinePass()(model)
            common_passes.NameFixPass()(model)
        if before < _OLDEST_OF_CONVERTER:
            _raise_to_converter(model, before)
        version_converter.convert_version(model, opset, fallback=False)
    except Exception as error:  # the converter's own, and what its adapters raise
        raise SnDeployError(
            f"opset {before} doesn't have the type for its operators, and can't be raised: {first_line(error)[:200]}",
            where=where,
            mend=mend,
        ) from error
    if model.opset_imports[""] != opset:
        raise SnDeployError(f"opset {before} can't be raised to {opset}", where=where, mend=mend)


def _is_ours(function: ir.Function) -> bool:
    return function.domain == op.DOMAIN and function.name in op.OP_TYPES


class _NotRaisedError(Exception):
    """An operator that changed in a way that isn't known here."""


def _raise_to_converter(model: ir.Model, before: int) -> None:
    names = taken_names(model) | taken_by_nodes(model)
    for node in list(model.graph.all_nodes()):
        if node.domain != "" or not _changed(node.op_type, before):
            continue
        if node.op_type in _REDUCTIONS:
            _give_axes(model, node, names)
        elif node.op_type == "Split":
            if len(node.inputs) < 2 or node.inputs[1] is None:
                node.attributes["num_outputs"] = ir.AttrInt64("num_outputs", len(node.outputs))
        elif node.op_type == "RoiAlign":
            mode = "coordinate_transformation_mode"
            node.attributes.setdefault(mode, ir.AttrString(mode, "output_half_pixel"))
        elif node.op_type not in _SAME:
            raise _NotRaisedError(f"{node.op_type} changed between {before} and {_OLDEST_OF_CONVERTER}")
        node.version = None
    model.opset_imports[""] = _OLDEST_OF_CONVERTER


def _changed(op_type: str, before: int) -> bool:
    versions = []
    for opset in (before, _OLDEST_OF_CONVERTER):
        schema = schema_of("", op_type, opset)
        if schema is None:
            raise _NotRaisedError(f"opset {opset} has no {op_type}")
        versions.append(schema.since_version)
    return versions[0] != versions[1]


def _give_axes(model: ir.Model, node: ir.Node, names: set[str]) -> None:
    """The reduced axes as an input; without any, all are, as before."""
    axes = node.attributes.pop("axes", None)
    if axes is None:
        return
    name = unused(f"{node.name or node.op_type}_axes", names)
    value = ir.Value(name=name, const_value=ir.tensor(np.array(axes.as_ints(), np.int64), name=name))
    value.shape, value.type = ir.Shape([len(axes.as_ints())]), ir.TensorType(ir.DataType.INT64)
    model.graph.register_initializer(value)
    node.resize_inputs(2)
    node.replace_input_with(1, value)
