"""Calibration in float64 NumPy, from the papers' equations: of a chain of layers that torch and NumPy both run.

Nothing here is shared with `sn_deploy.calibrate`; the layer itself is `FoldedSwitchNorm.evaluate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from sn_deploy.check.batch import Batch
from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.nn import SwitchNorm2d
from sn_deploy.recognise import recognise
from tests.randomise import randomise_

CHANNELS = 5


class Chain(nn.Module):
    """Mixing of channels, SN and ReLU, ``depth`` times, and what must not act in calibration: dropout and BatchNorm."""

    def __init__(self, depth: int = 3, **options: bool) -> None:
        super().__init__()
        self.mix = nn.ModuleList(nn.Conv2d(CHANNELS, CHANNELS, 1) for _ in range(depth))
        self.sn = nn.ModuleList(SwitchNorm2d(CHANNELS, **options) for _ in range(depth))
        self.dropout = nn.Dropout(0.5)
        self.bn = nn.BatchNorm2d(CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.bn(x))
        for mix, sn in zip(self.mix, self.sn, strict=True):
            x = sn(mix(x)).relu()
        return x


def chain(depth: int = 3, seed: int = 0, **options: bool) -> Chain:
    """A chain with the trained look, in float64, so that comparisons are tight."""
    torch.manual_seed(seed)
    model = randomise_(Chain(depth, **options), seed)
    model.bn.running_mean.normal_()
    model.bn.running_var.uniform_(0.5, 2)
    return model.double()


def images(samples: int = 24, seed: int = 0, extent: int = 4) -> np.ndarray:
    """(samples, CHANNELS, extent, extent + 1): every sample and channel with a mean and a deviation of its own."""
    rng = np.random.default_rng(seed)
    each = (samples, CHANNELS, 1, 1)
    noise = rng.standard_normal((samples, CHANNELS, extent, extent + 1))
    return rng.normal(1.0, 1.0, each) + rng.uniform(0.5, 2.0, each) * noise


class Batches:
    """A `Source` of an array cut into batches; ``size`` may be one number or the sizes of all."""

    def __init__(self, x: np.ndarray, size: int | Sequence[int], *, keep: Sequence[int] | None = None) -> None:
        sizes = [size] * -(-len(x) // size) if isinstance(size, int) else list(size)
        stops = np.minimum(np.cumsum(sizes), len(x))
        self._all = [
            Batch(index, int(start), {"x": x[start:stop]})
            for index, (start, stop) in enumerate(zip([0, *stops[:-1]], stops, strict=True))
        ]
        self._keep = range(len(self._all)) if keep is None else keep

    def __iter__(self):
        return iter([self._all[index] for index in self._keep])

    @property
    def batches(self) -> int:
        return len(self._keep)

    def describe(self) -> dict[str, object]:
        return {"kind": "test", "batches": len(self._all)}


def batch_moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of (N, C, H, W), as training takes them: mean_n(mean_in), mean_n(var_in + mean_in²) - mean², var_in unbiased."""
    flat = x.reshape(*x.shape[:2], -1)
    means, variances = flat.mean(2), flat.var(2, ddof=1)
    mean = means.mean(0)
    return mean, variances.mean(0) + ((means - mean) ** 2).mean(0)


def with_statistics(folded: FoldedSwitchNorm, old: SwitchNorm2d, mean: np.ndarray, var: np.ndarray) -> FoldedSwitchNorm:
    """The layer with other running statistics."""
    old_var = old.running_var.double().numpy().ravel()
    offset = folded.var_offset + folded.var_bn * (var - old_var)
    return replace(folded, mean_offset=folded.mean_bn * mean, var_offset=offset)


class ChainOracle:
    """The same chain in NumPy, whatever mode or statistics the torch one has."""

    def __init__(self, model: Chain) -> None:
        self.layers = list(model.sn)
        found = recognise(model)
        assert not found.refused
        self.folded = [found.layers[f"sn.{index}"] for index in range(len(self.layers))]
        self.weights = [(mix.weight[:, :, 0, 0].detach().numpy(), mix.bias.detach().numpy()) for mix in model.mix]
        self.scale = 1 / np.sqrt(model.bn.running_var.numpy() + model.bn.eps)
        self.shift = -model.bn.running_mean.numpy() * self.scale

    def enter(self, x: np.ndarray) -> np.ndarray:
        return x * self.scale[:, None, None] + self.shift[:, None, None]

    def mixed(self, index: int, x: np.ndarray) -> np.ndarray:
        """What layer ``index`` is given."""
        weight, bias = self.weights[index]
        return np.einsum("oc,nchw->nohw", weight, x) + bias[:, None, None]

    def normalised(self, index: int, x: np.ndarray, mean: np.ndarray, var: np.ndarray) -> np.ndarray:
        layer = with_statistics(self.folded[index], self.layers[index], mean, var)
        return np.maximum(layer.evaluate(x), 0)

    def batch_average(self, batches: Batches) -> list[tuple[np.ndarray, np.ndarray]]:
        """S1/N and S2/N - (S1/N)² of each layer, every batch normalised with its own statistics."""
        sums = [(0.0, 0.0)] * len(self.layers)
        count = 0
        for batch in batches:
            x, count = self.enter(batch.inputs["x"]), count + 1
            for index, (first, second) in enumerate(sums):
                x = self.mixed(index, x)
                mean, var = batch_moments(x)
                sums[index] = (first + mean, second + mean**2 + var)
                x = self.normalised(index, x, mean, var)
        return [(first / count, second / count - (first / count) ** 2) for first, second in sums]

    def population(self, x: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Layer after layer, each with all data as one batch, and the layers before it with their results."""
        x, found = self.enter(x), []
        for index in range(len(self.layers)):
            x = self.mixed(index, x)
            found.append(batch_moments(x))
            x = self.normalised(index, x, *found[-1])
        return found
