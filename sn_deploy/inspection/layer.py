"""One SN layer as `inspect` shows it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sn_deploy.errors import SnDeployError
from sn_deploy.text import shape_text

BRANCHES: Final = ("IN", "LN", "BN")  # the order of the published mean_weight and var_weight

_KIND_BY_RANK: Final = {2: "SN1d", 4: "SN2d", 5: "SN3d"}


@dataclass(frozen=True)
class Spread:
    """Values of a layer's channels, in short."""

    median: float
    smallest: float
    largest: float


def spread(values: npt.NDArray[Any] | None) -> Spread | None:
    """Of values of any shape and real type; None where there are none."""
    if values is None or not values.size:
        return None
    flat = values.astype(np.float64)
    return Spread(float(np.median(flat)), float(flat.min()), float(flat.max()))


@dataclass(frozen=True)
class LayerWeights:
    """The mix that a layer uses at inference.

    Attributes:
        name: the layer's name in the source model.
        kind: ``SN1d``, ``SN2d`` or ``SN3d``; ``SN`` where the file doesn't tell.
        channels: C, or None where the file doesn't tell.
        shape: X's shape, a dimension being a number, a name or None; None where the file doesn't tell.
        mean, var: weights of IN, LN and BN for the mean and for the variance; 0 for a branch that it doesn't have.
        epilogue: what the layer's node computes after it: nothing, ReLU, or residual and ReLU; None where the file
            doesn't tell.
        gamma: of the affine part; None where the file doesn't tell.
        population_mean, population_var: the statistics of the frozen BN branch, which are what population
            normalization normalises with; None without such a branch. An ONNX file has the variance with eps in it.

    Raises:
        SnDeployError: a weight is not finite.
    """

    name: str
    kind: str
    channels: int | None
    shape: tuple[int | str | None, ...] | None
    mean: tuple[float, float, float]
    var: tuple[float, float, float]
    epilogue: tuple[str, ...] | None = None
    gamma: Spread | None = field(default=None, compare=False)
    population_mean: Spread | None = field(default=None, compare=False)
    population_var: Spread | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for what, weights in (("mean", self.mean), ("variance", self.var)):
            if not all(math.isfinite(weight) for weight in weights):
                raise SnDeployError(f"the weights of the {what} are {weights}", where=self.name, expected="numbers")

    @property
    def size_text(self) -> str:
        """X's shape, or the number of channels, for people: ``N×64×56×56``, ``64 channels``."""
        if self.shape is not None:
            return shape_text(self.shape)
        return "?" if self.channels is None else f"C={self.channels}"


def kind_from_rank(rank: int | None) -> str:
    """The kind of layer that takes an X of that rank, or ``SN``: of rank 3 there are several."""
    return _KIND_BY_RANK.get(rank or 0, "SN")


def averages(layers: list[LayerWeights]) -> dict[str, tuple[float, float, float]]:
    """The weights of IN, LN and BN averaged over the layers, for the ``mean`` and for the ``var``."""
    return {"mean": _average([layer.mean for layer in layers]), "var": _average([layer.var for layer in layers])}


def _average(weights: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    w_in, w_ln, w_bn = (math.fsum(column) / len(weights) for column in zip(*weights, strict=True))
    return w_in, w_ln, w_bn
