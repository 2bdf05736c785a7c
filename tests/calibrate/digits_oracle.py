"""The demo's network in float64 NumPy, with its batch averages: nothing of torch or of the package's arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Array = np.ndarray
Statistics = dict[str, tuple[Array, Array]]  # layer -> mean and variance, (C,) each


class DigitsOracle:
    """``weights`` are the state dict's arrays by name."""

    def __init__(self, weights: dict[str, Array]) -> None:
        self.w = {name: value.astype(np.float64) for name, value in weights.items()}

    def batch_average(self, x: Array, batch_size: int) -> Statistics:
        """S1/N and S2/N - (S1/N)², every batch normalised with its own statistics."""
        sums: dict[str, list[Array]] = {}
        count = 0
        for start in range(0, len(x), batch_size):
            own: Statistics = {}
            self._logits(x[start : start + batch_size], None, own)
            count += 1
            for name, (mean, var) in own.items():
                first, second = sums.get(name, [0.0, 0.0])
                sums[name] = [first + mean, second + mean**2 + var]
        return {name: (first / count, second / count - (first / count) ** 2) for name, (first, second) in sums.items()}

    def logits(self, x: Array, statistics: Statistics) -> Array:
        """(N, 10), with these statistics in the BN branches."""
        parts = [self._logits(x[start : start + 64], statistics, {}) for start in range(0, len(x), 64)]
        return np.concatenate(parts)

    def _logits(self, x: Array, frozen: Statistics | None, own: Statistics) -> Array:
        """One batch; without ``frozen`` statistics its own are used, and put into ``own``."""
        x = np.maximum(self._norm("sn1", self._conv("conv1", x.astype(np.float64)), frozen, own), 0)
        x = np.maximum(self._norm("sn2", self._conv("conv2", x), frozen, own), 0)
        x = _pool(x)
        x = np.maximum(self._norm("sn3", self._conv("conv3", x), frozen, own), 0)
        x = np.maximum(self._norm("sn4", self._conv("conv4", x), frozen, own) + x, 0)
        return _pool(x).reshape(len(x), -1) @ self.w["fc.weight"].T + self.w["fc.bias"]

    def _conv(self, name: str, x: Array) -> Array:
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        return np.einsum(
            "nchwij,ocij->nohw", sliding_window_view(padded, (3, 3), (2, 3)), self.w[f"{name}.weight"], optimize=True
        )

    def _norm(self, name: str, x: Array, frozen: Statistics | None, own: Statistics) -> Array:
        means = [x.mean((2, 3), keepdims=True)]
        variances = [x.var((2, 3), keepdims=True, ddof=1)]
        square = variances[0] + means[0] ** 2
        means.append(means[0].mean(1, keepdims=True))
        variances.append(square.mean(1, keepdims=True) - means[1] ** 2)
        if f"{name}.running_mean" in self.w:
            if frozen is None:
                mean = means[0].mean(0)
                own[name] = (mean.ravel(), (square.mean(0) - mean**2).ravel())
            mean, var = (frozen or own)[name]
            means.append(mean[:, None, None])
            variances.append(var[:, None, None])
        mean = sum(w * m for w, m in zip(_softmax(self.w[f"{name}.mean_weight"]), means, strict=True))
        var = sum(w * v for w, v in zip(_softmax(self.w[f"{name}.var_weight"]), variances, strict=True))
        return (x - mean) / np.sqrt(var + 1e-5) * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]


def _softmax(logits: Array) -> Iterator[float]:
    powers = np.exp(logits - logits.max())
    return iter(powers / powers.sum())


def _pool(x: Array) -> Array:
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).max((3, 5))
