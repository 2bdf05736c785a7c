"""A model without functions, brought to another opset: onnx's converter, and what it has no way for."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

import onnx
import onnx_ir as ir

from sn_deploy.arguments import whole_number
from sn_deploy.errors import SnDeployError, first_line
from sn_deploy.graph import onnx_process
from sn_deploy.graph.inference import infer_shapes
from sn_deploy.graph.save import EXTERNAL_DATA_FROM_BYTES, weight_bytes
from sn_deploy.inline.local_constants import copy_into_bodies, lift_from_bodies
from sn_deploy.inline.older_forms import end_conversion, write_older_forms
from sn_deploy.inline.spelled_out import spell_out
from sn_deploy.onnx_file import model_of

# Of these onnx has no way down, nor of what is in their bodies.
_WITH_BODIES: Final = ("If", "Loop")
_OLDEST_WITH_BODIES: Final = 16

# Below it onnx has no way down for arithmetic (Add, Sub, Mul, Div); above nothing has been tried.
MIN_OPSET: Final = 14
MAX_OPSET: Final = 24


def check_opset(opset: int) -> None:
    """Refuses an opset that no file is brought to.

    Raises:
        SnDeployError: it is none of `MIN_OPSET` to `MAX_OPSET`.
    """
    whole_number(opset, "opset")
    if not MIN_OPSET <= opset <= MAX_OPSET:
        raise SnDeployError(
            f"files can't be brought to opset {opset}", where="opset", expected=f"{MIN_OPSET} to {MAX_OPSET}"
        )


def brought_to(model: ir.Model, opset: int, source: Path) -> ir.Model:
    """The model with standard operators of this opset.

    Args:
        model: of standard operators alone. Changed.
        opset: one that `check_opset` lets pass.
        source: the file, for errors.

    Raises:
        SnDeployError: it is too large for onnx's converter, or has operators that can't be brought there.
    """
    if weight_bytes(model) >= EXTERNAL_DATA_FROM_BYTES:
        raise SnDeployError(
            "is too large for onnx's converter, which takes files below 2 GB",
            where=str(source),
            mend="leave --opset out",
        )
    _refuse_bodies(model, opset, source)
    ir.external_data.load_to_model(model)
    infer_shapes(model, str(source))
    write_older_forms(model, opset)
    spell_out(model, opset)
    copied = copy_into_bodies(model)
    proto = ir.to_proto(model)
    try:
        made = onnx.load_from_string(onnx_process.run("convert", proto.SerializeToString(), str(opset)))
    except onnx_process.TaskError as error:
        raise _refused(opset, _fault(error), source) from error
    # What reads the older opset may refuse a newer format; without functions and overloads nothing needs it.
    oldest: int = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)], ignore_unknown=True)
    made.ir_version = oldest if opset < model.opset_imports[""] else max(made.ir_version, oldest)
    _check_attributes(made, proto, opset, source)
    converted = model_of(made, source)
    end_conversion(converted)
    if copied:
        lift_from_bodies(converted)
    return converted


def _refuse_bodies(model: ir.Model, opset: int, source: Path) -> None:
    if opset >= _OLDEST_WITH_BODIES or model.opset_imports.get("", 0) < _OLDEST_WITH_BODIES:
        return
    for node in model.graph.all_nodes():
        if node.op_type in _WITH_BODIES and not node.domain:
            raise SnDeployError(
                f"has {node.op_type} nodes, which onnx brings to no opset below {_OLDEST_WITH_BODIES}",
                where=f"{source}, node {node.name}",
                mend=f"give --opset {_OLDEST_WITH_BODIES} or a later one",
            )


def _check_attributes(made: onnx.ModelProto, before: onnx.ModelProto, opset: int, source: Path) -> None:
    """Refuses what the converter leaves where the older opset doesn't have it, in a file that was valid before."""
    try:
        onnx.checker.check_model(made)
    except onnx.checker.ValidationError as error:
        with contextlib.suppress(onnx.checker.ValidationError):
            onnx.checker.check_model(before)
            raise _refused(opset, first_line(error), source) from error


def _refused(opset: int, fault: str, source: Path) -> SnDeployError:
    return SnDeployError(
        f"onnx can't bring it to opset {opset}: {fault[:200]}",
        where=str(source),
        mend="give an opset nearer to the file's own",
    )


def _fault(error: Exception) -> str:
    """What the converter's assertion says, without the place in its sources."""
    return first_line(error).rpartition("` failed: ")[2]
