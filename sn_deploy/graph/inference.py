"""ONNX's shape inference for files that may come from anybody. All that infers shapes does it here.

Inference holds each tensor's shape, and, where it follows the values of shapes ("data propagation", which finds the
sizes behind a computed Reshape), a list of the numbers of every vector that may be a shape. A small file can make both
endless: `Gather` adds up the axes of its inputs and `Concat` their numbers, so that thirty nodes make 2^30 of them; a
vector that is declared long needs no node at all; and the body of a function is gone through wherever it is called. So
what would be held is counted first.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from sn_deploy.errors import SnDeployError
from sn_deploy.graph.inference_guard import check_inferable
from sn_deploy.graph.inference_hidden import ALIKE, hidden_nodes
from sn_deploy.graph.inference_risk import is_risky
from sn_deploy.graph.inference_size import SHAPE_READERS, EndlessError, InferenceSize
from sn_deploy.graph.sequences import is_no_tensor
from sn_deploy.onnx_file import model_of

# What is hidden hides lengths in its turn, as the views of dilated convolutions do that tf2onnx writes.
_MOST_ROUNDS: Final = 4

# Numbers of all vectors that are followed, some 100 bytes each.
_MOST_FOLLOWED: Final = 1 << 21


def infer_shapes(model: ir.Model, where: str | None = None) -> None:
    """Gives the values of ``model`` the shapes and types that can be inferred. Changes ``model``; where inference fails
    it stays as it is.

    Args:
        where: the file, for errors.

    Raises:
        SnDeployError: as `check_inference` and `check_inferable`.
    """
    size = check_inference(model, where)
    stated = {value: value.shape for graph in model.graphs() for value in _values(graph)}
    # Some take a vector's length for a rank even where its numbers aren't followed (Expand, up to opset 12).
    with hidden_nodes(model, [node for node in size.unbounded if node.op_type in SHAPE_READERS]):
        check_inferable(model, where)
        _infer(model, follow=False)
    for _ in range(_MOST_ROUNDS):
        # Again, since lengths are known now that the file left out, or that a node hid.
        before, size = size, check_inference(model, where)
        if not size.has_sizes or size.followed > _MOST_FOLLOWED:
            return
        # What a hidden node makes gets no other shape, but where one of the same shape stands in.
        hidden = {value for node in size.unbounded if node.op_type not in ALIKE for value in node.outputs}
        # Nearly from the start: a name that inference gave to an unknown size would stay, though the size can be known.
        for value, shape in stated.items():
            if value not in hidden:
                value.shape = _without_names(value.shape, shape)
        with hidden_nodes(model, size.unbounded):
            check_inferable(model, where, follow=True)
            _infer(model, follow=True)
        if not hidden or not size.unbounded < before.unbounded:
            return


def _without_names(found: ir.Shape | None, stated: ir.Shape | None) -> ir.Shape | None:
    """The shape that was found, with the names of sizes that were stated alone. Its rank and its numbers hold from now
    on, so that what was counted by them can't become more."""
    if found is None:
        return stated
    old = [None] * len(found) if stated is None or len(stated) != len(found) else list(stated)
    return ir.Shape([new if isinstance(new, int) else dim for new, dim in zip(found, old, strict=True)])


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    for node in graph:
        yield from node.outputs


def check_inference(model: ir.Model, where: str | None = None) -> InferenceSize:
    """What inference would hold, for those that infer shapes on their own, such as onnx's converter and its inliner.

    Raises:
        SnDeployError: shapes without end, or functions that call each other without end.
    """
    try:
        return InferenceSize(model)
    except EndlessError as error:
        raise SnDeployError(
            f"its {error} have no end: inferring its shapes would take gigabytes",
            where=where,
            expected="an ONNX model of a network",
        ) from error


def check_openable(path: Path, proto: onnx.ModelProto) -> None:
    """Before a file from anybody is given to ONNX Runtime, which infers its shapes by the same code as onnx, and takes
    no heed of those that the file states.

    Args:
        path: of the file.
        proto: what `read_proto` read of it; changed as by `model_of`.

    Raises:
        SnDeployError: as `model_of`, `check_inference` and `check_inferable`.
    """
    model = model_of(proto, path)
    for graph in model.graphs():
        for node in graph:
            for value in node.outputs:
                value.shape = None
    risky = is_risky(model)
    if risky or model.functions:  # ONNX Runtime puts the body of a function wherever it is called
        check_inference(model, str(path))
    if risky:
        check_inferable(model, str(path))


def _infer(model: ir.Model, follow: bool) -> None:
    # Of a sequence it takes the type for that of a tensor, with which the file is none that runs.
    untyped = (value for graph in model.graphs() for value in _values(graph) if value.type is None)
    sequences = [value for value in untyped if is_no_tensor(value)]
    # onnx_ir raises whatever it stumbles over in what was inferred, such as a type that there isn't. Nothing is changed
    # then.
    with quiet_passes(), contextlib.suppress(Exception):
        common_passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=follow)(model)
    for value in sequences:
        value.type = value.shape = None


@contextlib.contextmanager
def quiet_passes() -> Iterator[None]:
    """Without what onnx_ir's passes log as warnings, such as the traceback of an inference that fails: shapes that stay
    unknown are no error."""
    logger = logging.getLogger(common_passes.__name__)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
