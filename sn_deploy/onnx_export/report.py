"""What an export was."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.onnx_export.proof import Proof
from sn_deploy.printed import Printed

if TYPE_CHECKING:
    from sn_deploy.console import Console


@dataclass(frozen=True)
class ExportedLayer:
    """One SN layer of an exported file: what it folded into, the shape of X, and how many nodes call it."""

    folded: FoldedSwitchNorm
    shape: tuple[int, ...]
    calls: int


@dataclass(frozen=True, repr=False)
class ExportReport(Printed):
    """What `export` did.

    Attributes:
        path: the ONNX file; ``data_path`` its external data, if any. ``file_bytes`` counts both.
        layers: the SN layers in the order in which they run.
        forms: SwitchNorm and its fused forms -> how many there are (or, inlined, were).
        apart: node -> why the ReLU that follows it, or the residual and the ReLU, was not fused with it.
        kept: layer -> reason, of layers left in standard operators (``keep_unrecognised``).
        proof: how near the file is to the model.
        unused: layers of the model that don't run on these inputs, and so aren't in the file.
        nodes: nodes of the graph, an SN layer counting as one (or, inlined, as its body).
        op_counts: operator -> number of nodes.
        inputs, outputs: name -> shape and type as text, such as ``batch×3×224×224 float32``.
        standard: what counts `nodes_standard`.
    """

    path: Path
    data_path: Path | None
    file_bytes: int
    opset: int
    precision: str
    inlined: bool
    layers: tuple[ExportedLayer, ...]
    forms: Mapping[str, int]
    apart: Mapping[str, str]
    kept: Mapping[str, str]
    proof: Proof
    unused: tuple[str, ...]
    nodes: int
    op_counts: Mapping[str, int]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    standard: Callable[[], int | None] = field(repr=False, compare=False)

    @functools.cached_property
    def nodes_standard(self) -> int | None:
        """How many nodes torch's own export takes, counted when it is asked for, by exporting a layer of each kind.

        None where torch can't export a layer (one that wants CUDA, say).
        """
        return self.standard()

    def _line(self) -> str:
        return f"{self.path}, SN layers: {len(self.layers)}, nodes: {self.nodes}, {self.precision}"

    def _print(self, console: Console) -> None:
        from sn_deploy.onnx_export.show import print_report

        # To look at a report should take no time.
        print_report(console, self, standard="nodes_standard" in vars(self))
