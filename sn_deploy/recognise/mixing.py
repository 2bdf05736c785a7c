"""Layers that mix channels, as whitening does: told by what comes out, whatever computes it."""

from __future__ import annotations

import math

import numpy as np

from sn_deploy.folded import Float64Array
from sn_deploy.recognise.result import RefusedError
from sn_deploy.recognise.subject import Subject

_MOST_CHANNELS = 1024  # the fit below takes C³ operations
_EXACT = 1e-7
_SHARE = 1e-6


def mixed_channels(subject: Subject, channels: int, rank: int) -> int | None:
    """How many channels an output channel is a linear mixture of, at most; None where it is no mixture.

    Of one sample, an SN layer's channel is a line of its own input channel: 1. A layer that multiplies a sample's
    channels by a matrix, as the whitening of its covariance is, gives more.

    Args:
        subject: the layer's private copy.
        channels: C.
        rank: of its input.
    """
    if rank < 3 or channels > _MOST_CHANNELS:
        return None
    side = max(2, math.ceil((2 * channels + 8) ** (1 / (rank - 2))))
    x = np.random.default_rng(5).standard_normal((1, channels, *[side] * (rank - 2)))
    try:
        y = subject(x).double().numpy()
    except RefusedError:
        return None
    if y.shape != x.shape or not np.isfinite(y).all():
        return None
    return _widest_mixture(x.reshape(channels, -1), y.reshape(channels, -1))


def _widest_mixture(x: Float64Array, y: Float64Array) -> int | None:
    """x, y: (C, positions), more than twice as many positions as channels."""
    inputs = np.concatenate([x, np.ones((1, x.shape[1]))])
    matrix = np.linalg.solve(inputs @ inputs.T, inputs @ y.T).T  # (C, C + 1)
    if np.abs(matrix @ inputs - y).max() > _EXACT * np.abs(y).max():
        return None
    weights = np.abs(matrix[:, :-1])
    return int((weights > _SHARE * weights.max(axis=1, keepdims=True)).sum(axis=1).max())
