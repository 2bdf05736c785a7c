"""What `fuse` did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.fuse.whole import WholeFile
from sn_deploy.printed import Printed
from sn_deploy.text import counted

if TYPE_CHECKING:
    from sn_deploy.console import Console


@dataclass(frozen=True)
class FusedLayer:
    """One SN layer that was found.

    Attributes:
        folded: what it folded into. Its ``name`` is what the file tells of the layer's name.
        node: the name of the node that stands for it now.
        shape: of X, N first and channels second: a size, a name, or None.
        channels_last: whether the file has it, or its result, as (N, *spatial, C).
        replaced: how many nodes computed it.
        mismatch: the largest difference between the nodes and the layer on random inputs, in float64, relative to each
            channel's largest output.
    """

    folded: FoldedSwitchNorm
    node: str
    shape: tuple[int | str | None, ...]
    channels_last: bool
    replaced: int
    mismatch: float


@dataclass(frozen=True)
class NearMiss:
    """A part of the graph that looks like SN and isn't what the operator computes.

    Attributes:
        node: where it ends, or the root that it takes.
        reason: one clause.
    """

    node: str
    reason: str


@dataclass(frozen=True, repr=False)
class FuseReport(Printed):
    """What `fuse` found and wrote.

    Attributes:
        path: the file written; ``data_path`` its external data.
        layers: in the order in which they run.
        near_misses: what looks like SN and was left as it is.
        present: nodes of our operators that the file had before.
        forms: SwitchNorm and its fused forms -> how many the file has now.
        apart: node -> why the ReLU that follows it, or the residual and the ReLU, was not fused with it.
        opset_before, opset: versions of the standard operators.
        nodes_before, nodes: of the graph.
        bytes_before, bytes: sizes of the files, external data included.
        whole: how near the file is to its source, both run in ONNX Runtime.
    """

    path: Path
    data_path: Path | None
    layers: tuple[FusedLayer, ...]
    near_misses: tuple[NearMiss, ...]
    present: int
    forms: Mapping[str, int]
    apart: Mapping[str, str]
    opset_before: int
    opset: int
    nodes_before: int
    nodes: int
    bytes_before: int
    bytes: int
    whole: WholeFile

    def _line(self) -> str:
        found = counted(len(self.layers), "SN layer")
        return f"{self.path}, {found} found, {counted(self.nodes, 'node')}, was {self.nodes_before}"

    def _print(self, console: Console) -> None:
        from sn_deploy.fuse.show import print_report

        print_report(console, self)
