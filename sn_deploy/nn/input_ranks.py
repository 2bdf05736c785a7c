"""Of how many dimensions the inputs of a model's layers are: seen in one run of it."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from sn_deploy.capture.watch import Before, watching
from sn_deploy.errors import SnDeployError, first_line


def ranks_of_inputs(model: nn.Module, layers: Mapping[str, nn.Module], example_inputs: Any) -> dict[str, int]:
    """The rank of the input of each of ``layers`` that runs, by qualified name.

    Args:
        model: a private copy is run, in evaluation mode.
        layers: modules of it by name.
        example_inputs: one tensor, or a tuple of positional arguments.

    Raises:
        SnDeployError: the model fails on the inputs, or a layer is given inputs of several ranks, or one position.
    """
    private = copy.deepcopy(model).eval()
    shapes: dict[str, list[tuple[int, ...]]] = {name: [] for name in layers}
    args = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    try:
        with torch.no_grad(), contextlib.ExitStack() as stack:
            for name, seen in shapes.items():
                stack.enter_context(watching(private.get_submodule(name), _recorder(seen)))
            private(*args)
    except Exception as error:
        raise SnDeployError(
            f"the model fails on the example inputs: {type(error).__name__}: {first_line(error)}",
            where=type(model).__name__,
        ) from error
    return {name: _rank(name, seen) for name, seen in shapes.items() if seen}


def _recorder(shapes: list[tuple[int, ...]]) -> Before:
    def before(x: torch.Tensor | None) -> None:
        if x is not None:
            shapes.append(tuple(x.shape))

    return before


def _rank(name: str, shapes: list[tuple[int, ...]]) -> int:
    ranks = sorted({len(shape) for shape in shapes})
    one = next((shape for shape in shapes if len(shape) > 2 and all(size == 1 for size in shape[2:])), None)
    if len(ranks) == 1 and one is None:
        return ranks[0]
    what = (
        f"is given inputs of ranks {ranks}" if one is None else f"is given {one}, one position, which has no variance"
    )
    raise SnDeployError(what, where=f"layer {name!r}", mend=f"leave it: keep=[{name!r}]")
