"""At which sizes of its dynamic axes a file is held against its model, and the inputs of these sizes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import onnx_ir as ir
import torch

from sn_deploy.capture.inputs import BoundInputs
from sn_deploy.capture.sizes import SizeLimit

# Numbers of all inputs that are never too many.
_SMALL_INPUT: Final = 1 << 20
# Of what torch asks of sizes, as much is tried; each takes a run of both. What the model's own code asks is all tried,
# but for what takes so much larger inputs.
_MOST_LIMITS: Final = 4
_LARGER: Final = 8

Sizes = Mapping[str, int]


@dataclass(frozen=True)
class OtherRun:
    """A run at other sizes than the example's.

    Attributes:
        alternatives: inputs, made when they are asked for, of which the first that the model takes counts; None where
            they would be too large.
        limit: what the model's code asked of the sizes, which isn't so of these; None where it asked nothing.
    """

    alternatives: Iterable[BoundInputs] | None
    limit: str | None = None


def other_runs(model: ir.Model, inputs: BoundInputs, limits: Sequence[SizeLimit]) -> Iterator[OtherRun]:
    """At one sample, where samples are dynamic, as code that asks for their number asks for one; with sides of other
    lengths; and wherever the model's code may go another way.

    Args:
        model: the captured graph, whose inputs name their dynamic axes.
        inputs: of the example's sizes.
        limits: what the model's code asked of sizes.
    """
    axes = _axes(model)
    tensors = inputs.tensors
    if any(name not in tensors for name in axes):
        return
    now = {symbol: tensors[name].shape[axis] for name, spec in axes.items() for axis, symbol in spec.items()}
    if not all(symbol.isidentifier() for symbol in now):
        return  # a size that depends on another's
    samples = {symbol for spec in axes.values() for axis, symbol in spec.items() if axis == 0}
    sides = [symbol for symbol in now if symbol not in samples]
    one = {**now, **dict.fromkeys(samples, 1)}
    if samples:
        yield OtherRun([_resized(inputs, axes, one)])
    if sides:
        # By different numbers, so that two sides that are mistaken for each other show. A net that halves its sides
        # takes one of them twice, or half, as long.
        grown = {side: one[side] + step for step, side in enumerate(sides, start=1)}
        first = sides[0]
        others = [grown, {first: 2 * one[first]}, {first: max(one[first] // 2, 1)}]
        yield OtherRun(_resized(inputs, axes, {**one, **sizes}) for sizes in others)
    for limit in limits[: max(_MOST_LIMITS, sum(not limit.is_of_one for limit in limits))]:
        if limit.beyond.keys() <= now.keys():
            sizes = {**one, **limit.beyond}
            fits = _numbers(tensors, axes, sizes) <= max(_LARGER * _numbers(tensors, axes, now), _SMALL_INPUT)
            yield OtherRun([_resized(inputs, axes, sizes)] if fits else None, limit.text)


def _axes(model: ir.Model) -> dict[str, dict[int, str]]:
    """Input -> its dynamic axes and their names."""
    found: dict[str, dict[int, str]] = {}
    for value in model.graph.inputs:
        for axis, dim in enumerate(value.shape or ()):
            if isinstance(dim, ir.SymbolicDim):
                found.setdefault(value.name or "", {})[axis] = str(dim.value)
    return found


def _numbers(tensors: Mapping[str, torch.Tensor], axes: Mapping[str, Mapping[int, str]], sizes: Sizes) -> int:
    """Of all inputs at these sizes."""
    return sum(
        math.prod(sizes.get(axes.get(name, {}).get(axis, ""), size) for axis, size in enumerate(tensor.shape))
        for name, tensor in tensors.items()
    )


def _resized(inputs: BoundInputs, axes: Mapping[str, Mapping[int, str]], sizes: Sizes) -> BoundInputs:
    """Repeated, or cut off, along its dynamic axes."""

    def resize(name: str, tensor: torch.Tensor) -> torch.Tensor:
        for axis, symbol in axes.get(name, {}).items():
            places = torch.arange(sizes[symbol]) % tensor.shape[axis]
            tensor = tensor.index_select(axis, places)
        return tensor

    resized = iter([resize(name, tensor) for name, tensor in inputs.tensors.items()])
    return inputs.map(lambda _: next(resized))
