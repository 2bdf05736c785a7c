"""At which shapes a region is looked at, and what it makes of its inputs there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import onnx_ir as ir

from sn_deploy.fuse.evaluate import EvaluationError, RegionFunction
from sn_deploy.fuse.growth import MOST_NUMBERS
from sn_deploy.fuse.inputs import SETTINGS, SOLVE_SCALES, free_shape, solve_inputs
from sn_deploy.fuse.region import Region
from sn_deploy.fuse.sizes import Sizes
from sn_deploy.fuse.solve import NotSwitchNormError
from sn_deploy.runtime.tensors import Array

# What the operator takes.
DTYPES: Final = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
Run = dict[ir.Value, Array]
# Numbers of all runs together that are held.
_MOST_HELD: Final = 1 << 24


@dataclass(frozen=True)
class Setting:
    """A shape of the region's outermost source, and what its foreign Shape nodes read."""

    shape: tuple[int, ...]
    foreign: Mapping[ir.Node, tuple[int, ...]]


def settings_that_run(region: Region, sizes: Sequence[Sizes], function: RegionFunction) -> tuple[list[Setting], Runs]:
    """The settings of the source's own shape, and what the region makes of them; else of the shape of a result, where
    that says more: of what a Slice leaves not even the channels are known."""
    failed: EvaluationError | None = None
    for declared in _declared(region):
        settings = _settings(region, sizes, declared)
        for setting in settings:
            if not 0 < math.prod(setting.shape) <= MOST_NUMBERS:
                shape = "×".join(map(str, setting.shape))
                raise NotSwitchNormError(f"its input is {shape}, which is empty or too large to be tried", -1)
        try:
            return settings, Runs(region, function, settings)
        except EvaluationError as error:
            failed = failed or error
    assert failed is not None
    raise failed


class Runs:
    """What a region makes of the inputs that constants are solved from.

    Large values are made anew each time: held, they would be most of what a layer takes of memory.
    """

    def __init__(self, region: Region, function: RegionFunction, settings: Sequence[Setting]) -> None:
        self._arguments = region, function, settings
        self._held: list[Run] | None = []
        self.shapes: list[dict[ir.Value, tuple[int, ...]]] = []
        numbers = 0
        for run in self._made():
            self.shapes.append({value: array.shape for value, array in run.items()})
            numbers += sum(array.size for array in run.values())
            if self._held is not None:
                self._held.append(run)
            if numbers > _MOST_HELD:
                self._held = None

    def __iter__(self) -> Iterator[Run]:
        return self._made() if self._held is None else iter(self._held)

    def _made(self) -> Iterator[Run]:
        region, function, settings = self._arguments
        for turn, each in enumerate(settings):
            yield from runs_at(region, function, each, turn, SOLVE_SCALES)


def runs_at(
    region: Region, function: RegionFunction, setting: Setting, turn: int, scales: Sequence[float]
) -> Iterator[Run]:
    """What the region makes of `solve_inputs`, with as many samples as these are to be, however its input is laid out:
    a view of (N·T, C, H, W) as (N, C, T, H, W), say, has fewer of them."""
    inputs = solve_inputs(setting.shape, turn, scales)
    first = function(next(inputs), setting.foreign)
    samples = min(first[source].shape[0] for source in region.sources if first[source].ndim)
    if samples < setting.shape[0]:
        inputs = solve_inputs(setting.shape, turn, scales, samples)
    else:
        yield first
    for x in inputs:
        yield function(x, setting.foreign)


def _declared(region: Region) -> Iterator[list[int | None]]:
    """What is known of the shape of the outermost source: as it is stated, and with the sizes of each result."""
    source = region.sources[-1]
    if all(value.dtype not in DTYPES for value in region.sources):
        dtype = "of an unknown type" if source.dtype is None else source.dtype.name.lower()
        raise NotSwitchNormError(f"its input {source.name!r} is {dtype}, and the operator takes none", -1)
    if source.shape is None:
        raise NotSwitchNormError(f"the rank of its input {source.name!r} isn't known", -1)
    stated = [dim if isinstance(dim, int) else None for dim in source.shape]
    yield stated
    for result in region.results:
        if result.shape is not None and len(result.shape) == len(stated):
            pairs = list(zip(stated, result.shape, strict=True))
            more = [other if isinstance(other, int) else own for own, other in pairs]
            if more != stated and all(own in (None, now) for own, now in zip(stated, more, strict=True)):
                yield more


def _settings(region: Region, sizes: Sequence[Sizes], declared: list[int | None]) -> list[Setting]:
    if len(declared) < 2:
        raise NotSwitchNormError(f"its input {region.sources[-1].name!r} has {len(declared)} axes", -1)
    if region.foreign_shapes:
        settings = list(_followed(region, sizes))
    else:
        shapes = [free_shape(declared, turn) for turn in range(SETTINGS)]
        settings = [Setting(shape, {}) for shape in dict.fromkeys(shapes)]
    # Where the batch alone is dynamic, one sample and two tell all.
    return settings if None in declared[1:] else settings[:2]


def _followed(region: Region, sizes: Sequence[Sizes]) -> Iterator[Setting]:
    seen = set()
    for choice in sizes:
        shape = choice.shape(region.sources[-1])
        foreign = {node: choice.shape(node.inputs[0]) for node in region.foreign_shapes if node.inputs[0] is not None}
        known = {node: size for node, size in foreign.items() if size is not None}
        if shape is None or len(known) < len(foreign):
            unknown = next((node for node in foreign if node not in known), None)
            tensor = region.sources[-1].name if unknown is None else getattr(unknown.inputs[0], "name", None)
            raise NotSwitchNormError(f"it depends on the size of {tensor!r}, which can't be followed", -1)
        if (shape, *known.values()) not in seen:
            seen.add((shape, *known.values()))
            yield Setting(shape, known)
