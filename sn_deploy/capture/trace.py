"""One forward pass of the model, to see what its layers are given: order, shapes and statistics of their inputs."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from sn_deploy.capture.half_inside import half_inside
from sn_deploy.capture.inputs import BoundInputs
from sn_deploy.capture.watch import watching
from sn_deploy.errors import SnDeployError, first_line
from sn_deploy.folded import Float64Array


@dataclass
class LayerTrace:
    """What one module was given.

    Attributes:
        shapes: the shape of its input at each call.
        mean, var: (C,) statistics of its first input over everything but the channels, biased; None for integers.
    """

    shapes: list[tuple[int, ...]] = field(default_factory=list)
    mean: Float64Array | None = None
    var: Float64Array | None = None

    @property
    def of_first_rank(self) -> list[tuple[int, ...]]:
        """The shapes whose rank is that of the first call."""
        return [shape for shape in self.shapes if len(shape) == len(self.shapes[0])]


def trace(model: torch.nn.Module, inputs: BoundInputs, names: Collection[str]) -> tuple[dict[str, LayerTrace], object]:
    """Runs the model once and records the calls of the modules called ``names``, in the order of their first call.

    Returns:
        The calls, and what the model gives.

    Raises:
        SnDeployError: the model fails on the inputs.
    """
    running: list[str] = []
    traces: dict[str, LayerTrace] = {}
    try:
        with watched(model, names, running) as traces:
            result = _without_grad(inputs, model)
    except SnDeployError as error:
        where = f"layer {running[-1]!r}" if running else error.where
        raise error.but(where=where) from error
    except Exception as error:
        place = f" in layer {running[-1]!r}" if running else ""
        if running and running[-1] in traces:  # a layer may be given what is no tensor
            place += f", given {traces[running[-1]].shapes[-1]}"
        shapes = ", ".join(f"{name}: {tuple(t.shape)} {t.dtype}" for name, t in inputs.tensors.items())
        what = f"the model fails on the example inputs ({shapes}){place}: {type(error).__name__}: {first_line(error)}"
        where, mend = f"{type(model).__name__}.forward", "check the shapes, the types and the order of the inputs"
        half = half_inside(model, inputs.tensors.values(), lambda: _without_grad(inputs, model))
        if half is not None:
            cause, mend = half
            what = f"the model fails: {cause}: {type(error).__name__}: {first_line(error)}"
        raise SnDeployError(what, where=where, mend=mend) from error
    return traces, result


def _without_grad(inputs: BoundInputs, model: torch.nn.Module) -> object:
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        return inputs.call(model)


@contextlib.contextmanager
def watched(
    model: torch.nn.Module, names: Collection[str], running: list[str] | None = None
) -> Iterator[dict[str, LayerTrace]]:
    """While it lasts, records the calls of the modules called ``names``, in the order of their first call.

    Args:
        running: gets the layers that have been entered and not left, so that a failure can be placed.
    """
    traces: dict[str, LayerTrace] = {}
    entered = [] if running is None else running

    def before(name: str, x: torch.Tensor | None) -> None:
        entered.append(name)
        if x is None:
            return
        layer = traces.setdefault(name, LayerTrace())
        layer.shapes.append(tuple(x.shape))
        if layer.mean is None and x.ndim >= 2 and x.is_floating_point() and x.numel():
            flat = x.detach().transpose(0, 1).reshape(x.shape[1], -1).double()  # (C, N·HW)
            layer.mean = np.asarray(flat.mean(1).cpu(), dtype=np.float64)
            layer.var = np.asarray(flat.var(1, correction=0).cpu(), dtype=np.float64)

    def after(_result: object) -> None:
        entered.pop()

    modules = dict(model.named_modules())
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(watching(name, modules[name], functools.partial(before, name), after))
        yield traces
