"""The constants of a layer from what it computes: the x, y and radicand of some samples.

Where the statistics stay the same SN is a straight line, y = s·x + t: along the positions of one sample and channel,
or, for (N, C), over rotations of the channels. With the radicand v = var + eps, which the graph itself shows,

    s = scale / sqrt(v)                                       gives scale[c]
    v = var_in·IN + var_ln·LN + var_offset[c]                 is linear in var_in, var_ln and var_offset
    t / scale = bias/scale - (mean_in·IN + mean_ln·LN + mean_offset[c]) / sqrt(v)      in the constants of the mean

each to be solved by least squares and, where it doesn't fit, the reason that the region isn't an SN layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from sn_deploy.folded import Float64Array, FoldedSwitchNorm

# Of residuals relative to what they are left of. float64 rounding, and the published var_ln's cancelling subtraction,
# stay below 1e-10 on these inputs; what the tests call a deviation is above 1e-4.
FITS: Final = 1e-7
# Shares and offsets below this are rounding.
_ZERO: Final = 1e-11


class NotSwitchNormError(Exception):
    """The region computes something else. ``stage`` counts the steps that agreed: of several readings of a region the
    reason of the one that came furthest is told."""

    def __init__(self, reason: str, stage: int) -> None:
        self.reason, self.stage = reason, stage
        super().__init__(reason)


@dataclass(frozen=True)
class Lines:
    """Samples of a layer, as lines; T samples of C channels.

    Attributes:
        slope, intercept: s and t, (T, C).
        radicand: v, (T, C).
        count: values in one variance: HW, or C for an (N, C) input, (T, 1).
        mean_in, var_in: statistics of instances, (T, C), the variance biased; zeros for (N, C).
        mean_ln: statistics of layers, (T, 1).
        within, between: the two parts of the layers' variance, (T, 1): the mean of the instances' biased variances, and
            the variance of their means. For (N, C) all is within.
        rank_2: whether the input was (N, C).
    """

    slope: Float64Array
    intercept: Float64Array
    radicand: Float64Array
    count: Float64Array
    mean_in: Float64Array
    var_in: Float64Array
    mean_ln: Float64Array
    within: Float64Array
    between: Float64Array
    rank_2: bool


def lines_from_positions(x: Float64Array, y: Float64Array, radicand: Float64Array) -> Lines:
    """Lines along the positions of x and y, (T, C, HW)."""
    mean_in = x.mean(axis=2)
    centred = x - mean_in[:, :, None]
    var_in = (centred**2).mean(axis=2)
    slope, intercept = _fit(centred, mean_in, y)
    mean_ln = mean_in.mean(axis=1, keepdims=True)
    return Lines(
        slope=slope,
        intercept=intercept,
        radicand=radicand,
        count=np.full((len(x), 1), float(x.shape[2])),
        mean_in=mean_in,
        var_in=var_in,
        mean_ln=mean_ln,
        within=var_in.mean(axis=1, keepdims=True),
        between=((mean_in - mean_ln) ** 2).mean(axis=1, keepdims=True),
        rank_2=False,
    )


def lines_from_rolls(x: Float64Array, y: Float64Array, radicand: Float64Array) -> Lines:
    """Lines over the rotations of (N, C) samples: x and y are (T, C, rotations), the first of them unrotated."""
    mean = x.mean(axis=2)
    slope, intercept = _fit(x - mean[:, :, None], mean, y)
    sample = x[:, :, 0]
    mean_ln = sample.mean(axis=1, keepdims=True)
    zero = np.zeros_like(mean)
    return Lines(
        slope=slope,
        intercept=intercept,
        radicand=radicand,
        count=np.full((len(x), 1), float(x.shape[1])),
        mean_in=zero,
        var_in=zero,
        mean_ln=mean_ln,
        within=((sample - mean_ln) ** 2).mean(axis=1, keepdims=True),
        between=np.zeros_like(mean_ln),
        rank_2=True,
    )


def joined(parts: list[Lines]) -> Lines:
    """The samples of all parts."""
    fields = [field for field in Lines.__dataclass_fields__ if field != "rank_2"]
    return Lines(**{field: np.concatenate([getattr(part, field) for part in parts]) for field in fields},
                 rank_2=parts[0].rank_2)  # fmt: skip


def _fit(centred: Float64Array, mean: Float64Array, y: Float64Array) -> tuple[Float64Array, Float64Array]:
    squares = (centred**2).sum(axis=2)
    if not (squares > 0).all():
        raise NotSwitchNormError("its statistics are over one position", 0)
    y_mean = y.mean(axis=2)
    slope = (centred * y).sum(axis=2) / squares
    off = y - y_mean[:, :, None] - slope[:, :, None] * centred
    size = np.abs(y).max(axis=2)
    if not np.isfinite(off).all():
        raise NotSwitchNormError("its output has NaN or infinite values on finite inputs", 0)
    if (np.abs(off).max(axis=2) > FITS * np.maximum(size, np.finfo(np.float64).tiny)).any():
        raise NotSwitchNormError("its output isn't linear in x where the statistics stay the same", 0)
    return slope, y_mean - slope * mean


@dataclass(frozen=True)
class Solution:
    """A layer that explains the lines.

    Attributes:
        folded: the layer.
        looseness: how far the two parts of the layers' variance are from one weight, relative to the whole: what a
            constant like HW / (HW - 1), rounded to the file's precision, leaves.
    """

    folded: FoldedSwitchNorm
    looseness: float


@dataclass(frozen=True)
class _Variance:
    var_in: float
    var_ln: float
    offset: Float64Array
    looseness: float


def solutions(lines: Lines, name: str, roundoff: float) -> list[Solution]:
    """The layers that explain the lines: one for each of the divisors HW - 1 and HW with which one does.

    Args:
        lines: of at least four samples.
        name: of the layer.
        roundoff: unit roundoff of the type that the file holds constants in.

    Raises:
        NotSwitchNormError: there are none.
    """
    if not (np.isfinite(lines.radicand).all() and (lines.radicand > 0).all()):
        raise NotSwitchNormError("the variance under its root isn't positive on random inputs", 1)
    scale = _scale(lines)
    variances: dict[int, _Variance] = {}
    refused: list[NotSwitchNormError] = []
    for ddof in (1, 0):
        try:
            variances[ddof] = _variance(lines, ddof, roundoff)
        except NotSwitchNormError as error:
            refused.append(error)
    if not variances:
        raise max(refused, key=lambda error: error.stage)
    mean_in, mean_ln, mean_offset, bias = _mean(lines, scale)
    return [
        Solution(
            FoldedSwitchNorm(
                name=name,
                scale=scale,
                bias=bias,
                mean_offset=mean_offset,
                var_offset=variance.offset,
                mean_in=mean_in,
                mean_ln=mean_ln,
                mean_bn=_rest(mean_in, mean_ln),
                var_in=variance.var_in,
                var_ln=variance.var_ln,
                var_bn=_rest(variance.var_in, variance.var_ln),
                ddof=ddof,
            ),
            variance.looseness,
        )
        for ddof, variance in variances.items()
    ]


def _rest(w_in: float, w_ln: float) -> float:
    """The weight of BN, which is folded: what the others leave of 1, as a softmax does. Only shown."""
    rest = 1.0 - w_in - w_ln
    return rest if rest > 1e-6 else 0.0


def _scale(lines: Lines) -> Float64Array:
    """scale[c] = s·sqrt(v), which must be the same in all samples."""
    each = lines.slope * np.sqrt(lines.radicand)
    scale = np.asarray(np.median(each, axis=0))
    # A channel of a small scale and a large bias knows its slope only to the bias' rounding.
    spread = np.abs(lines.intercept).max(axis=0) * np.finfo(np.float64).eps * 64
    wrong = np.abs(each - scale) > FITS * np.abs(scale) + spread * np.sqrt(lines.radicand / _own_variance(lines))
    if wrong.any():
        raise NotSwitchNormError(_why_not_the_root(lines), 2)
    scale[np.abs(scale) <= _ZERO * np.abs(scale).max(initial=0.0)] = 0.0
    return scale


def _own_variance(lines: Lines) -> Float64Array:
    own = lines.within if lines.rank_2 else lines.var_in
    return np.asarray(np.maximum(own, np.finfo(np.float64).tiny))


def _why_not_the_root(lines: Lines) -> str:
    """What it divides by, if not by the root: s = scale / (sqrt(v) + e) is the usual slip."""
    root = np.sqrt(lines.radicand)
    with np.errstate(all="ignore"):
        inverse = 1 / lines.slope
    if np.isfinite(inverse).all():
        for channel in range(inverse.shape[1]):
            columns = np.stack([root[:, channel], np.ones(len(root))], axis=1)
            fit = np.linalg.lstsq(columns, inverse[:, channel], rcond=None)[0]
            off = np.abs(columns @ fit - inverse[:, channel]).max() / np.abs(inverse[:, channel]).max()
            if off > FITS:
                return "what it divides by isn't the root of one mixed variance"
        return "eps is added outside the square root, to the standard deviation"
    return "what it divides by isn't the root of one mixed variance"


def _variance(lines: Lines, ddof: int, roundoff: float) -> _Variance:
    if (lines.count <= ddof).any():
        raise NotSwitchNormError("its variance is over one value", 1)
    unbiased = lines.count / (lines.count - ddof)
    shape = lines.radicand.shape
    columns = [np.broadcast_to(column, shape) for column in (lines.var_in * unbiased, lines.within * unbiased)]
    columns.append(np.broadcast_to(lines.between, shape))
    weight = 1 / lines.radicand
    var_in, within, between = _common(columns, lines.radicand, weight)
    fit = var_in * columns[0] + within * columns[1] + between * columns[2]
    offset = _per_channel(lines.radicand - fit, weight)
    off = float(np.abs((lines.radicand - fit - offset) * weight).max())
    if off > FITS:
        cause = _why_no_mix(lines, ddof)
        usual = (
            "the variance under its root isn't a mix of instance and layer variance with a constant for each channel"
        )
        raise NotSwitchNormError(f"{cause or usual} (it differs by {off:.1e})", 3 if cause is None else 4)
    looseness = 0.0
    if not lines.rank_2 and lines.radicand.shape[1] > 1:
        looseness = abs(within - between) / max(abs(var_in) + abs(within) + abs(between), _ZERO)
        if looseness > 8 * roundoff:
            raise NotSwitchNormError(_why_two_weights(within, between), 5)
    var_ln = within if lines.rank_2 or lines.radicand.shape[1] == 1 else between
    offset = _equal_if_rounding(offset)
    if (offset < 0).any():
        raise NotSwitchNormError(f"the constant part of its variance is {offset.min():.3g}, below zero", 5)
    return _Variance(_clean(var_in), _clean(var_ln), offset, looseness if looseness > FITS * roundoff else 0.0)


def _why_no_mix(lines: Lines, ddof: int) -> str | None:
    """The first known deviation that explains the variance under the root."""
    weight = 1 / lines.radicand
    for cause, columns in _deviations(lines, ddof):
        columns = [np.broadcast_to(column, lines.radicand.shape) for column in columns]
        shares = _common(columns, lines.radicand, weight)
        rest = lines.radicand - sum(share * column for share, column in zip(shares, columns, strict=True))
        if np.abs((rest - _per_channel(rest, weight)) * weight).max() <= FITS:
            return cause
    return None


def _deviations(lines: Lines, ddof: int) -> Iterator[tuple[str, list[Float64Array]]]:
    """What a variance under the root may be a mix of, if not of SN's."""
    (samples, channels), count = lines.radicand.shape, lines.count
    unbiased = count / (count - ddof)
    instance = lines.var_in * unbiased
    at_once = lines.within + lines.between
    all_values = count * channels
    yield "its layer variance is unbiased over C·HW values", [instance, at_once * all_values / (all_values - 1)]
    yield "its layer variance, over all C·HW values at once, is biased", [instance, at_once]
    layer = lines.within * unbiased + lines.between
    for groups in (groups for groups in range(2, channels) if channels % groups == 0 and not lines.rank_2):
        mean, var = (values.reshape(samples, groups, -1) for values in (lines.mean_in, lines.var_in))
        group = np.repeat(var.mean(axis=2) + mean.var(axis=2), channels // groups, axis=1)
        values = count * channels / groups
        for divisor in (values, values - 1):
            columns = [instance, layer, group * values / divisor]
            yield f"it has a branch with the statistics of {groups} groups", columns


def _why_two_weights(within: float, between: float) -> str:
    if abs(between) <= FITS * abs(within):
        return "its layer variance leaves out the spread of the channels' means"
    return (
        f"the two parts of its layer variance, within and between channels, have the weights {within:.6g} and "
        f"{between:.6g}: it is unbiased over C·HW values, or a mean of biased variances beside unbiased ones"
    )


def _mean(lines: Lines, scale: Float64Array) -> tuple[float, float, Float64Array, Float64Array]:
    """mean_in, mean_ln, mean_offset (C,) and bias (C,)."""
    shape = lines.radicand.shape
    live = scale != 0
    inverse = 1 / np.sqrt(lines.radicand)
    mean_offset, bias = np.zeros(shape[1]), np.asarray(lines.intercept.mean(axis=0))
    if not live.any():
        return 0.0, 0.0, mean_offset, bias
    target = (lines.intercept / np.where(live, scale, 1.0))[:, live]
    columns = [-np.broadcast_to(column, shape)[:, live] * inverse[:, live] for column in (lines.mean_in, lines.mean_ln)]
    basis = np.stack([np.ones_like(target), -inverse[:, live]], axis=2).transpose(1, 0, 2)  # (C, T, 2)
    mean_in, mean_ln = _apart_from(basis, columns, target)
    rest = target - mean_in * columns[0] - mean_ln * columns[1]
    own = (np.linalg.pinv(basis, rcond=1e-12) @ rest.T[:, :, None])[:, :, 0]  # (C, 2)
    off = float(np.abs(rest.T - (basis @ own[:, :, None])[:, :, 0]).max() / max(np.abs(target).max(), _ZERO))
    if off > FITS:
        raise NotSwitchNormError(
            "the mean that it subtracts isn't a mix of instance and layer mean and a constant a channel "
            f"(it differs by {off:.1e})",
            6,
        )
    bias[live], mean_offset[live] = own[:, 0] * scale[live], own[:, 1]
    size = np.sqrt(lines.radicand).min()
    mean_offset[np.abs(mean_offset) <= 10 * _ZERO * size] = 0.0
    bias[np.abs(bias) <= 10 * _ZERO * np.abs(scale)] = 0.0
    return _clean(mean_in), _clean(mean_ln), mean_offset, bias


def _common(columns: list[Float64Array], target: Float64Array, weight: Float64Array) -> list[float]:
    """The coefficients of columns (T, C) that all channels share, whatever constant each channel adds."""
    apart = [((column - _per_channel(column, weight)) * weight).ravel() for column in (*columns, target)]
    return _least_squares(apart[:-1], apart[-1])


def _per_channel(values: Float64Array, weight: Float64Array) -> Float64Array:
    """The constant of each channel that is nearest to ``values``, errors weighted; (C,)."""
    return np.asarray((values * weight**2).sum(axis=0) / (weight**2).sum(axis=0))


def _apart_from(basis: Float64Array, columns: list[Float64Array], target: Float64Array) -> list[float]:
    """The coefficients of columns (T, C), whatever multiples of ``basis`` (C, T, 2) each channel adds."""
    onto = basis @ np.linalg.pinv(basis, rcond=1e-12)  # (C, T, T)
    apart = [(column.T - (onto @ column.T[:, :, None])[:, :, 0]).ravel() for column in (*columns, target)]
    return _least_squares(apart[:-1], apart[-1])


def _least_squares(columns: list[Float64Array], target: Float64Array) -> list[float]:
    """Columns of zeros get 0."""
    matrix = np.stack(columns, axis=1)
    size = np.linalg.norm(matrix, axis=0)
    size[size == 0] = 1
    return [float(value) for value in np.linalg.lstsq(matrix / size, target, rcond=1e-13)[0] / size]


def _equal_if_rounding(values: Float64Array) -> Float64Array:
    """Without a BN branch all channels have eps, and the same eps."""
    middle = np.median(values)
    return np.full_like(values, middle) if np.abs(values - middle).max() <= 1e-8 * abs(middle) else values


def _clean(share: float) -> float:
    """Without the rounding of a share that is zero."""
    return 0.0 if abs(share) <= _ZERO else share
