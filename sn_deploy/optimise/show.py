"""An optimisation as lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sn_deploy.console import Console
from sn_deploy.summary import Summary
from sn_deploy.text import shape_text

if TYPE_CHECKING:
    from sn_deploy.optimise.run import OptimiseReport


_MOST_LAYERS = 8


def print_report(console: Console, report: OptimiseReport) -> None:
    """The summary of an optimisation."""
    stamp = report.stamp
    kept = [layer for layer in report.layers if layer.why_not is not None]
    summary = Summary()
    summary.add_file(report.path, report.data_path)
    summary.add("made for", stamp.made_for())
    summary.add(
        "SN layers",
        f"{len(report.layers) - len(kept)} of {len(report.layers)} on blocks of {stamp.block_size} channels",
    )
    summary.add_first("as before", [f"{layer.name}: {layer.why_not}" for layer in kept], _MOST_LAYERS)
    summary.add("nodes", f"{report.nodes_before} before, {report.nodes_after} now, {report.reorders} of them reorders")
    shapes = ", ".join(f"{name} {shape_text(shape)}" for name, shape in report.proof.shapes.items())
    larger = "" if report.proof.why_larger is None else f" ({report.proof.why_larger})"
    summary.add("tried on", f"{shapes}: relative L2 difference {report.proof.rel_l2:.1e} from {stamp.source}{larger}")
    summary.print(console)
    if not report.source_beside:
        console.print(f"{stamp.source} isn't beside it: copy it there, or the file runs nowhere else.", style="yellow")
