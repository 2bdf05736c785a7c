"""What a pass over data leaves of one BN branch: sums, and what is needed to know them again. Parts merge exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from sn_deploy.calibrate.layer_sums import LayerSums
from sn_deploy.errors import SnDeployError
from sn_deploy.folded import Float64Array

BATCH_AVERAGE: Final = "batch-average"
POPULATION: Final = "population"
STATISTICS: Final = (BATCH_AVERAGE, POPULATION)


@dataclass(frozen=True)
class Identity:
    """The running statistics that are calibrated, and the layer that reads them.

    Attributes:
        layer: qualified name; where several layers share their statistics, the first one's.
        mean_keys, var_keys: the names that they have in the model's state dict; several where modules are shared.
        shape: that of the mean in the state dict, C values.
    """

    layer: str
    mean_keys: tuple[str, ...]
    var_keys: tuple[str, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Traits:
    """What is known of a layer once it has run.

    Attributes:
        mean_bn, var_bn: the weights of the BN branch in the mean and in the variance.
        per_sample, ddof: how its training code takes the statistics of a batch, see `BatchForm`.
        assumed: its training code couldn't be asked, so the form is the published layers'.
    """

    mean_bn: float
    var_bn: float
    per_sample: bool
    ddof: int
    assumed: bool


class Tally:
    """The sums of one pass; ``traits`` is None until the layer has run.

    Args:
        identity: what is summed.
        statistics: BATCH_AVERAGE: every call counts once, as in the published code. POPULATION: every sample does (or
            every value, in layers that take all values of a channel as one set).
    """

    def __init__(self, identity: Identity, statistics: str) -> None:
        self.identity, self.statistics = identity, statistics
        self.traits: Traits | None = None
        self.sums = LayerSums(math.prod(identity.shape))

    def add(self, mean: Float64Array, var: Float64Array, count: int) -> None:
        """Adds a call's moments (C,), taken over ``count`` samples or values."""
        if self.statistics == BATCH_AVERAGE:
            self.sums.add(mean, var, 1, 1)
        else:
            self.sums.add(mean, var, count, count - self._ddof)

    def merge(self, other: Tally) -> None:
        """Adds another part of the same pass.

        Raises:
            SnDeployError: the parts are of different layers.
        """
        if self.identity != other.identity or (self.traits and other.traits and self.traits != other.traits):
            raise SnDeployError(
                "the parts don't agree on this layer",
                where=f"layer {self.identity.layer!r}",
                mend="make all parts with the same model, checkpoint and version of sn-deploy",
            )
        self.traits = self.traits or other.traits
        self.sums.merge(other.sums)

    def moments(self) -> tuple[Float64Array, Float64Array]:
        """The statistics (C,), correctly rounded; the layer has run.

        Raises:
            SnDeployError: there are too few samples for an unbiased variance.
        """
        if self.sums.weight <= self._ddof:
            raise SnDeployError(
                "one sample has no unbiased variance", where=f"layer {self.identity.layer!r}", mend="give more samples"
            )
        return self.sums.moments(self._ddof)

    @property
    def _ddof(self) -> int:
        """Of the variance over the calls: theirs where all their values are one set, else 0."""
        assert self.traits is not None
        return self.traits.ddof if self.statistics == POPULATION and not self.traits.per_sample else 0
