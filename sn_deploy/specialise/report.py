"""What `specialise` did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sn_deploy.printed import Printed
from sn_deploy.specialise.budget import Budget
from sn_deploy.specialise.samples import Error
from sn_deploy.text import counted

if TYPE_CHECKING:
    from sn_deploy.console import Console


@dataclass(frozen=True)
class LayerChange:
    """One SN layer.

    Attributes:
        name: of its node.
        form: what became of it: ``folded``, ``InstanceNormalization``, ``fewer statistics`` or ``kept``.
        dropped: statistics that went for the budget: ``in``, ``ln``.
        reason: why it isn't cheaper still; None where there is none cheaper, or nothing suggests one.
        error: relative L2 error of the whole network were this all that was dropped; None where nothing was.
        before_ms, after_ms: its time in one call; None where ONNX Runtime's profile doesn't tell.
    """

    name: str
    form: str
    dropped: tuple[str, ...]
    reason: str | None
    error: float | None
    before_ms: float | None
    after_ms: float | None


@dataclass(frozen=True, repr=False)
class SpecialiseReport(Printed):
    """What was written, and the proof.

    Attributes:
        path, data_path: the files; the latter None without external data.
        runtime: who it is cheap for: ``ort`` or ``ort-native``.
        layers: all, in the order in which they run.
        exact_rel_l2: how far the forms are from SwitchNorm nodes with the same constants; rounding alone.
        exact_tolerance: how far they might have been.
        budget: None where only what is exact was done.
        chosen_on: the error on the samples that the choice was made on; None where nothing was dropped.
        held_out: the error on samples that had no part in the choice.
        data: where the samples are from.
        time_ratio, time_low, time_high: the network's time over the source's, and its 95 % interval.
        batch: samples in a call that was timed.
        nodes_before, nodes: of the graph.
    """

    path: Path
    data_path: Path | None
    runtime: str
    layers: tuple[LayerChange, ...]
    exact_rel_l2: float
    exact_tolerance: float
    budget: Budget | None
    chosen_on: Error | None
    held_out: Error
    data: Mapping[str, object]
    time_ratio: float
    time_low: float
    time_high: float
    batch: int
    nodes_before: int
    nodes: int

    def _line(self) -> str:
        changed = sum(layer.form != "kept" for layer in self.layers)
        return f"{self.path}, {changed} of {counted(len(self.layers), 'SN layer')} changed"

    def _print(self, console: Console) -> None:
        from sn_deploy.specialise.show import print_report

        print_report(console, self)
