"""Old files brought to an opset that SwitchNorm's function has a body for: by onnx's converter, and what it gets wrong
put right.

The converter leaves the meaning of a few operators to chance (docs/decisions/0006-fuse.md). What can't be put right is
refused: a file that computes something else would be written otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import onnx
from onnx import helper, numpy_helper

from sn_deploy.errors import SnDeployError, first_line
from sn_deploy.graph import onnx_process
from sn_deploy.graph.function_body import MAX_OPSET, MIN_OPSET
from sn_deploy.onnx_nodes import is_standard, proto_nodes, proto_subgraphs

# From here on Resize says how coordinates are transformed, and Pad's value is an input.
_RESIZE_WITH_MODES: Final = 11
# From here on Hardmax is along one axis, and not of all from that one on.
_HARDMAX_OF_ONE_AXIS: Final = 13


def converted(proto: onnx.ModelProto, opset: int, path: Path) -> onnx.ModelProto:
    """The model in opset `MIN_OPSET`.

    Args:
        proto: without functions, which the converter would lose. Changed.
        opset: its own, below `MIN_OPSET`.
        path: of its file, for errors.

    Raises:
        SnDeployError: onnx can't convert it, or would change what it computes.
    """
    for node in filter(is_standard, proto_nodes(proto.graph.node)):
        if node.op_type == "Hardmax" and opset < _HARDMAX_OF_ONE_AXIS:
            raise _refused(f"onnx's conversion to {MIN_OPSET} changes what its Hardmax computes", opset, path)
        if node.op_type == "Pad" and opset < _RESIZE_WITH_MODES:
            _drop_unused_value(node)
    try:
        content = onnx_process.run("convert", proto.SerializeToString(), str(MIN_OPSET))
    except onnx_process.TaskError as error:
        reason = f"onnx can't convert it to {MIN_OPSET}: {first_line(error)[:200]}"
        raise _refused(reason, opset, path) from error
    made = onnx.load_from_string(content)
    if opset < _RESIZE_WITH_MODES:
        for graph, constants in _scopes(made.graph, {}):
            for node in graph.node:
                if node.op_type == "Resize" and is_standard(node):
                    _keep_meaning(node, constants, opset, path)
    return made


def _keep_meaning(resize: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto], opset: int, path: Path) -> None:
    """Says of an Upsample or a Resize of old what it said by its version: the converter leaves out how coordinates are
    transformed, and the default is another. The nearest is the one below or, as ONNX Runtime has it where a size
    shrinks, above. Scales that are computed are taken for enlarging, as feature pyramids do it: where they shrink, the
    comparison of the whole file tells."""
    nearest = "floor"
    mode = next((one.s for one in resize.attribute if one.name == "mode"), b"nearest")
    scales = constants.get(resize.input[2]) if len(resize.input) > 2 else None
    if scales is not None and mode == b"nearest":
        factors = numpy_helper.to_array(scales)
        shrinks = bool((factors < 1).any())
        if shrinks and bool((factors > 1).any()):
            raise _refused("a Resize in it shrinks one axis and enlarges another", opset, path)
        nearest = "ceil" if shrinks else nearest
    kept = [one for one in resize.attribute if one.name == "mode"]
    modes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": nearest}
    kept += [helper.make_attribute(name, mode) for name, mode in modes.items()]
    del resize.attribute[:]
    resize.attribute.extend(kept)


def _drop_unused_value(pad: onnx.NodeProto) -> None:
    """The converter leaves the value where it was, unless it is used."""
    mode = next((one.s for one in pad.attribute if one.name == "mode"), b"constant")
    kept = [one for one in pad.attribute if one.name != "value" or mode == b"constant"]
    copies = [onnx.AttributeProto.FromString(one.SerializeToString()) for one in kept]
    del pad.attribute[:]
    pad.attribute.extend(copies)


def _scopes(
    graph: onnx.GraphProto, outer: Mapping[str, onnx.TensorProto]
) -> Iterator[tuple[onnx.GraphProto, dict[str, onnx.TensorProto]]]:
    """A graph and its subgraphs, with the constants that each sees, by name: two branches may have one name each."""
    constants = {**outer, **{tensor.name: tensor for tensor in graph.initializer}}
    for node in graph.node:
        if node.op_type == "Constant":
            constants.update((node.output[0], one.t) for one in node.attribute if one.name == "value")
    yield graph, constants
    for inner in proto_subgraphs(graph.node):
        yield from _scopes(inner, constants)


def _refused(reason: str, opset: int, path: Path) -> SnDeployError:
    return SnDeployError(
        f"is of opset {opset}, and {reason}",
        where=str(path),
        mend=f"export it with an opset from {MIN_OPSET} to {MAX_OPSET}",
    )
