"""Of how many dimensions the inputs of a model's layers are: seen in one run of it."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

from sn_deploy.capture.inputs import ExampleInputs, bind_inputs
from sn_deploy.capture.originals import refusing_calls_of
from sn_deploy.capture.private_copy import private_copy
from sn_deploy.capture.trace import trace
from sn_deploy.errors import SnDeployError


def ranks_of_inputs(model: nn.Module, layers: Collection[str], example_inputs: ExampleInputs) -> dict[str, int]:
    """The rank of the input of each of ``layers`` that runs, by qualified name.

    Args:
        model: a private copy is run, in evaluation mode.
        layers: names of modules of it.
        example_inputs: as `sn_deploy.export` takes them, on the model's device.

    Raises:
        SnDeployError: the model can't be copied, or fails on the inputs, or a layer is given inputs of several ranks,
            or one position.
    """
    private = private_copy(model).eval()
    inputs = bind_inputs(private, example_inputs)
    # What the user compiles is compiled for other calls than watched ones.
    with refusing_calls_of(model, private), torch.compiler.set_stance("force_eager"):
        traces, _ = trace(private, inputs, layers)
    return {name: _rank(name, layer.shapes) for name, layer in traces.items()}


def _rank(name: str, shapes: list[tuple[int, ...]]) -> int:
    ranks = sorted({len(shape) for shape in shapes})
    one = next((shape for shape in shapes if len(shape) > 2 and all(size == 1 for size in shape[2:])), None)
    if len(ranks) == 1 and one is None:
        return ranks[0]
    what = (
        f"is given inputs of ranks {ranks}" if one is None else f"is given {one}, one position, which has no variance"
    )
    raise SnDeployError(what, where=f"layer {name!r}", mend=f"leave it: keep=[{name!r}]")
