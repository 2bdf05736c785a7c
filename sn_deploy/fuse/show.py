"""What `fuse` found, as lines for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sn_deploy.console import Console
from sn_deploy.fuse.show_whole import add_whole, print_by_hand
from sn_deploy.summary import Summary

if TYPE_CHECKING:
    from sn_deploy.fuse.report import FuseReport


def print_report(console: Console, report: FuseReport, source: Path | None = None) -> None:
    """The summary, and every near miss; with the source, how to compare by hand what couldn't be run."""
    summary = Summary()
    nodes = f", {report.nodes} nodes, was {report.nodes_before}"
    summary.add_result(report, report.opset, report.opset_before, nodes)
    summary.add("layers", _layers_text(report))
    summary.add("forms", ", ".join(f"{count} {form}" for form, count in report.forms.items()))
    if report.layers:
        worst = max(report.layers, key=lambda layer: layer.mismatch)
        text = f"each layer agrees with the nodes it replaced in float64, to {worst.mismatch:.1e} ({worst.node})"
        summary.add("proof", text)
    add_whole(summary, report.whole)
    for node, reason in report.apart.items():
        summary.add("apart", f"{node}: the ReLU stays, {reason}")
    summary.print(console)
    print_by_hand(console, report.whole, report.path, source)
    for miss in report.near_misses:
        console.print(f"near miss: {miss.node}: {miss.reason}", style="yellow", soft_wrap=True)


def _layers_text(report: FuseReport) -> str:
    if not report.layers:
        return f"none to fuse: its {report.present} SN layers are SwitchNorm nodes already"
    replaced = sum(layer.replaced for layer in report.layers)
    text = f"{len(report.layers)} SN layers found, {replaced} nodes became {len(report.layers)}"
    if report.present:
        text += f"; {report.present} more were SwitchNorm nodes already"
    last = sum(layer.channels_last for layer in report.layers)
    return text + (f"; {last} with their channels last" if last else "")
