"""What one pass over data, or over a part of it, has found; and what it comes to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sn_deploy.calibrate.tally import Identity, Tally, Traits
from sn_deploy.errors import SnDeployError
from sn_deploy.folded import Float64Array
from sn_deploy.printed import Printed
from sn_deploy.text import counted

if TYPE_CHECKING:
    from sn_deploy.console import Console


@dataclass
class Pass:
    """One pass, or a part of one. Parts merge to the whole, bit for bit, in whatever order.

    Attributes:
        statistics: BATCH_AVERAGE or POPULATION.
        tallies: one for each BN branch, in module order.
        without_bn: layers that look like SN and have no BN branch.
        batches: the place of each batch in the whole data -> its samples.
        refused: layer -> why it isn't SN, of those that were left out.
        order: names of the layers in the order of their first call.
    """

    statistics: str
    tallies: list[Tally]
    without_bn: list[str]
    batches: dict[int, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)

    def merge(self, other: Pass) -> None:
        """Adds another part.

        Raises:
            SnDeployError: the parts are of different passes or models, or have a batch in common.
        """
        same = (self.statistics, self.without_bn, len(self.tallies))
        if same != (other.statistics, other.without_bn, len(other.tallies)):
            raise SnDeployError("the parts are not of the same pass over the same model")
        twice = sorted(self.batches.keys() & other.batches.keys())
        if twice:
            raise SnDeployError(f"batch {twice[0]} is in two parts", mend="give each part once")
        for tally, part in zip(self.tallies, other.tallies, strict=True):
            tally.merge(part)
        self.batches |= other.batches
        self.refused |= other.refused
        self.order += [name for name in other.order if name not in self.order]


@dataclass(frozen=True, eq=False)
class LayerStatistics:
    """New statistics of one BN branch.

    Attributes:
        identity, traits: the layer; traits are None where it didn't run.
        calls: how often it ran.
        mean, var: (C,), float64.
    """

    identity: Identity
    traits: Traits | None
    calls: int
    mean: Float64Array = field(repr=False)
    var: Float64Array = field(repr=False)

    @property
    def name(self) -> str:
        """The layer's qualified name."""
        return self.identity.layer


@dataclass(frozen=True, eq=False, repr=False)
class Calibration(Printed):
    """New statistics of a model.

    Attributes:
        statistics: BATCH_AVERAGE or POPULATION.
        layers: those that ran, in the order of their first call.
        unused: layers with a BN branch that never ran; they keep the statistics that they have.
        without_bn: SN layers without a BN branch.
        refused: layer -> why it isn't SN; it keeps its statistics, too.
        batches: samples of each batch of the data.
        moved: of a population, how far each sweep moved the statistics (see `movement.distance`).
        converged: False where the last sweep still moved them by more than the tolerance; None where that isn't asked.
    """

    statistics: str
    layers: tuple[LayerStatistics, ...]
    unused: tuple[str, ...]
    without_bn: tuple[str, ...]
    refused: dict[str, str]
    batches: tuple[int, ...]
    moved: tuple[float, ...] = ()
    converged: bool | None = None

    @property
    def samples(self) -> int:
        """How many samples the data had."""
        return sum(self.batches)

    def _line(self) -> str:
        return f"{self.statistics} of {counted(len(self.layers), 'layer')} over {counted(self.samples, 'sample')}"

    def _print(self, console: Console) -> None:
        from sn_deploy.calibrate.show import print_calibration

        print_calibration(console, self)


def calibration_from_pass(whole: Pass, moved: Iterable[float] = (), converged: bool | None = None) -> Calibration:
    """The statistics that a whole pass comes to.

    Raises:
        SnDeployError: no layer ran, or one saw too few samples.
    """
    refused_names = set(whole.refused)
    ran = {tally.identity.layer: tally for tally in whole.tallies if tally.sums.calls}
    if not ran:
        raise SnDeployError(
            "no SN layer with a BN branch ran on this data",
            mend="check --model: without a BN branch there is nothing to calibrate",
        )
    layers = []
    for name in sorted(ran, key=whole.order.index):
        tally = ran[name]
        assert tally.traits is not None
        layers.append(LayerStatistics(tally.identity, tally.traits, tally.sums.calls, *tally.moments()))
    idle = [tally.identity.layer for tally in whole.tallies if tally.identity.layer not in ran]
    return Calibration(
        statistics=whole.statistics,
        layers=tuple(layers),
        unused=tuple(name for name in idle if name not in refused_names),
        without_bn=tuple(whole.without_bn),
        refused=dict(whole.refused),
        batches=tuple(whole.batches[index] for index in sorted(whole.batches)),
        moved=tuple(moved),
        converged=converged,
    )
