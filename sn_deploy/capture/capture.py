"""torch's dynamo exporter, called once, with its errors and its dynamic axes put into the user's words."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import onnx_ir as ir
import torch

from sn_deploy.capture.exporter_faults import mend_
from sn_deploy.capture.inputs import BoundInputs
from sn_deploy.capture.pooling import AnySizePooling
from sn_deploy.capture.sizes import SizeLimit, SizeWatch
from sn_deploy.errors import SnDeployError, first_line

# What torch.onnx.export converts to, and sn_deploy.graph.function_body has a body for.
MIN_OPSET: Final = 18
MAX_OPSET: Final = 23

Axes = Mapping[str, Mapping[int, str]]


def capture(
    model: torch.nn.Module,
    inputs: BoundInputs,
    axes: Axes,
    *,
    opset: int,
    output_names: Sequence[str] | None = None,
) -> ir.Model:
    """The ONNX graph of ``model`` in inference mode; see `capture_with_limits`."""
    return capture_with_limits(model, inputs, axes, opset=opset, output_names=output_names)[0]


def capture_with_limits(
    model: torch.nn.Module,
    inputs: BoundInputs,
    axes: Axes,
    *,
    opset: int,
    output_names: Sequence[str] | None = None,
) -> tuple[ir.Model, list[SizeLimit]]:
    """The ONNX graph of ``model`` in inference mode, and what its code asked of the sizes of dynamic axes.

    Args:
        inputs: bound example inputs; the sizes of dynamic axes are 2 or more (see `widen_dynamic`).
        axes: input name -> {axis: symbol} of the dynamic axes (see `resolve_dynamic`).
        opset: version of the standard operators.
        output_names: names for the outputs, in order.

    Raises:
        SnDeployError: torch can't capture the model, or the model fixes an axis that was to be dynamic, or torch
            writes an operator for the example's size alone.
    """
    args, kwargs = inputs.positional(model)
    try:
        # A caller's autocast is not the model's: its casts would be in the file.
        with _quiet(), torch.no_grad(), torch.autocast("cpu", enabled=False):
            # Not left to torch.onnx.export: that one turns what fixes an axis into an assertion that the file loses.
            with AnySizePooling():
                exported = torch.export.export(
                    model,
                    args,
                    kwargs=kwargs,
                    dynamic_shapes=_dynamic_shapes(inputs, axes) if axes else None,
                    strict=False,
                )
            _refuse_lost_divisors(exported)
            watch = SizeWatch(exported, inputs.names, axes)
            if axes:
                watch.verify_model()
            program = torch.onnx.export(
                exported,
                dynamo=True,
                verbose=False,
                opset_version=opset,
                input_names=list(inputs.names),
                output_names=list(output_names) if output_names else None,
            )
    except SnDeployError:
        raise
    except Exception as error:
        raise SnDeployError(
            f"torch can't capture the model: {_root_message(error)}",
            where=type(model).__name__,
            mend=_mend(inputs),
        ) from error
    assert program is not None
    captured = program.model
    mend_(captured)
    _name_results(captured)
    _name_axes(captured, axes)
    if axes:
        watch.verify_decomposition()
    return captured, watch.limits() if axes else []


def _mend(inputs: BoundInputs) -> str:
    if any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in inputs.tensors.values()):
        return (
            "where its code casts to float32, export it in that, without --precision, and make the file half: "
            "sn-deploy convert-precision; else see the message of torch.export with --traceback"
        )
    return (
        "see the message of torch.export with --traceback; Python control flow that depends on a tensor's values or on "
        "a dynamic size is the usual cause"
    )


def _refuse_lost_divisors(program: torch.export.ExportedProgram) -> None:
    """torch.onnx leaves out what average pooling is to divide by, where that isn't the window."""
    for node in program.graph.nodes:
        if node.target in (torch.ops.aten.avg_pool2d.default, torch.ops.aten.avg_pool3d.default):
            divisor = node.args[6] if len(node.args) > 6 else node.kwargs.get("divisor_override")
            if divisor is not None:
                raise SnDeployError(
                    f"torch exports an average pooling without its divisor_override of {divisor}, so the file would "
                    "compute something else",
                    mend="leave it out, and multiply the mean instead",
                )


def _dynamic_shapes(inputs: BoundInputs, axes: Axes) -> dict[str, object]:
    # AUTO and not DYNAMIC: an axis that the model fixes is found below and reported in words.
    shapes = inputs.map_named(
        lambda name, tensor: {
            axis: torch.export.Dim.AUTO if axis in axes.get(name, {}) else torch.export.Dim.STATIC
            for axis in range(tensor.ndim)
        }
    )
    return {name: _lists_for_dataclasses(value, shapes[name]) for name, value in inputs.arguments.items()}


def _lists_for_dataclasses(value: Any, shapes: Any) -> Any:
    """``shapes``, of the structure of ``value``, with a list in the place of each dataclass: torch wants it so."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if getattr(value, field.name) is not None]
        return [_lists_for_dataclasses(getattr(value, name), getattr(shapes, name)) for name in names]
    if type(value) is dict:
        return {name: _lists_for_dataclasses(part, shapes[name]) for name, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_lists_for_dataclasses(*pair) for pair in zip(value, shapes, strict=True))
    return shapes


def _name_results(model: ir.Model) -> None:
    """Gives what opaque operators make a name that says so; torch calls it after its own function, ``_symbolic_1``.

    It is the name of an output where a net ends with an SN layer.
    """
    names = {value.name for value in _values(model.graph)}
    for value in _values(model.graph):
        number = re.fullmatch(r"_symbolic(_\d+)?", value.name or "")
        if number is not None and (name := f"switch_norm{number[1] or ''}") not in names:
            value.name = name


def _name_axes(model: ir.Model, axes: Axes) -> None:
    """Gives torch's symbols (s37, …) the names that the user asked for, wherever they stand."""
    # An axis that the model's code fixes may still be a symbol, whose name is its size: '2'.
    _replace_dims(model, lambda symbol: int(symbol) if symbol.isdigit() else symbol)
    names: dict[str, str] = {}
    found = {value.name: value for value in model.graph.inputs}
    for name, spec in axes.items():
        shape = found[name].shape if name in found else None
        if shape is None:
            raise SnDeployError(
                "is not used by the model, so it has no dynamic axis", where=f"input {name!r}", mend="leave it out"
            )
        for axis, symbol in spec.items():
            dim = shape[axis]
            if not isinstance(dim, ir.SymbolicDim):
                raise SnDeployError(
                    f"the model fixes axis {axis} ({symbol}) to {dim}",
                    where=f"input {name!r}",
                    expected="code that works for any size",
                    mend="make it static, or mend the model (a view, a slice or a pooling with a fixed size)",
                )
            # Two axes that torch proved equal share a symbol; the first name stands for both.
            names.setdefault(str(dim.value), symbol)
    if names:
        pattern = re.compile(r"\b(" + "|".join(map(re.escape, names)) + r")\b")
        _replace_dims(model, lambda symbol: pattern.sub(lambda match: names[match[0]], symbol))


def _replace_dims(model: ir.Model, replace: Callable[[str], str | int]) -> None:
    """Replaces the symbolic dimensions of all values of the graph."""
    for value in _values(model.graph):
        if value.shape is not None and any(isinstance(dim, ir.SymbolicDim) for dim in value.shape):
            value.shape = ir.Shape(
                [replace(dim.value) if isinstance(dim, ir.SymbolicDim) and dim.value else dim for dim in value.shape]
            )


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    for node in graph.all_nodes():
        yield from node.outputs


def _root_message(error: BaseException) -> str:
    """The first telling line of the error that started the chain, with its type."""
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    return f"{type(root).__name__}: {first_line(root)}"[:400]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch's exporter without what it logs and prints (torchvision is not installed, how far a graph came, …);
    its errors are raised all the same.
    """
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.fx.experimental.symbolic_shapes")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
