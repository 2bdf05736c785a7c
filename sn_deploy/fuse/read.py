"""From a region to the layer that it is: its constants solved, and the two held against each other.

A region is an SN layer if it computes what `FoldedSwitchNorm` computes, to float64 rounding, on inputs that its
constants were not solved from.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from sn_deploy.errors import SnDeployError
from sn_deploy.folded import Float64Array, FoldedSwitchNorm, distance
from sn_deploy.fuse.evaluate import EvaluationError, RegionFunction
from sn_deploy.fuse.facts import GraphFacts
from sn_deploy.fuse.inputs import FAR_SCALES, ROLLS, SOLVE_SCALES, rolled, solve_inputs, structured
from sn_deploy.fuse.region import Region, vectors_under_root
from sn_deploy.fuse.settings import DTYPES, Run, Runs, Setting, runs_at, settings_that_run
from sn_deploy.fuse.sizes import Sizes
from sn_deploy.fuse.solve import (
    Lines,
    NotSwitchNormError,
    Solution,
    joined,
    lines_from_positions,
    lines_from_rolls,
    solutions,
)
from sn_deploy.runtime.tensors import Array

# Of each channel's largest output. float64 rounding is near 1e-15; the published var_ln loses up to four digits of it.
TOLERANCE: Final = 1e-9

# A size that no activation has: squared, it is still far from float64's end.
_FAR: Final = 1e12

# A size whose variance is nothing beside any eps, as that of an area of one colour is.
_NEAR: Final = 1e-6

# A branch with less isn't in use.
_NO_SHARE: Final = 1e-9

_ROUNDOFF: Final = {ir.DataType.FLOAT16: 2.0**-11, ir.DataType.BFLOAT16: 2.0**-8}
_FLOAT32_ROUNDOFF: Final = 2.0**-24


@dataclass(frozen=True, eq=False)
class ReadLayer:
    """A region that is an SN layer.

    Attributes:
        folded: the layer.
        source, result: X and Y.
        source_last, result_last: X, Y is (N, *spatial, C).
        mismatch: the largest difference between the two, relative to each channel's largest output.
    """

    folded: FoldedSwitchNorm
    source: ir.Value
    result: ir.Value
    source_last: bool
    result_last: bool
    mismatch: float


@dataclass(frozen=True)
class _Reading:
    """One way to read the region: which value is X, which is Y, and whether their channels come last."""

    source: ir.Value
    result: ir.Value
    source_last: bool
    result_last: bool

    def arrays(self, run: Run) -> tuple[Float64Array, Float64Array]:
        """X and Y, both (N, C, *spatial)."""
        x, y = run[self.source], run[self.result]
        return _channels_first(x, self.source_last), _channels_first(y, self.result_last)

    def fits(self, shapes: Mapping[ir.Value, tuple[int, ...]]) -> bool:
        """Whether X and Y have one shape where the region's values have these."""
        x, y = shapes[self.source], shapes[self.result]
        if (self.source_last or self.result_last) and not len(x) == len(y) > 2:
            return False
        return _first(x, self.source_last) == _first(y, self.result_last)


class OrdinaryError(Exception):
    """The region is another normalisation, such as instance or layer normalisation with an affine part."""


def read_layer(region: Region, facts: GraphFacts, opset: int, sizes: Sequence[Sizes], name: str) -> ReadLayer:
    """The layer that a region is.

    Args:
        region: from `sn_deploy.fuse.region.regions`.
        facts: of its graph.
        opset: version of the standard operators.
        sizes: of the model, for several choices of its dynamic axes; empty where no region needs them.
        name: of the layer.

    Raises:
        NotSwitchNormError: it computes something else, or nothing that can be followed.
        OrdinaryError: it is a normalisation of another kind.
    """
    try:
        function = RegionFunction(region, opset)
        settings, runs = settings_that_run(region, sizes, function)
        refused = NotSwitchNormError("its result never has the shape of what it is computed from", -1)
        for reading in _readings(region, runs):
            try:
                return _read(reading, region, facts, function, settings, runs, name)
            except NotSwitchNormError as error:
                refused = error if error.stage > refused.stage else refused
        if _depends_on_batch(region, function, settings):
            raise NotSwitchNormError("the output of a sample depends on the rest of its batch", refused.stage)
        raise refused
    except EvaluationError as error:
        raise NotSwitchNormError(str(error), -1) from error


def _readings(region: Region, runs: Runs) -> Iterator[_Reading]:
    """The readings in which Y has X's shape and type, those that leave the least outside first."""
    for result in reversed(region.results):
        for source in reversed(region.sources):
            if source.dtype not in DTYPES or result.dtype not in (source.dtype, None):
                continue
            for source_last, result_last in ((False, False), (True, True), (False, True), (True, False)):
                reading = _Reading(source, result, source_last, result_last)
                if all(map(reading.fits, runs.shapes)):
                    yield reading


def _read(
    reading: _Reading,
    region: Region,
    facts: GraphFacts,
    function: RegionFunction,
    settings: Sequence[Setting],
    runs: Runs,
    name: str,
) -> ReadLayer:
    rank_2 = len(runs.shapes[0][reading.source]) == 2
    lines = _rolled_lines(reading, region, function, settings) if rank_2 else _lines(reading, region, runs)
    roundoff = _ROUNDOFF.get(region.radicand.dtype or ir.DataType.FLOAT, _FLOAT32_ROUNDOFF)
    shown = _Shown(reading, function, settings[0])
    solution = shown.published(solutions(lines, name, roundoff))
    if not (vectors_under_root(region, facts) or shown.has_two(solution)):
        raise OrdinaryError
    mismatch = _mismatch(reading, function, settings, solution)
    if mismatch > TOLERANCE:
        with contextlib.suppress(NotSwitchNormError, EvaluationError):
            # Of a small share beside a recorded variance float64 leaves few digits: far inputs have more of it.
            far = _far_lines(reading, region, function, settings, rank_2)
            refined = shown.published(solutions(joined([lines, far]), name, roundoff))
            mismatch, solution = min(
                ((mismatch, solution), (_mismatch(reading, function, settings, refined), refined)),
                key=lambda each: each[0],
            )
    if mismatch > TOLERANCE + 8 * solution.looseness:
        raise NotSwitchNormError(f"it differs from Switchable Normalization by {mismatch:.1e} of its output", 7)
    return ReadLayer(solution.folded, **vars(reading), mismatch=mismatch)


def _first(shape: tuple[int, ...], channels_last: bool) -> tuple[int, ...]:
    return (shape[0], shape[-1], *shape[1:-1]) if channels_last else shape


def _channels_first(array: Array, channels_last: bool) -> Float64Array:
    return np.asarray(np.moveaxis(array, -1, 1) if channels_last else array, dtype=np.float64)


def _lines(reading: _Reading, region: Region, runs: Iterable[Run]) -> Lines:
    parts = []
    for run in runs:
        x, y = (array.reshape(*array.shape[:2], -1) for array in reading.arrays(run))
        parts.append(lines_from_positions(x, y, _per_channel(run[region.radicand], x.shape[0], x.shape[1])))
    return joined(parts)


def _far_lines(
    reading: _Reading, region: Region, function: RegionFunction, settings: Sequence[Setting], rank_2: bool
) -> Lines:
    if rank_2:
        return _rolled_lines(reading, region, function, settings[:1], FAR_SCALES)
    return _lines(reading, region, runs_at(region, function, settings[0], 0, FAR_SCALES))


def _rolled_lines(
    reading: _Reading,
    region: Region,
    function: RegionFunction,
    settings: Sequence[Setting],
    scales: Sequence[float] = SOLVE_SCALES,
) -> Lines:
    inputs = [(x, each) for turn, each in enumerate(settings) for x in solve_inputs(each.shape, turn, scales)]
    parts = []
    for x, setting in inputs:
        runs = [function(each, setting.foreign) for each in rolled(x)]
        stacked = [np.stack([run[value] for run in runs], axis=2) for value in (reading.source, reading.result)]
        radicands = [_per_channel(run[region.radicand], *stacked[0].shape[:2]) for run in runs]
        if any(np.abs(other - radicands[0]).max() > 1e-9 * np.abs(radicands[0]).max() for other in radicands[1:]):
            raise NotSwitchNormError("its variance changes when the channels are rotated", 1)
        parts.append(lines_from_rolls(stacked[0], stacked[1], radicands[0]))
    assert ROLLS > 1
    return joined(parts)


def _per_channel(radicand: Array, samples: int, channels: int) -> Float64Array:
    """The radicand as (N, C), whatever axes of 1 it has, and wherever."""
    values = _of_one_position(np.asarray(radicand, dtype=np.float64), samples, channels)
    batched = values.ndim > 0 and values.shape[0] == samples and values.size in (samples, samples * channels)
    if batched:
        values = values.reshape(samples, -1)
    elif values.size in (1, channels):
        values = values.reshape(1, -1)
    else:
        raise NotSwitchNormError("what it takes the root of isn't one number for each sample and channel", 0)
    return np.array(np.broadcast_to(values, (samples, channels)))


def _of_one_position(values: Float64Array, samples: int, channels: int) -> Float64Array:
    """Without the positions, where all have the same numbers: layers expand statistics to the shape of X."""
    if values.ndim < 3 or values.shape[0] != samples or values.size in (samples, samples * channels):
        return values
    for axis in (1, values.ndim - 1):
        if values.shape[axis] in (1, channels):
            flat = np.moveaxis(values, axis, 1).reshape(samples, values.shape[axis], -1)
            if flat.size and (flat == flat[:, :, :1]).all():
                return flat[:, :, 0]
    return values


def _mismatch(reading: _Reading, function: RegionFunction, settings: Sequence[Setting], solution: Solution) -> float:
    """The largest difference between region and layer on fresh inputs, relative to each channel's largest output."""
    folded = solution.folded
    recorded = float(np.median(folded.mean_offset)), float(np.sqrt(np.median(folded.var_offset)))
    worst = 0.0
    for turn, setting in enumerate(settings):
        for x, allowed in _fresh(setting.shape, turn, recorded):
            off = _off(reading, function, setting, folded, x)
            worst = max(worst, off if off > allowed else 0.0)
    return worst


def _fresh(shape: tuple[int, ...], turn: int, recorded: tuple[float, float]) -> Iterator[tuple[Float64Array, float]]:
    """Inputs that no constants were solved from, one after the other, and what may be off on each."""
    rng = np.random.default_rng(100 + turn)

    def drawn(mean: float, deviation: float) -> Float64Array:
        return mean + structured(rng, shape, np.full(shape[0], deviation))

    first = drawn(0.0, 1.0)
    yield first, 0.0
    if turn == 0:
        for mean, deviation in ((0.0, 0.01), (20.0, 1.0), recorded):
            yield drawn(mean, deviation), 0.0
        # Clamps at what activations may reach are no part of the layer, whatever their sign.
        yield _FAR * first, 0.0
        yield -_FAR * first, 0.0
        # A variance is kept above 1e-12, say, to stay positive: where float32 can't tell, it may be.
        yield _NEAR * first, _FLOAT32_ROUNDOFF


def _off(
    reading: _Reading, function: RegionFunction, setting: Setting, folded: FoldedSwitchNorm, x: Float64Array
) -> float:
    """The `distance` of region and layer for one input."""
    x, y = reading.arrays(function(x, setting.foreign))
    try:
        with np.errstate(all="ignore"):
            return distance(folded.evaluate(x), y)
    except SnDeployError as error:
        raise NotSwitchNormError(error.what, 7) from error


def _depends_on_batch(region: Region, function: RegionFunction, settings: Sequence[Setting]) -> bool:
    """Whether a sample's output changes with the samples beside it."""
    for setting in settings:
        if setting.shape[0] > 1:
            first, other = (
                structured(np.random.default_rng(seed), setting.shape, np.ones(setting.shape[0])) for seed in (1, 2)
            )
            other[0] = first[0]
            alone, beside = (function(x, setting.foreign)[region.results[0]] for x in (first, other))
            if alone.shape == beside.shape and alone.shape[:1] == setting.shape[:1]:
                return not np.allclose(alone[0], beside[0], rtol=1e-6, atol=0, equal_nan=True)
    return False


class _Shown:
    """The statistics that a region computes on its way, as far as they can be seen in its values."""

    def __init__(self, reading: _Reading, function: RegionFunction, setting: Setting) -> None:
        x = next(iter(solve_inputs(setting.shape, 0)))
        # Statistics have at most half as many numbers as x, but for those of (N, C).
        run = function(x, setting.foreign, most_kept=x.size if x.ndim == 2 else x.size // 2)
        self._x = _channels_first(run[reading.source], reading.source_last)
        self._x = self._x.reshape(*self._x.shape[:2], -1)
        samples, channels = self._x.shape[:2]
        self._values = [
            value.reshape(samples, -1)
            for value in run.values()
            if value.dtype == np.float64
            and value.size in (samples, samples * channels)
            and value.shape[:1] == (samples,)
        ]

    def _shows(self, statistic: Float64Array) -> bool:
        """Whether some value is this statistic, (N, C) or (N, 1)."""
        tolerance = 1e-6 * np.abs(statistic).max()
        return any(
            value.shape[1] in (1, statistic.shape[1]) and np.abs(value - statistic).max() <= tolerance
            for value in self._values
        )

    def has_two(self, solution: Solution) -> bool:
        """Whether two live branches are in use, or one of two alone, as in a sparse layer that has made its choice.

        Then the region takes the layer's mean all the same, or multiplies a statistic by zero. That it takes instance
        moments proves nothing: a layer's may be taken from them.
        """
        folded = solution.folded
        uses_in, uses_ln = (
            any(abs(share) > _NO_SHARE for share in shares)
            for shares in ((folded.mean_in, folded.var_in), (folded.mean_ln, folded.var_ln))
        )
        if uses_in:
            return uses_ln or self._shows(self._x.mean(axis=(1, 2))[:, None])
        return uses_ln and any(not value.any() for value in self._values)

    def published(self, found: list[Solution]) -> Solution:
        """The solution with the divisor that the region itself uses; at one size they are the same function."""
        if len(found) == 1:
            return found[0]
        unbiased, biased = found
        over = 1 if self._x.shape[2] == 1 else 2
        return unbiased if self._shows(self._x.var(axis=over, ddof=1).reshape(len(self._x), -1)) else biased
