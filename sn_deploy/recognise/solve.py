"""The constants in effect, from behaviour alone: for layers whose weights no published form explains.

Where the statistics stay the same SN is a straight line, y = (x - mean)·r + bias with r = scale/√var: along the
positions of one sample and channel. So r gives var = (scale/r)², and the line's intercept gives mean; over all samples
and channels, var and mean are linear in the unknown shares and eps: two small least squares problems. This finds
sparsestmax weights (SSN, Shao et al., CVPR 2019), sigmoids, temperatures and any eps. A solution is only a
hypothesis, to be confirmed on other inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sn_deploy.folded import Float64Array
from sn_deploy.recognise.forms import Branch, Constants, Form, Shares
from sn_deploy.recognise.moments import moments
from sn_deploy.recognise.probe import Probe

_ROLLS = 3
# Below it an eps is our rounding, and the layer adds none: a deviation, to be named as such.
_NO_EPS = 1e-13


@dataclass(frozen=True)
class Lines:
    """The mean and the variance in effect, and the live statistics, of each sample and channel; all (rows,).

    ``channel`` is the index of the row's channel. Rows whose line can't be told (scale 0, constant input) are absent.
    """

    mean: Float64Array
    var: Float64Array
    mean_in: Float64Array
    mean_ln: Float64Array
    var_in: Float64Array
    var_ln: Float64Array
    channel: np.ndarray


def line_inputs(inputs: list[Float64Array]) -> list[Float64Array]:
    """Inputs with lines in them.

    (N, C) has one position only, so each sample is followed by itself with its channels rotated: that gives every
    channel other values under the same LN statistics.
    """
    return [_with_rolls(x) if x.ndim == 2 else x for x in inputs]


def _with_rolls(x: Float64Array) -> Float64Array:
    rolled = np.stack([np.roll(x, shift, axis=1) for shift in range(_ROLLS)], axis=1)  # (N, rolls, C)
    return np.asarray(rolled.reshape(-1, x.shape[1]))


def lines(constants: Constants, probes: list[Probe], ddof: int) -> Lines | None:
    """Fits the line of each sample and channel of probes on `line_inputs`; None if there are none to fit."""
    columns = []
    for probe in probes:
        x, y = _positions(probe.x), _positions(probe.y)  # (N, C, positions)
        live = moments(probe.x[::_ROLLS] if probe.x.ndim == 2 else probe.x, ddof)
        centred = x - x.mean(axis=2, keepdims=True)
        with np.errstate(all="ignore"):
            slope = (centred * y).sum(axis=2, keepdims=True) / (centred**2).sum(axis=2, keepdims=True)  # r, (N, C, 1)
            var = (constants.scale[:, None] / slope) ** 2
            mean = x.mean(axis=2, keepdims=True) - (y.mean(axis=2, keepdims=True) - constants.bias[:, None]) / slope
        channel = np.arange(x.shape[1])[:, None]
        parts = (mean, var, live.mean_in, live.mean_ln, live.var_in, live.var_ln, channel)
        columns.append([np.broadcast_to(part, mean.shape).ravel() for part in parts])
    table = np.stack([np.concatenate(column) for column in zip(*columns, strict=True)])
    table = table[:, np.isfinite(table).all(axis=0) & (table[1] > 0)]
    if table.shape[1] < 8:
        return None
    mean, var, mean_in, mean_ln, var_in, var_ln, channels = table
    return Lines(mean, var, mean_in, mean_ln, var_in, var_ln, channels.astype(int))


def _positions(x: Float64Array) -> Float64Array:
    """(N, C, positions): the spatial ones, or the rolls of a rank 2 input."""
    if x.ndim == 2:
        return np.asarray(x.reshape(-1, _ROLLS, x.shape[1]).transpose(0, 2, 1))
    return x.reshape(*x.shape[:2], -1)


def solutions(constants: Constants, probes: list[Probe], ddof: int, known_eps: Sequence[float]) -> Iterator[Form]:
    """Forms that explain the probes best, with variances of divisor n - ddof; none where there is no line.

    First with each eps of ``known_eps`` held, since eps and running variances that are all equal can't be told apart.
    """
    rows = lines(constants, probes, ddof)
    if rows is None:
        return
    branches: tuple[Branch, ...] = ("in", "ln", "bn") if constants.has_statistics else ("in", "ln")
    running_mean, running_var = constants.running_mean[rows.channel], constants.running_var[rows.channel]
    # Rows weighted to relative errors: the probes' scales are orders of magnitude apart, and eps shows on the smallest.
    mean = least_squares([rows.mean_in, rows.mean_ln, running_mean], rows.mean, 1 / np.sqrt(rows.var))
    variances = [rows.var_in, rows.var_ln, running_var]
    for eps in known_eps:
        var = least_squares(variances, rows.var - eps, 1 / rows.var)
        yield Form(_shares(branches, mean), _shares(branches, var), eps, ddof)
    *var_and_eps, eps = least_squares([*variances, np.ones_like(rows.var)], rows.var, 1 / rows.var)
    solved = Form(_shares(branches, mean), _shares(branches, np.array(var_and_eps)), float(eps), ddof)
    # Someone wrote 1e-4 in a source file; the digits behind it are our rounding.
    if eps > _NO_EPS:
        yield replace(solved, eps=float(f"{eps:.3g}"))
        yield solved


def least_squares(columns: list[Float64Array], target: Float64Array, weight: Float64Array) -> Float64Array:
    """The coefficients that minimise ‖weight·(Σ coefficient·column - target)‖; columns of zeros get 0."""
    matrix = np.stack(columns, axis=1) * weight[:, None]
    size = np.linalg.norm(matrix, axis=0)
    size[size == 0] = 1
    solution = np.linalg.lstsq(matrix / size, target * weight, rcond=None)[0]
    return np.asarray(solution / size)


def _shares(branches: tuple[Branch, ...], weights: Float64Array) -> Shares:
    # Rounded, so that a share of zero is shown as zero; what little that moves, the probe judges with the rest.
    return {branch: round(float(weight), 12) + 0.0 for branch, weight in zip(branches, weights, strict=False)}
